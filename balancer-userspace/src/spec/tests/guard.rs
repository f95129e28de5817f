//! Allow and deny lists, in the config and in files, and rates of new flows.

use std::path::Path;

use super::*;
use crate::model::{Guard, Rate};

fn guarded(lines: &str) -> String {
    service(&format!("forward = \"l2\"\n{lines}"), &[])
}

fn guard(lines: &str) -> Guard {
    model(&guarded(lines)).guard
}

fn prefixes(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The name of a config in a directory with these files.
fn beside(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = directory.path().join("balancer.toml").display().to_string();
    (directory, config)
}

#[test]
fn lists_hold_prefixes_and_addresses_each_once() {
    assert_eq!(guard(""), Guard::default());
    let lists =
        guard("allow = [\"192.0.2.7\", \"10.0.0.0/8\", \"10.0.0.0/8\", \"192.0.2.7/32\"]\ndeny = [\"10.1.0.0/16\"]");
    assert_eq!(lists.allow, prefixes(&["10.0.0.0/8", "192.0.2.7/32"]));
    assert_eq!(lists.deny, prefixes(&["10.1.0.0/16"]));
    assert_eq!(guard("deny = []"), Guard::default());
}

#[test]
fn entries_that_are_none_are_explained_where_they_stand() {
    for (lines, what) in [
        (
            "deny = [\"10.0.0.0/8\",\n  \"10.0.0.1/8\"]",
            "10:3 BAL005 \"10.0.0.1/8\" in `service.deny` has bits set behind its first 8 | write \"10.0.0.0/8\", or \"10.0.0.1\" for this address alone",
        ),
        ("allow = [\"10.0.0\"]", "9:10 BAL005 \"10.0.0\" in `service.allow` is neither an address nor a prefix"),
        ("allow = [\"10.0.0.0/40\"]", "\"10.0.0.0/40\" in `service.allow` has no prefix length from 0 to 32"),
        (
            "deny = [\"2001:db8::/32\"]",
            "9:9 BAL009 \"2001:db8::/32\" in `service.deny` is IPv6, but the service's address is IPv4 | remove it; only IPv4 packets",
        ),
        ("allow = [10]", "`service.allow` is an integer, not a string"),
        ("deny = \"10.0.0.0/8\"", "`service.deny` is a string, not an array of strings"),
        ("deny = [10]", "9:9 BAL005 `service.deny` is an integer, not a string; the array holds strings only"),
    ] {
        says(&guarded(lines), &[what]);
    }
    says(
        &guarded("allow = [\"10.0.0.0/8\"]").replace("192.0.2.1", "2001:db8::1"),
        &["\"10.0.0.0/8\" in `service.allow` is IPv4, but the service's address is IPv6"],
    );
}

#[test]
fn what_is_allowed_is_not_denied() {
    says(
        &guarded("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\", \"192.0.2.7\"]"),
        &["10:9 BAL009 10.0.0.0/8 is both allowed and denied | remove one; it is allowed on line 9"],
    );
    assert!(findings(&guarded("allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/9\"]")).is_empty());
}

#[test]
fn a_list_of_nobody_is_no_list() {
    let (_directory, config) = beside(&[("nobody", "# nobody\n\n"), ("one", "10.0.0.1\n")]);
    let nobody = "BAL005 `service.allow` and `service.allow_file` name no prefix, so that nobody could open a flow";
    says(&guarded("allow = []"), &[&format!("9:9 {nobody}")]);
    let found = findings_beside(&config, &guarded("allow_file = \"nobody\""));
    assert!(found.len() == 1 && found[0].contains(nobody), "{found:#?}");
    assert!(findings_beside(&config, &guarded("allow = []\nallow_file = \"one\"")).is_empty());
    assert!(findings_beside(&config, &guarded("deny_file = \"nobody\"")).is_empty());
}

#[test]
fn files_are_read_beside_the_config() {
    let text = "\u{feff}# the office\n10.0.0.0/8   # all of it\r\n\n  192.0.2.7\n10.0.0.0/8\n#10.0.0.1/8";
    let (directory, config) = beside(&[("office.txt", text), ("deny.txt", "10.9.0.0/16")]);
    let read = |path: &Path| {
        let lines = format!("allow = [\"198.51.100.0/24\"]\nallow_file = {path:?}\ndeny_file = \"deny.txt\"");
        parse(&config, &guarded(&lines)).unwrap_or_else(|problems| panic!("{problems}")).services[0].guard.clone()
    };
    let relative = read(Path::new("office.txt"));
    assert_eq!(relative.allow, prefixes(&["10.0.0.0/8", "192.0.2.7/32", "198.51.100.0/24"]));
    assert_eq!(relative.deny, prefixes(&["10.9.0.0/16"]));
    assert_eq!(read(&directory.path().join("office.txt")), relative, "an absolute path");
    std::fs::write(&config, guarded("deny_file = \"deny.txt\"")).unwrap();
    assert_eq!(load(Path::new(&config)).unwrap().config.services[0].guard.deny, relative.deny);
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    let (directory, config) = beside(&[("deny.txt", "10.0.0.0/8\n\n10.0.0.1/8\n2001:db8::1\n")]);
    let file = directory.path().join("deny.txt").display().to_string();
    let found = findings_beside(&config, &guarded("deny_file = \"deny.txt\""));
    assert_eq!(found.len(), 2, "{found:#?}");
    let bits = format!("9:13 BAL005 {file}:3: \"10.0.0.1/8\" in `service.deny` has bits set behind its first 8");
    assert!(found[0].starts_with(&bits), "{found:#?}");
    assert!(found[1].starts_with(&format!("9:13 BAL009 {file}:4: \"2001:db8::1\"")), "{found:#?}");
    let both = findings_beside(&config, &guarded("allow = [\"10.0.0.0/8\"]\ndeny_file = \"deny.txt\""));
    assert!(
        both.iter().any(|line| line.contains(&format!("{file}:1: 10.0.0.0/8 is both allowed and denied"))),
        "{both:#?}"
    );
    let other = findings_beside(&config, &guarded("allow_file = \"deny.txt\"\ndeny = [\"10.0.0.0/8\"]"));
    assert!(other.iter().any(|line| line.ends_with(&format!("remove one; it is allowed at {file}:1"))), "{other:#?}");
}

#[test]
fn a_file_that_is_no_list_is_said_in_few_words() {
    let lines: String = (0..500).map(|i| format!("line {i}\n")).collect();
    let (_directory, config) = beside(&[("letter.txt", &lines)]);
    let found = findings_beside(&config, &guarded("deny_file = \"letter.txt\""));
    assert_eq!(found.len(), 10);
    assert!(found[9].contains("letter.txt:10: ") && found[9].contains("; 490 more like it"), "{}", found[9]);
}

#[test]
fn files_that_can_not_be_read_are_named() {
    let (directory, config) = beside(&[("ok.txt", "10.0.0.1")]);
    std::fs::write(directory.path().join("binary"), [0xff, 0xfe]).unwrap();
    for (name, reason) in [
        ("none.txt", "none.txt can't be read: No such file"),
        (".", "is a directory, not a regular file"),
        ("/dev/zero", "/dev/zero is a device, not a regular file"),
        ("binary", "binary is not UTF-8 text"),
    ] {
        let found = findings_beside(&config, &guarded(&format!("allow_file = {name:?}")));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with("9:14 BAL001 `service.allow_file`: ") && found[0].contains(reason), "{found:#?}");
    }
    says(&guarded("deny_file = [\"a\"]"), &["`service.deny_file` is an array, not a string"]);
}

