//! How backends are checked.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub kind: CheckKind,
    /// Overrides the backend's port.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Successes in a row that bring a backend that was down up again.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
    /// Each wait is drawn from `interval` plus or minus this fraction, between 0 and 0.5.
    pub jitter: Jitter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// Not checked: the backend counts as up.
    None,
    Tcp,
    Http {
        path: String,
        /// The `Host` header; the backend's address where absent.
        host: Option<String>,
    },
}

/// A fraction in thousandths, so that configurations compare exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    pub const DEFAULT: Self = Self(100);

    /// `None` outside 0 to 0.5.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        (0.0..=0.5).contains(&fraction).then(|| Self((fraction * 1000.0).round() as u16))
    }

    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_keeps_to_its_bounds() {
        assert_eq!(Jitter::from_fraction(0.25).map(Jitter::fraction), Some(0.25));
        assert_eq!(Jitter::from_fraction(0.6), None);
        assert_eq!(Jitter::from_fraction(f64::NAN), None);
    }
}
