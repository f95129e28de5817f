//! From single probes to health, so that one lost packet takes nobody down.

use super::Health;

/// `rise` successes or `fall` failures in a row change the mind; a first success is believed at once.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    rise: u32,
    fall: u32,
    health: Health,
    /// Probes in a row that spoke against the present health.
    against: u32,
}

impl Hysteresis {
    pub fn new(rise: u32, fall: u32, health: Health) -> Self {
        Self { rise, fall, health, against: 0 }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the last probes failed, but too few of them to take it down.
    pub fn is_suspected(&self) -> bool {
        self.against > 0 && self.health != Health::Down
    }

    /// Takes one probe in; true where the health changed.
    pub fn observe(&mut self, success: bool) -> bool {
        let (verdict, needed) = match (self.health, success) {
            (Health::Unknown, true) => (Health::Up, 1),
            (Health::Down, true) => (Health::Up, self.rise),
            (Health::Unknown | Health::Up, false) => (Health::Down, self.fall),
            (Health::Up, true) | (Health::Down, false) => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        (self.health, self.against) = (verdict, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_success_is_enough_for_an_unknown_backend_and_one_failure_is_not() {
        let mut fresh = Hysteresis::new(3, 2, Health::Unknown);
        assert!(!fresh.observe(false));
        assert_eq!((fresh.health(), fresh.is_suspected()), (Health::Unknown, true));
        assert!(fresh.observe(true));
        assert!(!fresh.is_suspected() && !fresh.observe(false) && fresh.is_suspected());
        assert_eq!(fresh.health(), Health::Up);
    }

    proptest! {
        #[test]
        fn only_a_run_changes_the_health(rise in 1u32..5, fall in 1u32..5, probes: Vec<bool>) {
            let mut state = Hysteresis::new(rise, fall, Health::Up);
            let mut run = (true, 0);
            for success in probes {
                run = if success == run.0 { (success, run.1 + 1) } else { (success, 1) };
                let before = state.health();
                let changed = state.observe(success);
                let needed = if success { rise } else { fall };
                let target = if success { Health::Up } else { Health::Down };
                prop_assert_eq!(changed, before != target && run.1 >= needed);
                prop_assert_eq!(state.health(), if changed { target } else { before });
            }
        }
    }
}
