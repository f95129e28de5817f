//! Prefixes, ranges of ports, and which of them may stand side by side.

use super::*;
use crate::model::{Ports, Protocol};

/// A service of its own on these, by `l2`.
fn on(name: &str, protocol: &str, address: &str, port: &str) -> String {
    let check = if protocol == "tcp" { "health = { kind = \"none\" }\n" } else { "" };
    format!(
        "[[service]]\nname = {name:?}\nprotocol = {protocol:?}\naddress = {address:?}\nport = {port}\nforward = \"l2\"\n{check}"
    )
}

fn config(services: &[String]) -> String {
    format!("[[interface]]\nname = \"eth0\"\n{}", services.concat())
}

fn udp(address: &str, port: &str) -> String {
    config(&[on("s", "udp", address, port)])
}

#[test]
fn an_address_may_be_a_prefix() {
    let place = |address: &str| {
        let service = model(&udp(address, "53"));
        (service.address.to_string(), service.prefix_len)
    };
    assert_eq!(place("203.0.113.10"), ("203.0.113.10".to_owned(), 32));
    assert_eq!(place("203.0.113.10/32"), ("203.0.113.10".to_owned(), 32));
    assert_eq!(place("203.0.113.0/24"), ("203.0.113.0".to_owned(), 24));
    assert_eq!(place("2001:db8::1"), ("2001:db8::1".to_owned(), 128));
    assert_eq!(place("2001:db8::/64"), ("2001:db8::".to_owned(), 64));
}

#[test]
fn a_prefix_that_is_none_is_explained() {
    for (address, what) in [
        (
            "203.0.113.10/24",
            "6:11 BAL005 `service.address` = \"203.0.113.10/24\" has bits set behind its first 24 | write \
             \"203.0.113.0/24\", or \"203.0.113.10\" for this address alone",
        ),
        ("2001:db8::1/64", "write \"2001:db8::/64\", or \"2001:db8::1\" for this address alone"),
        ("203.0.113.0/33", "has no prefix length from 0 to 32"),
        ("203.0.113.0/+8", "has no prefix length from 0 to 32"),
        ("203.0.113.0/", "has no prefix length from 0 to 32"),
        ("2001:db8::/129", "has no prefix length from 0 to 128"),
        ("203.0.113/24", "is neither an address nor a prefix | write an address or a prefix"),
        ("web.example", "is neither an address nor a prefix"),
    ] {
        says(&udp(address, "53"), &[what]);
    }
}

#[test]
fn a_prefix_holds_only_what_packets_can_be_sent_to() {
    for (address, what) in [
        ("0.0.0.0/0", "BAL007 the prefix 0.0.0.0/0 holds the address of nobody"),
        ("192.0.0.0/2", "holds multicast addresses"),
        ("127.1.0.0/16", "holds loopback addresses"),
        ("ff02::/16", "holds multicast addresses"),
        ("fe80::/64", "holds link-local addresses"),
        ("::ffff:10.0.0.0/104", "holds IPv4 addresses in IPv6 form"),
    ] {
        says(&udp(address, "53"), &[what]);
    }
    let backend = "[[service.backend]]\nname = \"b\"\naddress = \"203.0.113.77\"\n";
    says(
        &(udp("203.0.113.0/24", "53") + backend),
        &["11:11 BAL007 203.0.113.77 is a backend, but lies in the prefix 203.0.113.0/24 of a service (line 6)"],
    );
    assert!(findings(&(udp("203.0.112.0/24", "53") + backend)).is_empty());
}

#[test]
fn a_service_is_on_one_port_a_range_or_all() {
    let read = |port: &str| {
        let service = model(&(udp("192.0.2.1", port) + "[[service.backend]]\nname = \"b\"\naddress = \"10.0.0.1\"\n"));
        assert_eq!(service.port, service.backends[0].port);
        (service.port, service.ports)
    };
    assert_eq!(read("53"), (53, Ports::One(53)));
    assert_eq!(read("\"8000-8999\""), (8000, Ports::Range(8000, 8999)));
    assert_eq!(read("\"8000 - 8999\""), (8000, Ports::Range(8000, 8999)));
    assert_eq!(read("\"8000-8000\""), (8000, Ports::One(8000)));
    assert_eq!(read("\"1-65535\""), (1, Ports::Range(1, 65_535)));
    assert_eq!(read("\"all\""), (0, Ports::All));
}

#[test]
fn ports_that_are_none_are_explained() {
    for (port, what) in [
        ("\"9000-8000\"", "7:8 BAL005 `service.port` = \"9000-8000\" ends before it begins | write \"8000-9000\""),
        ("\"443\"", "`service.port` = \"443\" is a port in quotes | write 443"),
        ("\"0-10\"", "is no port | write a number from 1 to 65535, a range such as \"8000-8999\", or \"all\""),
        ("\"1-65536\"", "is no port"),
        ("\"any\"", "is no port"),
        ("\"1-2-3\"", "is no port"),
        ("0", "`service.port` = 0 is out of range"),
        ("true", "`service.port` is a boolean, not a whole number"),
    ] {
        says(&udp("192.0.2.1", port), &[what]);
    }
}

#[test]
fn a_prefix_has_no_range() {
    says(
        &udp("192.0.2.0/24", "\"8000-8999\""),
        &["7:8 BAL009 a service on a prefix is on one port or on all, not on a range"],
    );
    assert!(findings(&udp("192.0.2.0/24", "\"all\"")).is_empty());
    assert!(findings(&udp("192.0.2.0/24", "53")).is_empty());
    assert!(findings(&udp("192.0.2.1/32", "\"8000-8999\"")).is_empty());
}

