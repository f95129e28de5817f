//! Each finding, with a config that has it; for the trickier ones also one that almost has it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Affinity, CheckKind, ForwardMode, Limits, Service, TableSize, XdpMode};

mod connections;
mod forward;
mod guard;
mod ports;
mod profile;
mod quic;
mod verify;

/// The config of the design, whole.
const WHOLE: &str = r#"
[node]
name = "edge-1"
state_dir = "/var/lib/balancer"
control_socket = "/run/balancer/control.sock"
http_listen = "127.0.0.1:9405"
seed = 0

[[interface]]
name = "eth0"
mode = "auto"

[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10"
port = 443
forward = "nat"
affinity = "client"

[service.health]
kind = "http"
port = 8080
path = "/healthz"
interval = "2s"
timeout = "1s"
rise = 2
fall = 3

[[service.backend]]
name = "web-1"
address = "10.0.0.11"
port = 8443
weight = 100
"#;

/// A service with these extra lines and these backends, on an interface.
fn service(extra: &str, backends: &[&str]) -> String {
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = 80\n{extra}\n"
    );
    for (i, backend) in backends.iter().enumerate() {
        text += &format!("[[service.backend]]\nname = \"b{i}\"\n{backend}\n");
    }
    text
}

/// What is wrong, a line each: `LINE:COLUMN ID message | help`.
fn findings(text: &str) -> Vec<String> {
    findings_beside("f.toml", text)
}

/// The same of a file in some directory.
fn findings_beside(file: &str, text: &str) -> Vec<String> {
    let Err(problems) = parse(file, text) else { return Vec::new() };
    let line = |d: &Diagnostic| format!("{}:{} {} {} | {}", d.line, d.column, d.id, d.message, d.help);
    problems.findings.iter().map(line).collect()
}

