//! `[lint]`: how much is made of findings.

use super::reader::Section;
use crate::model::{Fraction, LintPolicy};

pub(super) const LINT_KEYS: &[&str] = &["tolerance", "strict_commands"];

pub(super) fn policy(root: &Section<'_>) -> LintPolicy {
    let Some(section) = root.section("lint", "lint", LINT_KEYS) else { return LintPolicy::DEFAULT };
    let tolerance = section.fraction("tolerance").map(|given| {
        Fraction::new(given.value).unwrap_or_else(|| {
            section.wrong(given.span, "`lint.tolerance` is out of range", "write 0.0 to 1.0, such as 0.1 for 10 %");
            LintPolicy::DEFAULT.tolerance
        })
    });
    LintPolicy {
        tolerance: tolerance.unwrap_or(LintPolicy::DEFAULT.tolerance),
        strict_commands: section.boolean("strict_commands").unwrap_or(LintPolicy::DEFAULT.strict_commands),
    }
}
