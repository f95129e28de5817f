//! What a shell completes. The shell asks this program, which asks the controller for the names of what runs; without a
//! controller, or where it takes too long, there are no names and nothing is said.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::args::Cli;
use super::{print, runbook as entries};
use crate::control::api::Status;
use crate::control::client::{AskError, Client};
use crate::controller::requests::{GetHistory, GetStatus};
use crate::spec::CATALOGUE;

/// What a shell's script sets where it asks.
const ASKED_BY: &str = "BALANCER_COMPLETE";
const SOCKET: &str = "/run/balancer/control.sock";
/// Nobody waits longer for a key.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Answers a shell that asks, and ends; returns where none does.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(ASKED_BY).complete();
}

/// The script that a shell reads.
pub(super) fn script(shell: Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    if let Some(completer) = shells.completer(shell.name()) {
        completer.write_registration(ASKED_BY, "balancer", "balancer", "balancer", &mut script)?;
    }
    Ok(String::from_utf8(script)?)
}

pub(super) fn run(shell: Shell) -> anyhow::Result<()> {
    print(&script(shell)?)
}

pub(super) fn services(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(current, service_names(&status()))
}

pub(super) fn backends(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(current, backend_names(&status()))
}

/// Services and backends.
pub(super) fn subjects(current: &OsStr) -> Vec<CompletionCandidate> {
    let status = status();
    beginning(current, service_names(&status).chain(backend_names(&status)))
}

/// The newest first, each with what it was.
pub(super) fn generations(current: &OsStr) -> Vec<CompletionCandidate> {
    let records = ask(async |client| client.ask(&GetHistory {}).await).map(|history| history.records);
    let records = records.unwrap_or_default().into_iter().rev().enumerate();
    let candidate = |(place, record): (usize, crate::history::Record)| {
        let help = format!("{} {}", record.at, record.command);
        let candidate = CompletionCandidate::new(record.generation.to_string());
        candidate.help(Some(help.into())).display_order(Some(place))
    };
    matching(current, records.map(candidate))
}

/// Those in force; without any, all that there are.
pub(super) fn findings(current: &OsStr) -> Vec<CompletionCandidate> {
    let findings = status().map(|status| status.findings).unwrap_or_default();
    if findings.is_empty() {
        return every_finding(current);
    }
    let candidate = |finding: crate::control::api::ConfigFinding| {
        CompletionCandidate::new(finding.id).help(Some(finding.message.into()))
    };
    matching(current, findings.into_iter().map(candidate))
}

pub(super) fn every_finding(current: &OsStr) -> Vec<CompletionCandidate> {
    let candidates = CATALOGUE.iter().map(|entry| CompletionCandidate::new(entry.id).help(Some(entry.title.into())));
    matching(current, candidates)
}

pub(super) fn runbook(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning(current, entries::names().map(str::to_owned))
}

fn service_names(status: &Option<Status>) -> impl Iterator<Item = String> {
    status.iter().flat_map(|status| &status.services).map(|service| service.name.to_string())
}

fn backend_names(status: &Option<Status>) -> impl Iterator<Item = String> {
    let services = status.iter().flat_map(|status| &status.services);
    services
        .flat_map(|service| service.backends.iter().map(move |backend| format!("{}/{}", service.name, backend.name)))
}

fn beginning(current: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    matching(current, names.map(CompletionCandidate::new))
}

fn matching(current: &OsStr, all: impl Iterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    let begun = current.as_encoded_bytes();
    all.filter(|candidate| candidate.get_value().as_encoded_bytes().starts_with(begun)).collect()
}

fn status() -> Option<Status> {
    ask(async |client| client.ask(&GetStatus::default()).await)
}

/// `None` where no controller answers in time.
fn ask<T>(question: impl AsyncFnOnce(&Client) -> Result<T, AskError>) -> Option<T> {
    let client = Client::new(&socket());
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async { timeout(PATIENCE, question(&client)).await });
    answer.ok()?.ok()
}

/// That of the line which is completed, else that of the environment.
fn socket() -> PathBuf {
    let words: Vec<_> = std::env::args_os().collect();
    let after = words.iter().skip_while(|word| *word != "--socket").nth(1).cloned();
    let joined = || words.iter().find_map(|word| word.to_str()?.strip_prefix("--socket=").map(Into::into));
    after.or_else(joined).or_else(|| std::env::var_os("BALANCER_SOCKET")).unwrap_or_else(|| SOCKET.into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let words: Vec<_> = line.split(' ').map(Into::into).collect();
        let last = words.len() - 1;
        let candidates = clap_complete::engine::complete(&mut Cli::command(), words, last, None).unwrap();
        candidates.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_needs_no_controller_is_completed_without_one() {
        assert_eq!(completed("balancer dr"), ["drill", "drain"]);
        assert_eq!(completed("balancer check --explain BAL00").len(), 9);
        assert_eq!(completed("balancer runbook BalancerTraffic"), ["BalancerTrafficSkewed"]);
        assert_eq!(completed("balancer completions z"), ["zsh"]);
        assert_eq!(completed("balancer drain we"), <[&str; 0]>::default());
        assert!(!completed("balancer ").contains(&"manual".to_owned()));
    }

    #[test]
    fn each_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            assert!(script.contains(ASKED_BY) && script.contains("balancer"), "{shell:?}: {script}");
        }
    }
}