#[test]
fn backends_of_several_ports_have_none_of_their_own() {
    let backend = "[[service.backend]]\nname = \"b\"\naddress = \"10.0.0.1\"\nport = 8000\n";
    for port in ["\"8000-8999\"", "\"all\""] {
        says(
            &(udp("192.0.2.1", port) + backend),
            &["BAL009 backends of a service on several ports receive on the port that the client asked for"],
        );
    }
}

#[test]
fn a_check_of_several_ports_names_its_own() {
    let tcp = |port: &str, check: &str| {
        config(&[on("s", "tcp", "192.0.2.1", port).replace("health = { kind = \"none\" }\n", check)])
    };
    let wanted =
        "the check needs a port, but the service is on ports 1-9 | set `service.health.port`, or `kind = \"none\"`";
    says(&tcp("\"1-9\"", ""), &[&format!("7:8 BAL004 {wanted}")]);
    says(&tcp("\"1-9\"", "[service.health]\nkind = \"http\"\n"), &[&format!("9:1 BAL004 {wanted}")]);
    says(&tcp("\"all\"", "[service.health]\nkind = \"tcp\"\n"), &["but the service is on all ports"]);
    says(&tcp("\"all\"", "[service.health]\nkind = \"icmp\"\n"), &["BAL011"]);
    says(&tcp("\"all\"", "[service.health]\nkind = \"tcp\"\nport = 0\n"), &["`service.health.port` = 0"]);
    assert!(findings(&tcp("\"all\"", "[service.health]\nkind = \"none\"\n")).is_empty());
    assert_eq!(model(&tcp("\"all\"", "[service.health]\nkind = \"tcp\"\nport = 80\n")).health.port, Some(80));
}

#[test]
fn a_packet_is_never_meant_for_two_services_alike() {
    let two = |first: (&str, &str), second: (&str, &str)| {
        config(&[on("a", "udp", first.0, first.1), on("b", "udp", second.0, second.1)])
    };
    let at = |first, second| two(("192.0.2.1", first), ("192.0.2.1", second));
    says(
        &at("\"80-90\"", "\"80-90\""),
        &[
            "12:11 BAL006 two services are on udp 192.0.2.1 ports 80-90 | change address, port or protocol; the first is on line 6",
        ],
    );
    says(&at("\"all\"", "\"all\""), &["two services are on udp 192.0.2.1 all ports"]);
    says(&at("\"80-80\"", "80"), &["two services are on udp 192.0.2.1 port 80"]);
    says(
        &at("\"85-95\"", "\"80-90\""),
        &[
            "13:8 BAL006 ports 80-90 of udp 192.0.2.1 overlap with 85-95 | let them share no port; the other is on line 7",
        ],
    );
    says(&at("\"80-90\"", "\"90-95\""), &["ports 90-95 of udp 192.0.2.1 overlap with 80-90"]);
    says(&at("\"80-90\"", "\"82-84\""), &["ports 82-84 of udp 192.0.2.1 overlap with 80-90"]);
    says(
        &two(("192.0.2.0/24", "\"all\""), ("192.0.2.0/24", "\"all\"")),
        &["two services are on udp 192.0.2.0/24 all ports"],
    );
    says(&two(("192.0.2.1/32", "80"), ("192.0.2.1", "80")), &["two services are on udp 192.0.2.1 port 80"]);
    for (first, second) in
        [("80", "\"80-90\""), ("\"80-90\"", "\"91-95\""), ("\"80-90\"", "\"all\""), ("80", "\"all\"")]
    {
        assert_eq!(findings(&at(first, second)), Vec::<String>::new());
        assert_eq!(findings(&at(second, first)), Vec::<String>::new());
    }
    for (first, second) in [("192.0.2.0/24", "192.0.2.0"), ("192.0.2.0/24", "192.0.2.0/25"), ("192.0.2.1", "192.0.2.2")]
    {
        assert_eq!(findings(&two((first, "\"all\""), (second, "\"all\""))), Vec::<String>::new());
    }
    let protocols = config(&[on("a", "udp", "192.0.2.1", "\"80-90\""), on("b", "sctp", "192.0.2.1", "\"80-90\"")]);
    assert_eq!(findings(&protocols), Vec::<String>::new());
}

#[test]
fn each_of_three_ranges_that_overlap_is_named() {
    let ranges = ["\"10-99\"", "\"20-29\"", "\"40-120\"", "\"121-130\""];
    let services: Vec<String> =
        ranges.iter().enumerate().map(|(i, range)| on(&format!("s{i}"), "udp", "192.0.2.1", range)).collect();
    says(
        &config(&services),
        &["ports 20-29 of udp 192.0.2.1 overlap with 10-99", "ports 40-120 of udp 192.0.2.1 overlap with 10-99"],
    );
}

#[test]
fn an_address_has_so_many_ranges() {
    let ranges = |count: usize| {
        let mut services = vec![on("all", "udp", "192.0.2.1", "\"all\""), on("one", "udp", "192.0.2.1", "5")];
        services.extend(
            (1..count).map(|i| on(&format!("s{i}"), "udp", "192.0.2.1", &format!("\"{}-{}\"", 100 * i, 100 * i + 99))),
        );
        config(&services)
    };
    assert_eq!(findings(&ranges(32)), Vec::<String>::new());
    says(&ranges(33), &["BAL008 udp 192.0.2.1 has 33 ranges of ports, more than 32 | join ranges into one"]);
}

#[test]
fn sctp_is_a_protocol() {
    let sctp = model(&config(&[on("s", "sctp", "192.0.2.1", "2905")]));
    assert_eq!((sctp.protocol, sctp.health.kind), (Protocol::Sctp, CheckKind::None));
    says(&config(&[on("s", "stcp", "192.0.2.1", "1")]), &["`service.protocol` = \"stcp\" is unknown | did you mean"]);
}
