//! `[node]`, `[limits]` and `[[interface]]`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::beside::Beside;
use super::catalogue::Kind;
use super::control;
use super::diagnostic::Span;
use super::reader::Section;
use super::verify;
use crate::model::{DatapathLog, GuardPolicy, Interface, Limits, Node, Risk, TableSize, XdpMode};

pub(super) const NODE_KEYS: &[&str] = &[
    "name",
    "state_dir",
    "pin_dir",
    "control_socket",
    "http_listen",
    "seed",
    "watch_config",
    "encap_source_v4",
    "encap_source_v6",
    "datapath_log",
    "history",
];
pub(super) const LIMIT_KEYS: &[&str] = &["services", "backends", "table_size", "fragments", "acl_prefixes", "sources"];
pub(super) const INTERFACE_KEYS: &[&str] = &["name", "mode"];

/// Generations that are kept.
const GENERATIONS: u32 = 100;
const MOST_GENERATIONS: u32 = 100_000;

/// The longest name an interface can have (IFNAMSIZ less the final zero).
const LONGEST_INTERFACE: usize = 15;

const LEVELS: &[(&str, DatapathLog)] = &[
    ("off", DatapathLog::Off),
    ("error", DatapathLog::Error),
    ("warn", DatapathLog::Warn),
    ("info", DatapathLog::Info),
    ("debug", DatapathLog::Debug),
];
const MODES: &[(&str, XdpMode)] =
    &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];

pub(super) const GUARD_KEYS: &[&str] = &["from", "duration"];

const RISKS: &[(&str, Risk)] = &[("low", Risk::Low), ("medium", Risk::Medium), ("high", Risk::High)];
/// Long enough for a few steps.
const SHORTEST_GUARD: Duration = Duration::from_secs(4);
const LONGEST_GUARD: Duration = Duration::from_secs(86_400);

fn guard(root: &Section<'_>) -> Option<GuardPolicy> {
    let section = root.section("guard", "guard", GUARD_KEYS)?;
    let from = section.required("from", "\"high\"", |key| section.choice(key, RISKS, &[]));
    let duration = section.duration_within("duration", SHORTEST_GUARD..=LONGEST_GUARD);
    let duration = duration.map_or(Duration::from_secs(120), |duration| duration.value);
    Some(GuardPolicy { from: from?.value, duration })
}

/// `beside`: files that it names.
pub(super) fn node(root: &Section<'_>, beside: Beside<'_>) -> Node {
    let section = root.section("node", "node", NODE_KEYS);
    let section = section.as_ref();
    let path =
        |key, default: &str| PathBuf::from(section.and_then(|node| node.text(key)).map_or(default, |text| text.value));
    let listen = section.and_then(|node| {
        let text = node.text("http_listen")?;
        if matches!(text.value, "" | "off") {
            return Some(None);
        }
        Some(node.parsed("http_listen", "write \"127.0.0.1:9405\", \"[::]:9405\", or \"off\"").map(|a| a.value))
    });
    Node {
        name: section.and_then(|node| node.text("name")).map_or_else(host_name, |text| text.value.to_owned()),
        state_dir: path("state_dir", "/var/lib/balancer"),
        pin_dir: path("pin_dir", "/sys/fs/bpf/balancer"),
        control_socket: path("control_socket", "/run/balancer/control.sock"),
        control: control::policy(root),
        http_listen: listen.unwrap_or_else(|| Some(([127, 0, 0, 1], 9405).into())),
        seed: section.and_then(|node| node.seed("seed")).unwrap_or(0),
        watch_config: section.and_then(|node| node.boolean("watch_config")).unwrap_or(false),
        guard: guard(root),
        verify: verify::verify(root),
        alarming: verify::alarming(root, beside),
        profile: super::profile::profile(root),
        lint: super::lint_policy::policy(root),
        history: section.and_then(|node| node.number("history", 1..=MOST_GENERATIONS)).map_or(GENERATIONS, |n| n.value),
        encap_source_v4: section
            .and_then(|node| node.parsed("encap_source_v4", "write an IPv4 prefix, such as \"198.18.0.0/16\""))
            .map_or_else(default_source_v4, |prefix| prefix.value),
        encap_source_v6: section
            .and_then(|node| node.parsed("encap_source_v6", "write an IPv6 prefix, such as \"100::/64\""))
            .map_or_else(default_source_v6, |prefix| prefix.value),
        datapath_log: section
            .and_then(|node| node.choice("datapath_log", LEVELS, &[]))
            .map_or(DatapathLog::Warn, |level| level.value),
    }
}

fn default_source_v4() -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert([198, 18, 0, 0].into(), 16)
}

fn default_source_v6() -> ipnet::Ipv6Net {
    ipnet::Ipv6Net::new_assert([0x100, 0, 0, 0, 0, 0, 0, 0].into(), 64)
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "balancer".to_owned())
}

pub(super) fn limits(root: &Section<'_>) -> Limits {
    let section = root.section("limits", "limits", LIMIT_KEYS);
    let limit = |key, default, largest| {
        section.as_ref().and_then(|limits| limits.number(key, 1..=largest)).map_or(default, |number| number.value)
    };
    Limits {
        services: limit("services", Limits::DEFAULT.services, 65_536),
        backends: limit("backends", Limits::DEFAULT.backends, Limits::MOST_BACKENDS),
        table_size: limit("table_size", TableSize::MAX, TableSize::MAX),
        fragments: limit("fragments", Limits::DEFAULT.fragments, 1_048_576),
        acl_prefixes: limit("acl_prefixes", Limits::DEFAULT.acl_prefixes, 4_000_000),
        sources: limit("sources", Limits::DEFAULT.sources, 16_777_216),
    }
}

pub(super) fn interfaces(root: &Section<'_>) -> Vec<Interface> {
    let sections = root.sections("interface", "interface", INTERFACE_KEYS);
    if sections.is_empty() {
        root.problems.add(
            Kind::MissingKey,
            0..0,
            "there is no [[interface]]",
            "add one for each interface that packets for services come in on: [[interface]] and name = \"eth0\"",
        );
    }
    let mut seen: HashMap<String, Span> = HashMap::new();
    sections.iter().filter_map(|section| interface(section, &mut seen)).collect()
}

fn interface(section: &Section<'_>, seen: &mut HashMap<String, Span>) -> Option<Interface> {
    let mode = section.choice("mode", MODES, &[]).map_or(XdpMode::Auto, |mode| mode.value);
    if !section.has("name") {
        section.missing("name", "\"eth0\"");
    }
    let name = section.text("name")?;
    let valid = (1..=LONGEST_INTERFACE).contains(&name.value.len())
        && !name.value.chars().any(|c| c == '/' || c == '%' || c.is_whitespace());
    if !valid {
        section.wrong(name.span, format!("{:?} can't be the name of an interface", name.value), "`ip link` lists them");
        return None;
    }
    if let Some(first) = seen.insert(name.value.to_owned(), name.span.clone()) {
        let message = format!("interface {:?} stands here twice", name.value);
        let help = format!("remove one; the first is on line {}", section.problems.line(&first));
        section.problems.add(Kind::Duplicate, name.span, message, help);
    }
    Some(Interface { name: name.value.to_owned(), mode })
}
