//! `balancer doctor`.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;

use super::args::Output;
use super::{NO, show};
use crate::control::api::{Examined, Finding, Through};
use crate::control::client::Client;
use crate::controller::requests::Examine;
use crate::model::{BackendName, ServiceName};
use crate::spec::counted;

pub(super) async fn run(
    client: &Client,
    subject: Option<(ServiceName, Option<BackendName>)>,
    output: Output,
) -> Result<ExitCode> {
    let (service, backend) = subject.map_or((None, None), |(service, backend)| (Some(service), backend));
    let examined = client.ask(&Examine { service, backend }).await?;
    show(output, &examined, text)?;
    Ok(if examined.findings.iter().any(Finding::counts) { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

fn text(examined: &Examined) -> String {
    let mut out = String::new();
    for Finding { id, severity, about, message, help } in &examined.findings {
        let _ = writeln!(out, "{}[{id}] {about}: {message}", severity.as_str());
        if !help.is_empty() {
            let _ = writeln!(out, "  help: {help}");
        }
    }
    let answered: Vec<_> = examined.probed.iter().filter(|probed| probed.answered).collect();
    let _ = write!(out, "{} of {} answered", answered.len(), counted(examined.probed.len(), "probed backend"));
    if let Some(largest) = answered.iter().filter_map(|probed| probed.largest).min() {
        let _ = write!(out, ", packets of {largest} bytes from all of them");
    }
    out += "\n";
    for probed in examined.probed.iter().filter(|probed| probed.through == Through::Socket) {
        let reason = probed.reason.as_deref().unwrap_or("the program could not be used");
        let _ = writeln!(out, "{} was probed beside the program: {reason}", probed.backend);
    }
    let faults = examined.findings.iter().filter(|finding| finding.counts()).count();
    out += &if faults == 0 { "nothing wrong\n".to_owned() } else { format!("{}\n", counted(faults, "fault")) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Probed;
    use crate::spec::Severity;

    #[test]
    fn a_report_says_what_is_wrong_and_what_was_asked() {
        let finding = Finding {
            id: "DOC018".to_owned(),
            severity: Severity::Error,
            about: "web/b1".to_owned(),
            message: "nothing answers".to_owned(),
            help: "do this".to_owned(),
        };
        let probed = |backend: &str, answered| Probed {
            backend: backend.parse().unwrap(),
            through: if answered { Through::Program } else { Through::Socket },
            reason: (!answered).then(|| "no slot".to_owned()),
            answered,
            largest: answered.then_some(1500),
        };
        let probed = vec![probed("web/b0", true), probed("web/b1", false)];
        let said = text(&Examined { findings: vec![finding], probed });
        assert_eq!(
            said,
            "error[DOC018] web/b1: nothing answers\n  help: do this\n\
             1 of 2 probed backends answered, packets of 1500 bytes from all of them\n\
             web/b1 was probed beside the program: no slot\n1 fault\n"
        );
        assert_eq!(text(&Examined::default()), "0 of 0 probed backends answered\nnothing wrong\n");
    }
}
