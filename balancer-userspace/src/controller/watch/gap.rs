//! A gap between two layers.

use crate::control::api::{Gap, Layer};

pub(crate) fn gap(alarm: &str, from: Layer, to: Layer, expected: &str, found: &str) -> Gap {
    Gap {
        alarm: alarm.to_owned(),
        from,
        to,
        service: None,
        backend: None,
        entry: String::new(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        others: 0,
        healed: false,
    }
}