#[track_caller]
fn says(text: &str, wanted: &[&str]) {
    let found = findings(text);
    for part in wanted {
        assert!(found.iter().any(|line| line.contains(part)), "no {part:?} in {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
}

/// The only service of a valid config.
#[track_caller]
fn model(text: &str) -> Service {
    let config = parse("f.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
    config.services.into_iter().next().unwrap()
}

#[test]
fn a_whole_config_becomes_the_model() {
    let config = parse("f.toml", WHOLE).unwrap();
    assert_eq!(config.node.name, "edge-1");
    assert_eq!(config.node.http_listen, Some(([127, 0, 0, 1], 9405).into()));
    assert_eq!(config.interfaces[0].mode, XdpMode::Auto);
    let web = &config.services[0];
    assert_eq!((web.forward, web.affinity, web.table_size), (ForwardMode::Nat, Affinity::Client, TableSize::DEFAULT));
    assert_eq!(web.health.kind, CheckKind::Http { path: "/healthz".to_owned(), host: None });
    assert_eq!((web.health.port, web.health.interval), (Some(8080), Duration::from_secs(2)));
    let backend = &web.backends[0];
    assert_eq!((backend.name.as_str(), backend.port, backend.weight.get()), ("web-1", 8443, 100));
}

#[test]
fn a_finding_shows_the_line_and_what_would_be_right() {
    let text = WHOLE.replace("weight = 100", "\tweigth = 100");
    let wanted = "edge.toml:34:2: error: unknown key `weigth` in service.backend [BAL003]\n   |\n34 | \tweigth = 100\n   \
                  | \t^^^^^^\n  help: did you mean `weight`?\n1 error found; nothing was applied";
    assert_eq!(parse("edge.toml", &text).unwrap_err().to_string(), wanted);
}

#[test]
fn every_error_of_a_file_is_found_in_the_order_of_its_lines() {
    let text = WHOLE
        .replace("seed = 0", "sed = 0")
        .replace("\"auto\"", "\"fast\"")
        .replace("port = 443", "port = 70000")
        .replace("\"2s\"", "\"2 parsecs\"")
        .replace("\"10.0.0.11\"", "\"10.0.0\"");
    let found = findings(&text);
    let ids: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(ids, ["BAL003", "BAL005", "BAL005", "BAL005", "BAL005"], "{found:#?}");
    assert!(found[2].contains("`service.port` = 70000 is out of range | write a number from 1 to 65535"), "{found:#?}");
    assert!(found[3].contains("is no duration") && found[3].contains("\"500ms\""), "{found:#?}");
}

#[test]
fn syntax_and_types_are_named() {
    says("[node\n", &["BAL002"]);
    says("node = 3\n[[interface]]\nname = \"eth0\"", &["1:8 BAL005 `node` is an integer, not a table; write [node]"]);
    says("[[interface]]\nname = 5", &["2:8 BAL005 `interface.name` is an integer, not a string"]);
    says(
        "[[interface]]\nname = \"eth0\"\n[node]\nwatch_config = \"yes\"",
        &["`node.watch_config` is a string, not true or false"],
    );
    says("[[interface]]\nname = \"eth0\"\n[node]\nseed = -1", &["must not be negative"]);
    assert!(findings("[[interface]]\nname = \"eth0\"\n[node]\nseed = \"0xffffffffffffffff\"").is_empty());
    says("", &["BAL004 there is no [[interface]]"]);
    says("[[interface]]\nname = \"a name\"", &["can't be the name of an interface"]);
    says(
        "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth0\"",
        &["BAL006 interface \"eth0\" stands here twice | remove one; the first is on line 2"],
    );
}

#[test]
fn keys_that_are_missing_are_named() {
    let text = "[[interface]]\n[[service]]\n[[service.backend]]\n";
    let missing = [
        "interface.name",
        "service.name",
        "service.protocol",
        "service.address",
        "service.port",
        "service.forward",
        "service.backend.name",
        "service.backend.address",
    ];
    let wanted: Vec<String> = missing.iter().map(|key| format!("BAL004 `{key}` is missing")).collect();
    says(text, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_a_later_version_will_do_is_not_called_unknown() {
    says(
        &service("forward = \"l2\"\n[service.health]\nkind = \"https\"", &[]),
        &["BAL011 `service.health.kind` = \"https\" is not available in this version | one of: none, tcp, http"],
    );
}

#[test]
fn tables_are_prime_and_within_the_limit() {
    says(
        &service("forward = \"l2\"\ntable_size = 65536", &[]),
        &["`service.table_size` = 65536 is not a prime up to 1048573 | write 65537"],
    );
    let limited = service("forward = \"l2\"\ntable_size = 131071", &[]) + "[limits]\ntable_size = 65537\n";
    says(&limited, &["BAL008 `service.table_size` = 131071 is above `limits.table_size` = 65537"]);
    assert!(findings(&service("forward = \"l2\"\ntable_size = 131071", &[])).is_empty());
}

#[test]
fn limits_name_their_setting() {
    let two = service("forward = \"l2\"", &["address = \"10.0.0.1\"", "address = \"10.0.0.2\""]);
    says(
        &(two.clone() + "[limits]\nbackends = 1"),
        &["BAL008 the file has 2 backends, more than `limits.backends` = 1"],
    );
    assert!(findings(&(two.clone() + "[limits]\nbackends = 2\nservices = 1")).is_empty());
    let limits = |lines: &str| parse("f.toml", &format!("{two}[limits]\n{lines}")).map(|config| config.limits);
    assert_eq!(limits("").unwrap(), Limits::DEFAULT);
    let given = limits("fragments = 1\nacl_prefixes = 4000000\nsources = 16777216").unwrap();
    assert_eq!((given.fragments, given.acl_prefixes, given.sources), (1, 4_000_000, 16_777_216));
    says(
        &(two.clone() + "[limits]\nfragments = 1048577\nacl_prefixes = 0\nsources = 16777217"),
        &[
            "BAL005 `limits.fragments` = 1048577 is out of range | write a number from 1 to 1048576",
            "BAL005 `limits.acl_prefixes` = 0 is out of range | write a number from 1 to 4000000",
            "BAL005 `limits.sources` = 16777217 is out of range | write a number from 1 to 16777216",
        ],
    );
}

#[test]
fn addresses_must_be_ones_that_packets_can_be_sent_to() {
    for (address, what) in [
        ("127.0.0.1", "is a loopback address"),
        ("0.0.0.0", "is no address of anybody"),
        ("224.0.0.1", "is a multicast address"),
        ("255.255.255.255", "is the broadcast address"),
        ("fe80::1", "is a link-local address"),
        ("::ffff:10.0.0.1", "is an IPv4 address in IPv6 form | write \"10.0.0.1\""),
        ("192.0.2.1", "is the address of a service (line 6) and of a backend"),
    ] {
        says(&service("forward = \"ipip\"", &[&format!("address = \"{address}\"")]), &[what]);
    }
}

#[test]
fn what_stands_there_twice_is_named_with_the_first_place() {
    let twice = service("forward = \"l2\"", &["address = \"10.0.0.1\"", "address = \"10.0.0.1\""]);
    says(
        &twice,
        &[
            "BAL006 two backends of this service are at 10.0.0.1 | remove one and add up the weights; the first is on line 11",
        ],
    );
    // Under `nat` the port tells them apart.
    let ports = service("forward = \"nat\"", &["address = \"10.0.0.1\"\nport = 1", "address = \"10.0.0.1\"\nport = 2"]);
    assert!(findings(&ports).is_empty());
    let named =
        service("forward = \"l2\"", &["address = \"10.0.0.1\"", "address = \"10.0.0.2\""]).replace("\"b1\"", "\"b0\"");
    says(&named, &["there are two backends \"b0\" in this service"]);
    let second =
        "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = 80\nforward = \"l2\"\n";
    says(
        &(service("forward = \"l2\"", &[]) + second),
        &["there are two services \"web\"", "two services are on tcp 192.0.2.1 port 80"],
    );
    let other = second.replace("\"web\"", "\"dns\"").replace("\"tcp\"", "\"udp\"");
    assert!(findings(&(service("forward = \"l2\"", &[]) + &other)).is_empty());
}

#[test]
fn what_a_forwarding_mode_can_not_do_is_refused() {
    says(
        &service("forward = \"nat\"", &["address = \"fd00::1\""]),
        &["BAL009 `nat` can't send from 192.0.2.1 to fd00::1"],
    );
    assert!(findings(&service("forward = \"ipip\"", &["address = \"fd00::1\""])).is_empty());
    says(
        &service("forward = \"ipip\"", &["address = \"10.0.0.1\"\nport = 81"]),
        &["deliver to the service's port 80, not to 81"],
    );
    assert!(findings(&service("forward = \"ipip\"", &["address = \"10.0.0.1\"\nport = 80"])).is_empty());
}

#[test]
fn replies_under_nat_must_name_one_service() {
    let second = |port| {
        format!(
            "[[service]]\nname = \"tls\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = 443\nforward = \"nat\"\n[[service.backend]]\nname = \"b\"\naddress = \"10.0.0.1\"\nport = {port}\n"
        )
    };
    let first = service("forward = \"nat\"", &["address = \"10.0.0.1\"\nport = 8080"]);
    says(
        &(first.clone() + &second(8080)),
        &["BAL010 tcp 10.0.0.1 port 8080 is a backend of two `nat` services, so its replies can't be told apart"],
    );
    assert!(findings(&(first + &second(8081))).is_empty());
}

#[test]
fn checks_that_can_not_work_are_refused() {
    let check = |lines: &str| service(&format!("forward = \"l2\"\n[service.health]\n{lines}"), &[]);
    says(
        &check("kind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"2s\""),
        &["no longer than the interval | the interval is 1s"],
    );
    says(&check("kind = \"tcp\"\ninterval = \"50ms\""), &["is below 100ms"]);
    says(&check("kind = \"tcp\"\npath = \"/\""), &["BAL009 `path` and `host` are for http checks only"]);
    says(&check("kind = \"http\"\npath = \"healthz\""), &["must start with `/`"]);
    says(&check("kind = \"http\"\njitter = 0.6"), &["write 0.0 to 0.5"]);
    says(&check("interval = \"1s\""), &["`service.health.kind` is missing"]);
    assert!(
        findings(&check("kind = \"http\"\ninterval = \"500ms\"")).is_empty(),
        "the timeout follows a short interval"
    );
}

#[test]
fn a_file_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load(&directory.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml:1:1: error: the file can't be read"), "{missing}");
    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert!(
        load(&binary)
            .unwrap_err()
            .to_string()
            .contains(":1:1: error: the file is not UTF-8 text: line 1, byte 1 of it is 0xff")
    );
}

/// The text with every setting that stands in a comment.
fn with_comments(text: &str) -> String {
    let setting = |line: &&str| {
        let key =
            line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        key || line.starts_with('[')
    };
    let lines = text.lines().map(|line| line.strip_prefix("# ").filter(setting).unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_is_valid_and_the_reference_is_complete() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../");
    let read = |path: &str| std::fs::read_to_string(format!("{root}{path}")).unwrap();
    let example = read("deploy/balancer.toml");
    assert_eq!(findings(&example), Vec::<String>::new());
    let whole = parse("f.toml", &with_comments(&example)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(whole.services.len(), 3, "with what stands in comments");
    let reference = read("docs/config.md");
    for key in known_keys() {
        let (section, key) = key.rsplit_once('.').unwrap();
        let part = reference
            .split("\n## ")
            .find(|part| part.contains(&format!("[{section}]`\n")) || part.contains(&format!("[{section}]]`\n")))
            .unwrap_or("");
        assert!(part.contains(&format!("| `{key}` |")), "{section}.{key} is not in docs/config.md");
    }
    for id in 1..=11 {
        assert!(reference.contains(&format!("`BAL{id:03}`")), "BAL{id:03}");
    }
}

#[test]
fn the_readme_s_config_is_valid() {
    let readme = include_str!("../../../README.md");
    let config = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = parse("f.toml", config).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.services.iter().map(|service| service.backends.len()).collect::<Vec<_>>(), [2]);
}

#[test]
fn thirty_thousand_backends_are_read_in_a_moment() {
    let mut text = String::from("[[interface]]\nname = \"eth0\"\n[limits]\nbackends = 32767\n");
    for s in 0..300 {
        text += &format!(
            "[[service]]\nname = \"s{s}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = {}\nforward = \"ipip\"\n",
            s + 1
        );
        for b in 0..100 {
            text += &format!("[[service.backend]]\nname = \"b{b}\"\naddress = \"10.{}.{}.1\"\n", s % 250, b);
        }
    }
    let start = std::time::Instant::now();
    assert_eq!(parse("f.toml", &text).unwrap().services.len(), 300);
    // A second in release, and debug builds are ten times slower; what is quadratic takes minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text: String) {
        let _ = parse("f.toml", &text).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_damage_to_a_valid_file_makes_the_reader_panic(
        quic: bool, at in 0usize..2000, length in 0usize..30, with in "\\PC{0,12}",
    ) {
        let mut text = if quic { quic::WHOLE } else { WHOLE }.to_owned();
        let at = at % text.len();
        let end = (at + length).min(text.len());
        text.replace_range(at..end, &with);
        let _ = parse("f.toml", &text).map_err(|problems| problems.to_string());
    }
}

#[test]
fn a_check_that_can_not_be_sent_is_refused() {
    let check = |lines: &str| {
        let extra = format!("forward = \"l2\"\n[service.health]\nkind = \"http\"\n{lines}");
        let text = service(&extra, &["address = \"10.0.0.1\"\nweight = 1"]);
        parse("a.toml", &text).map(drop).map_err(|problems| problems.to_string())
    };
    assert_eq!(check("path = \"/healthz?full=1\"\nhost = \"shop.example:8080\""), Ok(()));
    for line in ["path = \"\"", "path = \" \"", "path = \"/a b\"", "path = \"/a\\r\\nX: y\"", "path = \"/\\u0000\""] {
        assert!(check(line).is_err_and(|said| said.contains("`service.health.path` must start with `/`")), "{line}");
    }
    for line in ["host = \"\"", "host = \"a b\"", "host = \"a\\r\\nX: y\"", "host = \"\\t\"", "host = \"http://a\""] {
        assert!(check(line).is_err_and(|said| said.contains("`service.health.host` must be a host's name")), "{line}");
    }
}

#[test]
fn an_applications_protocol_is_answered_with_what_a_layer_4_balancer_does() {
    for (written, wanted) in [("http", "write \"tcp\""), ("HTTPS", "write \"tcp\""), ("http3", "write \"udp\"")] {
        let text = service("forward = \"l2\"", &["address = \"10.0.0.1\"\nweight = 1"]).replacen(
            "\"tcp\"",
            &format!("\"{written}\""),
            1,
        );
        let said = parse("a.toml", &text).unwrap_err().to_string();
        assert!(said.contains(wanted) && said.contains("is what the backends speak"), "{said}");
        assert_eq!(said.contains("`health.kind = \"http\"` checks it"), written == "http", "{said}");
    }
}

#[test]
fn a_file_that_is_wrong_in_every_line_is_answered_in_a_few() {
    let text: String = (0..50_000).map(|n| format!("key{n} = {}\n", "1".repeat(80))).collect();
    let problems = parse("a.toml", &text).unwrap_err();
    // There is no interface, either.
    assert_eq!(problems.count(Severity::Error), 50_001);
    let said = problems.to_string();
    assert!(said.len() < 200_000, "{} bytes", said.len());
    assert!(said.contains("49901 more findings not shown\n50001 errors found"), "{}", &said[said.len() - 200..]);
    let long = format!("x = \"{}\"\n", "y".repeat(5 << 20));
    assert!(parse("a.toml", &long).unwrap_err().to_string().len() < 10_000);
}
