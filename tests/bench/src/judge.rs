//! What docs/benchmarks.md says of the controller, held against what is measured now. Milliseconds differ between machines and
//! with what else runs on them, so ratios are compared: of figures that were measured beside each other, and that hardly differ
//! between a quiet machine and a busy one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::control::{MIDDLE, Report, Row, SMALL, Size};

/// A ratio that is this many times what the page says, or as many times less, is another.
pub const MOST: f64 = 2.0;

/// A ratio on the page, and as it is now.
#[derive(Debug, Clone)]
pub struct Compared {
    pub what: &'static str,
    pub page: f64,
    pub now: f64,
}

impl Compared {
    /// 1 where both are the same; more where one is more than the other, whichever it is.
    pub fn apart(&self) -> f64 {
        (self.now / self.page).max(self.page / self.now)
    }
}

/// What the page was written from.
pub fn page() -> Result<Report> {
    #[derive(Deserialize)]
    struct Results {
        control: Report,
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks/results.json");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let results: Results = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    Ok(results.control)
}

/// All ratios.
pub fn compare(page: &Report, now: &Report) -> Result<Vec<Compared>> {
    let (page, now) = (ratios(page)?, ratios(now)?);
    Ok(page.into_iter().zip(now).map(|((what, page), (_, now))| Compared { what, page, now }).collect())
}

/// Of the least of some rounds: what else runs on the machine makes others longer, and hardly ever all of them.
fn ratios(report: &Report) -> Result<Vec<(&'static str, f64)>> {
    let row = |size: Size| -> Result<&Row> {
        report.rows.iter().find(|row| row.size == size).with_context(|| format!("no row of {size}"))
    };
    let (small, middle) = (row(SMALL)?, row(MIDDLE)?);
    Ok(vec![
        ("a weight in force, 100 x 32 over 1 x 100", middle.weight.least / small.weight.least),
        ("bytes of /metrics, 100 x 32 over 1 x 100", middle.scrape_bytes as f64 / small.scrape_bytes as f64),
        ("resident memory, 100 x 32 over 1 x 100", middle.resident_mib / small.resident_mib),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_apart_in_both_directions() {
        let apart = |now| Compared { what: "", page: 1.5, now }.apart();
        assert!(apart(1.5) == 1.0 && apart(3.1) > MOST && apart(0.7) > MOST && apart(2.9) < MOST);
    }

    #[test]
    fn the_page_has_what_is_compared() {
        let page = page().unwrap();
        let compared = compare(&page, &page).unwrap();
        assert!(compared.iter().all(|one| one.apart() == 1.0 && one.page.is_finite()), "{compared:?}");
    }
}
