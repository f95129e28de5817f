//! The config file on disk against what runs.

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::desired::Desired;
use crate::controller::state::State;
use crate::controller::watch::gap::gap;
use crate::spec;

impl Desired {
    pub(crate) fn compare_file(&self) -> Option<Gap> {
        let found = match spec::content(&self.path) {
            Ok(text) if text == self.text => return None,
            Ok(text) => first_difference(&self.text, &text),
            Err(why) => format!("it {why}"),
        };
        let entry = self.path.display().to_string();
        let expected = "what runs".to_owned();
        Some(Gap { entry, expected, ..gap(catalogue::FILE.name, Layer::Config, Layer::File, "", &found) })
    }
}

impl State {
    /// Which comparison found that the file differs, where nothing refused the file.
    pub(crate) fn overlooked_file(&self) -> Option<u64> {
        let differs = self.watch.drift.gaps.iter().any(|gap| gap.to == Layer::File);
        (differs && self.desired.refused.is_none()).then_some(self.watch.drift.counted.cycles)
    }
}

/// The first line in which a file differs from what runs.
fn first_difference(runs: &str, file: &str) -> String {
    let mut number = 0;
    let (mut left, mut right) = (runs.lines(), file.lines());
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (Some(a), Some(b)) if a == b => {}
            (_, Some(line)) => return format!("line {number}: {}", line.trim()),
            (Some(_), None) => return format!("it ends before line {number}"),
            (None, None) => return "other line ends".to_owned(),
        }
    }
}
