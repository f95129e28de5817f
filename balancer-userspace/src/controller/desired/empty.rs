//! A config without services, of which nobody said that it is meant.

use crate::controller::refusal::Refusal;
use crate::spec::{Diagnostic, Diagnostics, Kind};

/// Refuses a config that would end all of what is in force, `services` of them, where nobody is there to accept that and the
/// file does not say why.
pub(crate) fn refuse_emptiness(found: &Diagnostics, services: usize) -> Result<(), Refusal> {
    let unexplained = |finding: &&Diagnostic| finding.id == Kind::NoServices.id() && finding.counts();
    match found.findings.iter().find(unexplained) {
        Some(finding) if services > 0 => Err(Refusal::Invalid(format!(
            "{finding}the file has no services, and {services} are in force: they stay. If none are meant: `balancer apply FILE \
             --accept {id} --reason \"…\"`, or [[silence]] with `id = \"{id}\"` in the file",
            id = finding.id
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::controller::proposal::linted;

    #[test]
    fn services_end_only_where_somebody_says_so() {
        let read = |text: &str| {
            let text = format!("[node]\nseed = 1\n[[interface]]\nname = \"lo\"\n{text}");
            linted("f.toml", text, Path::new("")).unwrap().1
        };
        let said = refuse_emptiness(&read(""), 2).unwrap_err().to_string();
        assert!(said.contains("no services, and 2 are in force") && said.contains("--accept BAL031"), "{said}");
        assert_eq!(refuse_emptiness(&read(""), 0), Ok(()), "there is nothing to end");
        let silence = "[[silence]]\nid = \"BAL031\"\nreason = \"this host is taken out\"\n";
        assert_eq!(refuse_emptiness(&read(silence), 2), Ok(()));
        let service = "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"192.0.2.10\"\nport = 80\n\
                       forward = \"l2\"\n";
        assert_eq!(refuse_emptiness(&read(service), 2), Ok(()));
    }
}
