//! What is wrong with the host: facts in, findings out.

use std::collections::BTreeSet;

use super::catalogue::Kind;
use super::finding::HOST;
use crate::control::api::{Finding, InterfaceStatus};
use crate::model::XdpMode;

/// What the controller knows of its host.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub interfaces: Vec<InterfaceStatus>,
    /// Number of the program that the controller loaded.
    pub program: u32,
    /// Names of interfaces by which backends are reached.
    pub leaves_by: BTreeSet<String>,
    pub maps: Vec<Filled>,
    /// Backends that are checked.
    pub checked: usize,
}

/// How many entries of a map, or of what a limit is set for, are in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// As metrics call the map.
    pub map: &'static str,
    pub what: String,
    /// The setting by which there are more.
    pub setting: &'static str,
    pub used: u64,
    pub capacity: u64,
}

/// What the kernel says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub links: Vec<Link>,
    /// `None` where it can't be seen, as in a namespace.
    pub jit: Option<bool>,
    pub clock_is_synchronised: Option<bool>,
    pub open_files: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// Brought up, and with a carrier.
    pub up: bool,
    /// Number of the XDP program on it.
    pub program: Option<u32>,
    /// Features that join received packets, as `ethtool -k` names them.
    pub coalescing: Vec<&'static str>,
    /// The value in force.
    pub rp_filter: Option<u8>,
}

/// Checks on their way at a time, at most, and files for everything else.
const CHECKS: usize = 4096;
const OTHER_FILES: u64 = 256;
const NEARLY_FULL: f64 = 0.9;

pub fn judge(known: &Known, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        known.interfaces.iter().flat_map(|interface| self::interface(interface, known, facts)).collect();
    if facts.jit == Some(false) {
        let help = "`sysctl net.core.bpf_jit_enable=1`, and in /etc/sysctl.d for the next boot";
        findings.push(Finding::new(Kind::NoJit, HOST, "the kernel's BPF JIT is off", help));
    }
    if facts.clock_is_synchronised == Some(false) {
        let help = "run an NTP client, such as chrony or systemd-timesyncd";
        findings.push(Finding::new(Kind::Clock, HOST, "the kernel's clock is not synchronised", help));
    }
    let needed = known.checked.min(CHECKS) as u64 + OTHER_FILES;
    if let Some(limit) = facts.open_files.filter(|limit| *limit < needed) {
        let message = format!("the controller may open {limit} files; checks of {} need {needed}", known.checked);
        let help = format!("raise the hard limit to {needed} or more (`LimitNOFILE=` in the unit, `ulimit -Hn`)");
        findings.push(Finding::new(Kind::OpenFiles, HOST, message, help));
    }
    findings.extend(known.maps.iter().filter(|map| map.is_nearly_full()).map(|map| {
        let Filled { what, setting, used, capacity, .. } = map;
        let message = format!("{used} of {capacity} {what} are in use");
        Finding::new(Kind::MapNearlyFull, HOST, message, format!("raise `{setting}`"))
    }));
    findings
}

impl Filled {
    pub fn is_nearly_full(&self) -> bool {
        self.capacity > 0 && self.used as f64 >= self.capacity as f64 * NEARLY_FULL
    }
}

