//! Prometheus hears of everything that the controller has an alarm for, and every alert says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use balancer::alarm::{CATALOGUE, definition};

/// What only Prometheus can say: the controller does not hear itself stop.
const OF_PROMETHEUS: [(&str, &str); 2] = [("BalancerDown", "critical"), ("BalancerVerifyStale", "critical")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

/// Name and severity of everything that has a rule.
fn alerts() -> impl Iterator<Item = (&'static str, &'static str)> {
    CATALOGUE.iter().map(|alarm| (alarm.name, alarm.severity.as_str())).chain(OF_PROMETHEUS)
}

/// Each rule's name, and what is written of it.
fn rules(text: &str) -> Vec<(&str, &str)> {
    text.split("- alert: ").skip(1).filter_map(|rule| rule.split_once('\n')).collect()
}

fn promtool(arguments: [&str; 3]) -> Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(root())
        .output()
        .context("promtool can't be run; `apt-get install prometheus` brings it, and so does `cargo xtask test`")?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {}\n{}", arguments.join(" "), String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn the_rules_fire_where_they_should_and_nowhere_else() -> Result<()> {
    promtool(["check", "rules", "deploy/alerts.yml"])?;
    promtool(["test", "rules", "deploy/alerts_test.yml"])
}

#[test]
fn every_alarm_has_a_rule_of_its_severity_and_an_entry_in_the_runbook() -> Result<()> {
    let (text, runbook) = (read("deploy/alerts.yml")?, read("docs/runbook.md")?);
    let rules = rules(&text);
    for (name, severity) in alerts() {
        let of_name: Vec<&str> = rules.iter().filter(|(there, _)| *there == name).map(|(_, rule)| *rule).collect();
        let [rule] = of_name[..] else { anyhow::bail!("{} rules are called {name}", of_name.len()) };
        let graded = definition(name).is_some_and(|definition| definition.graded);
        // Of an alarm with grades, the severity of the series is that of the alert.
        let own = graded && !rule.contains("labels:") && !rule.contains("without (alarm, severity)");
        let fixed = rule.contains(&format!("labels: {{severity: {severity}}}"));
        ensure!(if graded { own } else { fixed }, "{name} is not {severity}:\n{rule}");
        let anchor = format!("file:///usr/share/doc/balancer/runbook.md#{}", name.to_lowercase());
        let url = rule.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        ensure!(url == Some(anchor.as_str()), "{name} does not lead to {anchor}");
        ensure!(runbook.lines().any(|line| line == format!("### {name}")), "the runbook has no entry {name}");
    }
    for (name, _) in rules {
        ensure!(alerts().any(|(there, _)| there == name), "{name} is no alarm");
    }
    Ok(())
}

/// Nothing that somebody should look at goes to nobody.
#[test]
fn what_is_more_than_information_goes_to_somebody() -> Result<()> {
    let text = read("deploy/alertmanager.yml")?;
    let routes: Vec<&str> = text.lines().filter(|line| line.contains("receiver:")).map(str::trim).collect();
    let wanted = [
        "receiver: day",
        "- {matchers: [severity=\"critical\"], receiver: night}",
        "- {matchers: [severity=\"info\"], receiver: nobody}",
    ];
    ensure!(routes == wanted, "{routes:#?}");
    Ok(())
}

#[test]
fn every_rule_is_tested_where_it_fires_and_where_it_does_not() -> Result<()> {
    let tests = read("deploy/alerts_test.yml")?;
    for (name, _) in alerts() {
        let (fires, silent) = (
            format!("alertname: {name}\n        exp_alerts:\n          - exp_labels:"),
            format!("alertname: {name}, exp_alerts: []"),
        );
        ensure!(tests.contains(&fires), "no test has {name} fire");
        ensure!(tests.contains(&silent), "no test has {name} silent");
    }
    Ok(())
}
