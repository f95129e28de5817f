//! Every test, by nextest. What fails is run once more, alone; what passes then is named, and the run goes on.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use xtask::ebpf;

use crate::{TESTED, build, cargo, setup, wait};

/// Programs of Debian that tests call. They read what `balancer capture` writes, make servers slow, kill at system calls,
/// change maps behind the balancer's back, run alert rules on recorded series, and the unit under systemd.
const TOOLS: &[(&str, &str)] = &[
    ("tmux", "tmux"),
    ("tshark", "tshark"),
    ("nft", "nftables"),
    ("strace", "strace"),
    ("bpftool", "bpftool"),
    ("promtool", "prometheus"),
    ("systemd-analyze", "systemd"),
];

/// More failures than that have one cause, and it is not chance.
const MOST: usize = 8;

/// nextest's exit code where tests failed, and nothing else went wrong.
const TESTS_FAILED: u8 = 100;

/// Every program of the product and of its tests, and the tests. All packages and targets at a time, always: another
/// selection would have other features, and build what they share once more.
pub(crate) const EVERYTHING: [&str; 3] = ["--lib", "--bins", "--tests"];

/// A test that failed, and then, alone, passed.
pub(crate) struct Flaky(Failure);

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "flaky: {} (first failure: {})", self.0.test, self.0.why)
    }
}

/// Installs what tests need.
pub(crate) fn prepare() -> Result<()> {
    setup::everything_and(TOOLS)?;
    setup::cargo_tool("cargo-nextest", "cargo-nextest")
}

/// Runs the tests that `args` select, as nextest takes them.
pub(crate) fn some(args: &[String]) -> Result<ExitCode> {
    build(TESTED, &EVERYTHING)?;
    let code = nextest(&args.iter().map(String::as_str).collect::<Vec<_>>());
    xtask::sweep::dead();
    code
}

/// Runs every test; answers which of them passed at their second run only.
pub(crate) fn all() -> Result<(ExitCode, Vec<Flaky>)> {
    build(TESTED, &EVERYTHING)?;
    let (code, failed) = reported(&[])?;
    if code != ExitCode::from(TESTS_FAILED) || failed.is_empty() || failed.len() > MOST {
        return Ok((code, Vec::new()));
    }
    println!("xtask: once more, alone: {}", names(&failed));
    let (code, still) = reported(&["-E", &filter(&failed), "--test-threads", "1"])?;
    let flaky = failed.into_iter().filter(|failure| still.iter().all(|other| !other.is_of(failure)));
    // Without a test that failed, whatever else went wrong counts.
    let flaky = if code == ExitCode::SUCCESS || !still.is_empty() { flaky.map(Flaky).collect() } else { Vec::new() };
    if !still.is_empty() {
        println!("xtask: failed twice: {}", names(&still));
    }
    Ok((code, flaky))
}

/// Runs nextest, and says which tests failed.
fn reported(args: &[&str]) -> Result<(ExitCode, Vec<Failure>)> {
    let report = report();
    let _ = fs::remove_file(&report);
    let code = nextest(args)?;
    // Tests that were killed could not clean up.
    xtask::sweep::dead();
    // Without a report no test ran, and the code says so.
    let failed = fs::read_to_string(&report).map_or_else(|_| Ok(Vec::new()), |text| failures(&text))?;
    Ok((code, failed))
}

fn nextest(args: &[&str]) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["nextest", "run", "--cargo-profile", TESTED, "--locked"]).args(EVERYTHING).args(args);
    command.env("RUST_BACKTRACE", "0");
    wait(command)
}

/// As `.config/nextest.toml` names it.
fn report() -> PathBuf {
    ebpf::root().join("target/nextest/default/junit.xml")
}

#[derive(Debug, PartialEq)]
struct Failure {
    /// nextest's name of the test's program.
    binary: String,
    test: String,
    /// The first line of what it said.
    why: String,
}

impl Failure {
    fn is_of(&self, other: &Self) -> bool {
        (&self.binary, &self.test) == (&other.binary, &other.test)
    }
}

fn names(failures: &[Failure]) -> String {
    failures.iter().map(|failure| failure.test.as_str()).collect::<Vec<_>>().join(", ")
}

/// A filter of nextest's that selects these tests and no other.
fn filter(failures: &[Failure]) -> String {
    let one = |failure: &Failure| format!("(binary_id(={}) & test(={}))", failure.binary, failure.test);
    failures.iter().map(one).collect::<Vec<_>>().join(" | ")
}

/// A panic says in its first line where it is, and in the next what it is.
fn is_place(line: &str) -> bool {
    line.starts_with("thread '") && line.contains(" panicked at ")
}

/// Tests that failed, by a report in JUnit's format.
fn failures(report: &str) -> Result<Vec<Failure>> {
    let document = roxmltree::Document::parse(report).context("reading nextest's report")?;
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let failed = cases.filter_map(|case| {
        let failure = case.children().find(|node| node.has_tag_name("failure") || node.has_tag_name("error"))?;
        let said = failure.attribute("message").into_iter().chain(failure.text()).chain(failure.attribute("type"));
        let mut lines = said.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty() && !is_place(line));
        let why = lines.next().unwrap_or("nothing was said");
        let attribute = |name| case.attribute(name).unwrap_or_default().to_owned();
        Some(Failure { binary: attribute("classname"), test: attribute("name"), why: why.chars().take(300).collect() })
    });
    Ok(failed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" failures="2" errors="0">
  <testsuite name="balancer-e2e::e2e" tests="3" failures="2">
    <testcase name="alone::a" classname="balancer-e2e::e2e" time="1.0"></testcase>
    <testcase name="together::b" classname="balancer-e2e::e2e" time="1.0">
      <failure message="thread 'x' (1) panicked at a.rs:1:1&#10;Error: not within 5s: down&#10;second line" type="test failure with exit code 1">more</failure>
      <system-out>x</system-out>
    </testcase>
    <testcase name="together::c" classname="balancer-e2e::e2e" time="1.0">
      <failure type="test timeout"/>
    </testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn what_failed_is_read_from_the_report() {
        let failed = failures(REPORT).unwrap();
        let failure =
            |test: &str, why: &str| Failure { binary: "balancer-e2e::e2e".into(), test: test.into(), why: why.into() };
        let wanted = [failure("together::b", "Error: not within 5s: down"), failure("together::c", "test timeout")];
        assert_eq!(failed, wanted);
        assert_eq!(
            filter(&failed),
            "(binary_id(=balancer-e2e::e2e) & test(=together::b)) | (binary_id(=balancer-e2e::e2e) & test(=together::c))"
        );
        let line = Flaky(failed.into_iter().next().unwrap()).to_string();
        assert_eq!(line, "flaky: together::b (first failure: Error: not within 5s: down)");
    }

    #[test]
    fn a_report_that_is_cut_off_is_an_error() {
        assert!(failures(&REPORT[..REPORT.len() / 2]).is_err());
    }
}
