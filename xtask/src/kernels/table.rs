//! What people read: a line for each case as it ends, and a table of all kernels at the end.

use std::fmt::Write;

use xtask::report::{Case, Verdict};

/// Name of the last row.
const SECONDS: &str = "seconds";

/// What came of one kernel.
pub(super) struct Run {
    /// As asked for, until the guest says all of it.
    pub(super) release: String,
    pub(super) cases: Vec<Case>,
    pub(super) seconds: f64,
}

impl Run {
    pub(super) fn new(series: &str) -> Self {
        Self { release: series.to_owned(), cases: Vec::new(), seconds: 0.0 }
    }

    pub(super) fn is_good(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.verdict != Verdict::Fails)
    }

    fn verdict(&self, name: &str) -> &'static str {
        let case = self.cases.iter().find(|case| case.name == name);
        case.map_or("-", |case| case.verdict.as_str())
    }
}

pub(super) fn line(case: &Case) -> String {
    let detail = case.detail.replace('\n', "\n       ");
    format!(
        "  {:<7} {} ({:.1} s){}{detail}",
        case.verdict.as_str(),
        case.name,
        case.seconds,
        if detail.is_empty() { "" } else { ": " }
    )
}

/// Cases down, kernels across.
pub(super) fn matrix(runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for case in runs.iter().flat_map(|run| &run.cases) {
        if !names.contains(&case.name.as_str()) {
            names.push(&case.name);
        }
    }
    let first = names.iter().map(|name| name.len()).chain([SECONDS.len()]).max().unwrap_or(0);
    let mut out = String::new();
    let mut row = |name: &str, cells: &mut dyn Iterator<Item = String>| {
        let _ = write!(out, "{name:<first$}");
        for (run, cell) in runs.iter().zip(cells) {
            let _ = write!(out, "  {cell:>width$}", width = run.release.len().max(7));
        }
        out.push('\n');
    };
    row("", &mut runs.iter().map(|run| run.release.clone()));
    for name in names {
        row(name, &mut runs.iter().map(|run| run.verdict(name).to_owned()));
    }
    row(SECONDS, &mut runs.iter().map(|run| format!("{:.0}", run.seconds)));
    out + "no: does not work, and is not promised; skipped: refused by this version\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(release: &str, cases: &[(&str, Verdict)]) -> Run {
        let case = |(name, verdict): &(&str, Verdict)| Case {
            name: (*name).to_owned(),
            verdict: *verdict,
            detail: String::new(),
            seconds: 0.0,
        };
        Run { release: release.to_owned(), cases: cases.iter().map(case).collect(), seconds: 61.4 }
    }

    #[test]
    fn a_row_is_a_case_and_a_column_a_kernel() {
        let runs = [
            run("5.10.0", &[("start", Verdict::Works)]),
            run("6.1.0-56", &[("start", Verdict::Works), ("vlan", Verdict::Open)]),
        ];
        let table = matrix(&runs);
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["5.10.0", "6.1.0-56"]);
        assert_eq!(rows[1], ["start", "works", "works"]);
        assert_eq!(rows[2], ["vlan", "-", "no"]);
        assert_eq!(rows[3], ["seconds", "61", "61"]);
        let widths: Vec<usize> = table.lines().take(4).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "columns are aligned:\n{table}");
    }

    #[test]
    fn only_what_must_work_and_fails_is_bad() {
        assert!(run("6.1", &[("a", Verdict::Works), ("b", Verdict::Open), ("c", Verdict::Skipped)]).is_good());
        assert!(!run("6.1", &[("a", Verdict::Works), ("b", Verdict::Fails)]).is_good());
        assert!(!run("6.1", &[]).is_good(), "a guest that said nothing");
    }
}
