//! What is said where the answer is no: to people on the standard error, to scripts as JSON on the standard output.

use std::process::ExitCode;

use clap::ArgMatches;

use super::{NO, UNREACHABLE, print};
use crate::control::api::{Code, Refused};
use crate::control::client::AskError;
use crate::printable;
use crate::spec::Diagnostics;

/// Whether the command was asked for JSON.
pub(super) fn as_json(matches: &ArgMatches) -> bool {
    let asked = |matches: &ArgMatches| matches!(matches.try_get_one::<bool>("json"), Ok(Some(true)));
    matches.subcommand().is_some_and(|(_, matches)| asked(matches))
}

pub(super) fn say(error: &anyhow::Error, json: bool) -> ExitCode {
    let refused = refused(error);
    let said = if json { serde_json::to_string(&refused).ok() } else { None };
    let printed = said.map(|said| print(&(said + "\n")));
    if !matches!(printed, Some(Ok(()))) {
        eprintln!("balancer: {}", printable::block(&refused.error));
    }
    ExitCode::from(match refused.code {
        Code::Unreachable | Code::PermissionDenied => UNREACHABLE,
        _ => NO,
    })
}

fn refused(error: &anyhow::Error) -> Refused {
    let of = |code| Refused { error: format!("{error:#}"), code, ..Refused::default() };
    match error.downcast_ref() {
        Some(AskError::Unreachable { .. } | AskError::Silent { .. }) => return of(Code::Unreachable),
        Some(AskError::Forbidden { .. }) => return of(Code::PermissionDenied),
        Some(AskError::Refused(refused)) => return (**refused).clone(),
        Some(AskError::Output(_) | AskError::Protocol(_)) => return of(Code::Failed),
        None => {}
    }
    match error.downcast_ref::<Diagnostics>() {
        Some(found) => {
            let (worst, more_findings) = found.worst();
            let findings = worst.into_iter().map(Into::into).collect();
            Refused { findings, more_findings, ..of(Code::Refused) }
        }
        None => of(Code::Failed),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn json_is_asked_for_by_each_command_that_has_it() {
        let asked = |line: &str| as_json(&Cli::command().get_matches_from(line.split(' ')));
        assert!(asked("balancer weight web/a 5 --json"));
        assert!(asked("balancer status --json"));
        assert!(!asked("balancer status"));
        assert!(!asked("balancer runbook"));
    }

    #[test]
    fn a_refusal_is_json_with_code_and_findings() {
        let said = |error: anyhow::Error| serde_json::to_value(refused(&error)).unwrap();
        assert_eq!(said(anyhow::anyhow!("no")), json!({"error": "no", "code": "failed"}));
        let nobody = AskError::Unreachable { socket: "/s".into(), cause: "it is not there".to_owned() };
        assert_eq!(said(nobody.into())["code"], "unreachable");
        let problems = crate::spec::parse("a.toml", "x = 1\n[[service]]\nwieght = 1").unwrap_err();
        let said: Value = said(problems.into());
        assert_eq!(said["code"], "refused");
        assert_eq!(said["findings"][0]["line"], 1);
        assert_eq!(said["findings"][0]["file"], "a.toml");
        for key in ["id", "severity", "column", "message", "help"] {
            assert!(!said["findings"][0][key].is_null(), "{key} in {said}");
        }
    }
}
