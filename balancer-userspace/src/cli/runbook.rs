//! The runbook, which is in the program: at night there is no time to look for it.

use anyhow::bail;

static RUNBOOK: &str = include_str!("../../../docs/runbook.md");

/// Entries are headings of the third level, and go to the next heading.
fn entries() -> impl Iterator<Item = (&'static str, &'static str)> {
    RUNBOOK.split("\n### ").skip(1).map(|entry| {
        let entry = entry.split("\n## ").next().unwrap_or(entry);
        entry.split_once('\n').unwrap_or((entry, ""))
    })
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    entries().map(|(name, _)| name)
}

/// The entry of this name, or the names of all.
pub(super) fn entry(name: Option<&str>) -> anyhow::Result<String> {
    let Some(name) = name else {
        return Ok(entries().map(|(name, _)| format!("{name}\n")).collect());
    };
    match entries().find(|(there, _)| there.eq_ignore_ascii_case(name)) {
        Some((name, text)) => Ok(format!("{name}\n{}\n", text.trim_end())),
        None => bail!("the runbook has no entry {name}; `balancer runbook` lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alarm, spec};
    use balancer_common::verdict::Reason;

    #[test]
    fn every_alarm_finding_and_drop_reason_has_an_entry_that_says_what_to_do() {
        let alarms = alarm::CATALOGUE.iter().map(|alarm| alarm.name);
        let findings = spec::CATALOGUE.iter().map(|finding| finding.id);
        let reasons = Reason::ALL.iter().map(|reason| reason.label());
        for name in alarms.chain(findings).chain(reasons) {
            let entry = entry(Some(name)).unwrap_or_else(|error| panic!("{error}"));
            for part in ["**Means.**", "**Confirm.**", "**Do.**", "**Don't.**"] {
                assert!(entry.contains(part), "the entry {name} lacks {part}\n{entry}");
            }
        }
    }

    #[test]
    fn no_entry_is_of_nothing() {
        let known = |name: &str| {
            alarm::definition(name).is_some()
                || ["BalancerDown", "BalancerVerifyStale"].contains(&name)
                || spec::explained(name).is_some()
                || Reason::ALL.iter().any(|reason| reason.label() == name)
        };
        for (name, _) in entries() {
            assert!(known(name), "{name} is neither an alarm, nor a finding, nor a reason");
        }
    }
}
