//! Rates of a backend over the last minute.

use std::collections::VecDeque;
use std::time::Duration;

/// As many as are kept.
const POINTS: usize = 60;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Debug, Default)]
pub(super) struct Trend {
    last: Option<(Duration, u64, u64)>,
    /// New flows a second, the newest last.
    flows: VecDeque<f64>,
    pub bits: Option<f64>,
}

impl Trend {
    /// `flows` and `bytes` as they were counted at this time.
    pub fn counted(&mut self, at: Duration, flows: u64, bytes: u64) {
        if let Some((then, flows_then, bytes_then)) = self.last {
            let passed = at.saturating_sub(then).as_secs_f64();
            if passed <= 0.0 {
                return;
            }
            if self.flows.len() == POINTS {
                self.flows.pop_front();
            }
            self.flows.push_back(flows.saturating_sub(flows_then) as f64 / passed);
            self.bits = Some(bytes.saturating_sub(bytes_then) as f64 * 8.0 / passed);
        }
        self.last = Some((at, flows, bytes));
    }

    pub fn flows(&self) -> Option<f64> {
        self.flows.back().copied()
    }

    pub fn highest(&self) -> f64 {
        self.flows.iter().copied().fold(0.0, f64::max)
    }

    /// The newest points, one a column; `full` is a whole column.
    pub fn line(&self, columns: usize, full: f64) -> String {
        let points = self.flows.iter().rev().take(columns).rev();
        let level = |rate: f64| if full > 0.0 { ((rate / full) * 7.0).round().clamp(0.0, 7.0) as usize } else { 0 };
        points.map(|rate| if *rate > 0.0 { LEVELS[level(*rate)] } else { ' ' }).collect()
    }
}

/// In three digits or four.
pub(super) fn short(rate: f64) -> String {
    match rate {
        ..0.05 => "0".to_owned(),
        ..10.0 => format!("{rate:.1}"),
        ..1e4 => format!("{rate:.0}"),
        ..1e6 => format!("{:.1}k", rate / 1e3),
        ..1e9 => format!("{:.1}M", rate / 1e6),
        _ => format!("{:.1}G", rate / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_that_passed() {
        let mut trend = Trend::default();
        assert_eq!(trend.flows(), None);
        for (second, flows) in [(0, 100), (2, 300), (3, 300)] {
            trend.counted(Duration::from_secs(second), flows, flows * 1000);
        }
        assert_eq!((trend.flows(), trend.highest(), trend.bits), (Some(0.0), 100.0, Some(0.0)));
        assert_eq!(trend.line(5, 100.0), "█ ");
        // Counters that went back are those of another controller.
        trend.counted(Duration::from_secs(4), 5, 5);
        assert_eq!(trend.flows(), Some(0.0));
    }

    #[test]
    fn rates_are_short() {
        for (rate, said) in [(0.0, "0"), (3.12, "3.1"), (9999.0, "9999"), (12_345.0, "12.3k"), (4.2e9, "4.2G")] {
            assert_eq!(short(rate), said);
        }
    }
}
