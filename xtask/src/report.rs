//! What the guest of `cargo xtask kernels` tells the host: JSON, a line each, over a serial port.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The kernel's release, first of all.
    Kernel(String),
    Case(Case),
    /// Every case was tried. Without it the guest died.
    End,
}

/// One thing that was tried on a kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub verdict: Verdict,
    /// What was measured, or why it failed.
    pub detail: String,
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Works,
    Fails,
    /// This version can't do it yet, and says so.
    Skipped,
    /// Does not work, and nobody promised it.
    Open,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "FAILS",
            Self::Skipped => "skipped",
            Self::Open => "no",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let case = Case { name: "l2".into(), verdict: Verdict::Open, detail: "a\nb".into(), seconds: 1.5 };
        for line in [Line::Kernel("6.1.0".into()), Line::Case(case), Line::End] {
            let text = serde_json::to_string(&line).unwrap();
            assert!(!text.contains('\n'), "{text}");
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
    }
}