fn interface(interface: &InterfaceStatus, known: &Known, facts: &Facts) -> Vec<Finding> {
    let InterfaceStatus { name, wanted, attached, problem } = interface;
    let Some(link) = facts.links.iter().find(|link| link.name == *name) else {
        let help = "`ip link` lists the interfaces there are; correct `[[interface]]`, or bring it back";
        return vec![Finding::new(Kind::NotAttached, name, format!("there is no interface {name}"), help)];
    };
    let mut findings = Vec::new();
    match link.program {
        Some(program) if program == known.program => {}
        Some(program) => {
            let message = format!("XDP program {program} is on {name}, in the place of the balancer's");
            let help = format!(
                "`bpftool prog show id {program}` says what it is; stop what attached it, or take it off \
                 (`ip link set dev {name} xdp off`), then restart the controller"
            );
            findings.push(Finding::new(Kind::ForeignProgram, name, message, help));
        }
        None => {
            let why = problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
            let help = "restart the controller: it attaches the program where it is missing";
            let message = format!("no XDP program is on {name}{why}");
            findings.push(Finding::new(Kind::NotAttached, name, message, help));
        }
    }
    if *wanted == XdpMode::Auto && *attached == Some(XdpMode::Generic) {
        let help = "use a driver with native XDP, or a smaller MTU; `mode = \"generic\"` says that this is meant";
        findings.push(Finding::new(Kind::GenericMode, name, format!("{name} runs generic XDP"), help));
    }
    if !link.up {
        let help = format!("`ip link set {name} up`; where it is up already, look at cable and switch port");
        findings.push(Finding::new(Kind::InterfaceDown, name, format!("{name} is down"), help));
    }
    if !link.coalescing.is_empty() {
        let on = link.coalescing.join(" and ");
        let off: String = link.coalescing.iter().map(|feature| format!(" {feature} off")).collect();
        let message = format!("{on} is on at {name}");
        findings.push(Finding::new(Kind::Coalescing, name, message, format!("`ethtool -K {name}{off}`")));
    }
    let others: Vec<&str> = known.leaves_by.iter().filter(|other| *other != name).map(String::as_str).collect();
    if link.rp_filter == Some(1) && !others.is_empty() {
        let message = format!("rp_filter is 1 on {name}, and backends are reached by {}", others.join(", "));
        let help = format!("`sysctl net.ipv4.conf.{name}.rp_filter=2` where backends' answers come in by {name}");
        findings.push(Finding::new(Kind::ReversePath, name, message, help));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let eth0 = InterfaceStatus {
            name: "eth0".to_owned(),
            wanted: XdpMode::Auto,
            attached: Some(XdpMode::Native),
            problem: None,
        };
        let filled =
            Filled { map: "backends", what: "backends".to_owned(), setting: "limits.backends", used: 5, capacity: 10 };
        Known {
            interfaces: vec![eth0],
            program: 7,
            leaves_by: ["eth0".to_owned()].into(),
            maps: vec![filled],
            checked: 100,
        }
    }

    fn facts() -> Facts {
        let link = Link { name: "eth0".to_owned(), up: true, program: Some(7), rp_filter: Some(1), ..Link::default() };
        Facts { links: vec![link], jit: Some(true), clock_is_synchronised: Some(true), open_files: Some(1024) }
    }

    /// Identifiers of what is found once `spoil` has had its way.
    fn found(spoil: impl FnOnce(&mut Known, &mut Facts)) -> Vec<String> {
        let (mut known, mut facts) = (known(), facts());
        spoil(&mut known, &mut facts);
        judge(&known, &facts).into_iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn each_fault_has_its_finding_and_a_healthy_host_none() {
        assert_eq!(found(|_, _| {}), [""; 0]);
        assert_eq!(found(|_, facts| facts.links.clear()), ["DOC001"]);
        assert_eq!(found(|_, facts| facts.links[0].program = None), ["DOC001"]);
        assert_eq!(found(|_, facts| facts.links[0].program = Some(8)), ["DOC002"]);
        assert_eq!(found(|known, _| known.interfaces[0].attached = Some(XdpMode::Generic)), ["DOC003"]);
        assert_eq!(found(|_, facts| facts.links[0].up = false), ["DOC004"]);
        assert_eq!(found(|_, facts| facts.links[0].coalescing = vec!["rx-gro-hw"]), ["DOC005"]);
        assert_eq!(found(|_, facts| facts.jit = Some(false)), ["DOC006"]);
        assert_eq!(found(|known, _| known.checked = 1000), ["DOC007"]);
        assert_eq!(found(|known, _| known.maps[0].used = 9), ["DOC008"]);
        assert_eq!(found(|known, _| known.leaves_by = ["eth1".to_owned()].into()), ["DOC009"]);
        assert_eq!(found(|_, facts| facts.clock_is_synchronised = Some(false)), ["DOC010"]);
    }

    #[test]
    fn what_can_not_be_seen_is_no_fault() {
        let blind = |_: &mut Known, facts: &mut Facts| {
            (facts.jit, facts.clock_is_synchronised, facts.open_files) = (None, None, None);
            facts.links[0].rp_filter = None;
        };
        assert_eq!(found(blind), [""; 0]);
    }

    #[test]
    fn generic_mode_that_was_asked_for_is_no_finding() {
        let asked = |known: &mut Known, _: &mut Facts| {
            (known.interfaces[0].wanted, known.interfaces[0].attached) = (XdpMode::Generic, Some(XdpMode::Generic));
        };
        assert_eq!(found(asked), [""; 0]);
    }
}
