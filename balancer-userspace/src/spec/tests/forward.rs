//! Forwarding modes, GUE, segment sizes.

use super::*;
use crate::model::{Gate, Gue};

const BACKEND: &str = "address = \"10.0.0.1\"";

#[test]
fn gue_has_a_variant_and_a_port() {
    let gue = |lines: &str| model(&service(&format!("forward = \"gue\"\n{lines}"), &[BACKEND])).gue;
    assert_eq!(gue(""), Gue { variant: 0, port: 6080 });
    assert_eq!(gue("[service.gue]"), Gue::DEFAULT);
    assert_eq!(gue("[service.gue]\nvariant = 1\nport = 9000"), Gue { variant: 1, port: 9000 });
    assert_eq!(model(&service("forward = \"gue\"", &[])).forward, ForwardMode::Gue);
    says(
        &service("forward = \"gue\"\n[service.gue]\nvariant = 2\nport = 0\nports = 1", &[]),
        &[
            "`service.gue.variant` = 2 is out of range | write a number from 0 to 1",
            "`service.gue.port` = 0 is out of range",
            "unknown key `ports` in service.gue | did you mean `port`?",
        ],
    );
}

#[test]
fn gue_is_set_where_it_is_used() {
    for mode in ["l2", "ipip", "nat"] {
        says(
            &service(&format!("forward = {mode:?}\n[service.gue]\nvariant = 1"), &[]),
            &["9:1 BAL009 [service.gue] is for services that forward by GUE | remove it, or set `forward = \"gue\"`"],
        );
    }
    // A mode that is wrong is said alone.
    says(&service("forward = \"geu\"\n[service.gue]\nvariant = 1", &[]), &["did you mean \"gue\"?"]);
}

#[test]
fn gue_delivers_to_the_port_of_the_service() {
    says(
        &service("forward = \"gue\"", &["address = \"10.0.0.1\"\nport = 81"]),
        &["BAL009 `l2`, `ipip` and `gue` deliver to the service's port 80, not to 81"],
    );
    assert!(findings(&service("forward = \"gue\"", &["address = \"fd00::1\""])).is_empty());
}

#[test]
fn nat_needs_a_protocol_an_address_and_a_port_that_it_can_rewrite() {
    let nat = || service("forward = \"nat\"\n[service.health]\nkind = \"none\"", &[BACKEND]);
    assert!(findings(&nat()).is_empty());
    says(
        &nat().replace("\"tcp\"", "\"sctp\""),
        &[
            "8:11 BAL009 `nat` can't forward sctp: its checksum, a CRC32c over ports and data, would have to be computed anew",
        ],
    );
    says(
        &nat().replace("192.0.2.1\"", "192.0.2.0/24\""),
        &["8:11 BAL009 `nat` can't forward for the prefix 192.0.2.0/24: replies to its addresses can't be told apart"],
    );
    for (port, words) in [("\"80-89\"", "ports 80-89"), ("\"all\"", "all ports")] {
        says(
            &nat().replace("port = 80", &format!("port = {port}")),
            &[&format!("8:11 BAL009 `nat` sends to one port of a backend, but the service is on {words}")],
        );
    }
    assert!(findings(&nat().replace("port = 80", "port = \"80-80\"")).is_empty());
    assert!(findings(&nat().replace("192.0.2.1\"", "192.0.2.1/32\"")).is_empty());
}

#[test]
fn a_gate_is_the_health_check_or_the_doctor() {
    let gate = |word: &str| service(&format!("forward = \"ipip\"\ngate = {word:?}"), &[]);
    assert_eq!(model(&service("forward = \"ipip\"", &[])).gate, Gate::Health);
    assert_eq!(model(&gate("doctor")).gate, Gate::Doctor);
    assert_eq!(model(&gate("health")).gate, Gate::Health);
    says(&gate("nurse"), &["9:8 BAL005"]);
}

#[test]
fn segment_sizes_are_for_tcp() {
    let clamp = |size: u32| service(&format!("forward = \"ipip\"\nmss_clamp = {size}"), &[]);
    assert_eq!(model(&clamp(536)).mss_clamp, Some(536));
    assert_eq!(model(&clamp(9000)).mss_clamp, Some(9000));
    assert_eq!(model(&service("forward = \"ipip\"", &[])).mss_clamp, None);
    says(&clamp(535), &["`service.mss_clamp` = 535 is out of range | write a number from 536 to 9000"]);
    says(&clamp(9001), &["`service.mss_clamp` = 9001 is out of range"]);
    for other in ["udp", "sctp"] {
        says(
            &clamp(1400).replace("\"tcp\"", &format!("{other:?}")),
            &[&format!("9:13 BAL009 `service.mss_clamp` is for tcp; {other} has no segment size to offer | remove it")],
        );
    }
}