#[test]
fn all_lists_together_keep_to_the_limit() {
    let second = "[[service]]\nname = \"b\"\nprotocol = \"udp\"\naddress = \"192.0.2.1\"\nport = 80\nforward = \"l2\"\n\
                  allow = [\"10.0.0.1\", \"10.0.0.1\"]\ndeny = [\"10.0.0.3\", \"10.0.0.4\"]\n";
    let limited =
        |limit: u32| format!("{}{second}[limits]\nacl_prefixes = {limit}\n", guarded("deny = [\"10.0.0.1\"]"));
    assert_eq!(findings(&limited(4)), Vec::<String>::new());
    says(
        &limited(3),
        &[
            "17:8 BAL008 the file has 4 prefixes in allow and deny lists, more than `limits.acl_prefixes` = 3 | raise `limits.acl_prefixes`",
        ],
    );
}

#[test]
fn a_hundred_thousand_prefixes_are_read_in_a_moment() {
    let lines: String =
        (0..100_000u32).map(|i| format!("10.{}.{}.{}/32\n", i >> 16, (i >> 8) & 255, i & 255)).collect();
    let (_directory, config) = beside(&[("long.txt", &lines)]);
    let text = guarded("deny_file = \"long.txt\"\nallow = [\"0.0.0.0/0\"]");
    let start = std::time::Instant::now();
    let read = parse(&config, &text).unwrap();
    // A tenth of a second, on a machine that does other things at the same time.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(read.services[0].guard.deny.len(), 100_000);
}

#[test]
fn rates_have_a_burst() {
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    assert_eq!(guard("new_flows_per_second = 1000").rate, rate(1000, 1000));
    let both = guard(
        "new_flows_per_second = 10000000\nnew_flows_burst = 1\nsource_new_flows_per_second = 5\nsource_new_flows_burst = 50",
    );
    assert_eq!((both.rate, both.source_rate), (rate(10_000_000, 1), rate(5, 50)));
    assert_eq!(guard("source_new_flows_per_second = 5").source_rate, rate(5, 5));
    for key in ["new_flows", "source_new_flows"] {
        says(
            &guarded(&format!("{key}_burst = 5")),
            &[&format!(
                "BAL009 `service.{key}_burst` says how far `{key}_per_second` may be exceeded, which is missing | add `{key}_per_second`"
            )],
        );
        for wrong in [0, 10_000_001] {
            says(
                &guarded(&format!("{key}_per_second = {wrong}\n{key}_burst = {wrong}")),
                &[
                    &format!(
                        "`service.{key}_per_second` = {wrong} is out of range | write a number from 1 to 10000000"
                    ),
                    &format!("`service.{key}_burst` = {wrong} is out of range"),
                ],
            );
        }
    }
}
