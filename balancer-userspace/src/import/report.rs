//! What a person reads after an import.

use std::fmt::Write;

use super::{Imported, Outcome, Remark, ServiceShares};
use crate::spec::counted;

/// Every line that was not taken as it stands, and each share there beside the one here.
pub fn report(imported: &Imported) -> String {
    let Imported { services, remarks, errors, .. } = imported;
    let mut out = String::new();
    for Remark { at, text, outcome, why } in remarks {
        let _ = writeln!(out, "{at}: {text}\n    {}: {why}", outcome.as_str());
    }
    if !remarks.is_empty() {
        out += "\n";
    }
    for service in services {
        out += &shares(service);
    }
    for error in errors {
        let _ = writeln!(out, "error in the new config, {error}");
    }
    let count = |outcome| remarks.iter().filter(|remark| remark.outcome == outcome).count();
    let backends: usize = services.iter().map(|service| service.backends.len()).sum();
    let _ = writeln!(
        out,
        "{} with {} taken; {} not taken, {} with another effect",
        counted(services.len(), "service"),
        counted(backends, "backend"),
        counted(count(Outcome::NotTaken), "statement"),
        count(Outcome::Differs),
    );
    out
}

fn shares(service: &ServiceShares) -> String {
    let ServiceShares { service: name, scheduler, unknown, lost, backends, .. } = service;
    let mut out = format!("{name}, {scheduler}");
    if let Some(why) = unknown {
        let _ = write!(out, ": the old share {why}");
    }
    let _ =
        writeln!(out, "\n  {:<33} {:>10} {:>9} {:>9} {:>9}", "backend", "old weight", "IPVS gave", "weight", "here");
    for backend in backends {
        let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.2} %", share * 100.0));
        let _ = writeln!(
            out,
            "  {:<33} {:>10} {:>9} {:>9} {:>9}",
            backend.backend.to_string(),
            backend.old_weight,
            percent(backend.old_share),
            backend.weight,
            percent(backend.share),
        );
    }
    if *lost > 0.0 {
        let _ = writeln!(out, "  {:.2} % of clients get no server there: those of servers of weight 0", lost * 100.0);
    }
    out + "\n"
}
