//! `[service.quic]` and server ids.

use super::*;
use crate::model::{Quic, ServerId};

/// A config with what services say beside the design's.
pub(super) const WHOLE: &str = r#"
[limits]
fragments = 4096
acl_prefixes = 1000
sources = 1000

[[interface]]
name = "eth0"

[[service]]
name = "quic"
protocol = "udp"
address = "2001:db8::/64"
port = "all"
forward = "gue"
allow = ["2001:db8:1::/48", "2001:db8:2::1"]
deny = ["2001:db8:1:1::/64"]
new_flows_per_second = 100000
new_flows_burst = 200000
source_new_flows_per_second = 100
source_new_flows_burst = 500

[service.gue]
variant = 1
port = 6081

[service.connections]
quiet = "30s"
drain_deadline = "10m"
flow_table = 65536
when_full = "drop"
tracking = "window"
window = "20s"

[service.quic]
config_id = 3

[[service.backend]]
name = "q-1"
address = "10.0.0.1"
server_id = "0a1F"

[[service.backend]]
name = "q-2"
address = "10.0.0.2"
server_id = "ffff"
"#;

fn udp(extra: &str, ids: &[&str]) -> String {
    let backends: Vec<String> =
        ids.iter().enumerate().map(|(i, id)| format!("address = \"10.0.0.{i}\"\n{id}")).collect();
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    service(&format!("forward = \"l2\"\n{extra}"), &backends).replace("\"tcp\"", "\"udp\"")
}

#[test]
fn server_ids_are_bytes_of_one_length() {
    let service = model(WHOLE);
    assert_eq!(service.quic, Some(Quic { config_id: 3, id_length: 2 }));
    let ids: Vec<Option<ServerId>> = service.backends.iter().map(|backend| backend.server_id).collect();
    let id = |first, second| Some(ServerId { bytes: [first, second, 0, 0, 0, 0, 0, 0], length: 2 });
    assert_eq!(ids, [id(0x0a, 0x1f), id(0xff, 0xff)]);
    let longest = model(&udp("[service.quic]", &["server_id = \"0102030405060708\""]));
    assert_eq!(longest.quic, Some(Quic { config_id: 0, id_length: 8 }));
    assert_eq!(longest.backends[0].server_id, Some(ServerId { bytes: [1, 2, 3, 4, 5, 6, 7, 8], length: 8 }));
    assert!(model(&udp("[service.quic]", &[])).quic.is_some(), "backends may come later");
}

#[test]
fn ids_that_are_none_are_explained() {
    for (id, what) in [
        ("\"0a1\"", "BAL005 `service.backend.server_id` = \"0a1\" has an odd number of digits | write 1 to 8 bytes"),
        ("\"0x0a\"", "`service.backend.server_id` = \"0x0a\" holds more than hexadecimal digits"),
        ("\"0ä\"", "holds more than hexadecimal digits"),
        ("\"\"", "is not 1 to 8 bytes long"),
        ("\"010203040506070809\"", "is not 1 to 8 bytes long"),
        ("10", "`service.backend.server_id` is an integer, not a string"),
    ] {
        says(&udp("[service.quic]", &[&format!("server_id = {id}")]), &[what]);
    }
    for id in [-1, 7] {
        says(
            &udp(&format!("[service.quic]\nconfig_id = {id}"), &[]),
            &[&format!("`service.quic.config_id` = {id} is out of range | write a number from 0 to 6")],
        );
    }
}

#[test]
fn every_backend_has_an_id_of_its_own() {
    says(
        &udp("[service.quic]", &["server_id = \"01\"", ""]),
        &[
            "BAL004 `service.backend.server_id` is missing, which [service.quic] needs of every backend | add, for example",
        ],
    );
    says(
        &udp("[service.quic]", &["server_id = \"01\"", "server_id = \"0203\"", "server_id = \"04\""]),
        &["17:13 BAL009 this server id has 2 bytes, that on line 13 has 1 | make all of a service the same length"],
    );
    says(
        &udp("[service.quic]", &["server_id = \"ab\"", "server_id = \"AB\""]),
        &[
            "17:13 BAL006 two backends of this service have the same server id | give each its own; the first is on line 13",
        ],
    );
}

#[test]
fn quic_is_udp_and_ids_are_quic() {
    let quic = udp("[service.quic]", &["server_id = \"01\""]);
    says(
        &quic.replace("\"udp\"", "\"tcp\""),
        &[
            "9:1 BAL009 [service.quic] is for udp, but the service's protocol is tcp | remove it, or set `protocol = \"udp\"`",
        ],
    );
    says(
        &udp("", &["server_id = \"01\""]),
        &[
            "13:13 BAL009 `server_id` is for services with [service.quic] | remove it, or add [service.quic] to the service",
        ],
    );
    says(
        &udp("quic = true", &["server_id = \"01\""]),
        &["`service.quic` is a boolean, not a table; write [service.quic]"],
    );
}
