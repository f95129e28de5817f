//! What `cargo xtask kernels` tries inside the virtual machine, on a kernel that is not this host's.

mod change;
mod conversation;
mod gue;
mod ipvs;
mod network;
mod path;
mod receive;
mod start;
mod vlan;

use std::time::Instant;

use anyhow::Result;
use xtask::report::{Case, Line, Verdict};

use network::Network;

/// What came of a case that did not fail.
struct Outcome {
    verdict: Verdict,
    detail: String,
}

impl Outcome {
    fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: detail.into() }
    }

    fn works(detail: impl Into<String>) -> Self {
        Self::new(Verdict::Works, detail)
    }
}

/// Runs cases one after the other, and tells each one's outcome.
struct Cases<'a> {
    tell: &'a mut dyn FnMut(&Line),
}

impl Cases<'_> {
    /// Whether the case works.
    fn run(&mut self, name: &str, case: impl FnOnce() -> Result<Outcome>) -> bool {
        let start = Instant::now();
        let outcome = case().unwrap_or_else(|error| {
            let whole = format!("{error:#}");
            eprintln!("{name}: {whole}");
            Outcome::new(Verdict::Fails, shortened(&whole))
        });
        let works = outcome.verdict == Verdict::Works;
        (self.tell)(&Line::Case(Case {
            name: name.to_owned(),
            verdict: outcome.verdict,
            detail: outcome.detail,
            seconds: start.elapsed().as_secs_f64(),
        }));
        works
    }
}

/// A verifier's log has thousands of lines; it begins with what failed and ends with why.
fn shortened(text: &str) -> String {
    const FIRST: usize = 3;
    const LAST: usize = 15;
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(FIRST + LAST) {
        Some(left_out @ 1..) => {
            let middle = format!("… {left_out} lines, which are on the console …");
            [&lines[..FIRST], &[middle.as_str()], &lines[lines.len() - LAST..]].concat().join("\n")
        }
        _ => text.to_owned(),
    }
}

/// Everything, in an order in which a failure explains what follows it.
///
/// # Errors
/// The kernel's release can't be read.
pub fn run(tell: &mut dyn FnMut(&Line)) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    tell(&Line::Kernel(release.clone()));
    let mut cases = Cases { tell };
    if start::is_too_old(&release) {
        cases.run("start is refused, with a reason", start::is_refused);
    } else if cases.run("program loads and attaches", start::attaches) {
        forwards(&mut cases);
    }
    tell(&Line::End);
    Ok(())
}

fn forwards(cases: &mut Cases<'_>) {
    let mut made = None;
    cases.run("network of client, balancer and backends", || {
        made = Some(Network::new()?);
        Ok(Outcome::works(""))
    });
    let Some(network) = made else { return };
    path::native(cases, &network);
    path::generic(cases, &network);
    gue::all(cases, &network);
    vlan::all(cases, &network);
    ipvs::all(cases);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_keep_their_ends() {
        let text = |count: usize| (1..=count).map(|i| i.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(shortened(&text(18)), text(18));
        let short = shortened(&text(100));
        assert_eq!(short.lines().count(), 19);
        assert!(short.starts_with("1\n2\n3\n… 82 lines") && short.ends_with("\n99\n100"), "{short}");
    }
}
