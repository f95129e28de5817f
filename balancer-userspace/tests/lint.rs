//! Every finding: a config that has it, with what is said about it (`lint/ID.txt`), and one that almost has it.
//!
//! `UPDATE_GOLDEN=1 cargo test -p balancer-userspace --test lint` writes what is said; read the difference.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use balancer::spec::lint::Host;
use balancer::spec::{self, CATALOGUE, Diagnostics};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lint").join(name)
}

/// Of a host with an Ethernet and an address of its own.
fn findings(name: &str) -> Diagnostics {
    let host = Host { addresses: vec![[192, 0, 2, 7].into()], mtus: HashMap::from([("eth0".to_owned(), 1500)]) };
    let text = fs::read_to_string(place(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    // The name alone, so that what is said does not depend on where this is.
    match spec::read(name, text, Path::new("")) {
        Ok(loaded) => loaded.findings(&host),
        Err(problems) => problems,
    }
}

#[test]
fn every_finding_is_found_and_said_as_it_was() {
    for entry in &CATALOGUE {
        let found = findings(&format!("{}.toml", entry.id));
        // Most of these files have no seed of their own.
        let shown = found.findings.iter().filter(|finding| finding.id == entry.id || finding.id != "BAL033");
        let said: String = shown.map(ToString::to_string).collect();
        let own: Vec<_> = found.findings.iter().filter(|finding| finding.id == entry.id).collect();
        assert!(!own.is_empty(), "{} is not found, but\n{said}", entry.id);
        assert!(own.iter().all(|finding| finding.severity == entry.severity && finding.silenced.is_none()));
        let golden = place(&format!("{}.txt", entry.id));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &said).unwrap();
        }
        assert_eq!(said, fs::read_to_string(&golden).unwrap_or_default(), "{}", entry.id);
    }
}

#[test]
fn what_almost_has_a_finding_has_it_not() {
    for entry in &CATALOGUE {
        let found = findings(&format!("{}.almost.toml", entry.id));
        let own = found.findings.iter().find(|finding| finding.id == entry.id);
        assert!(own.is_none(), "{}", own.map(ToString::to_string).unwrap_or_default());
    }
}

#[test]
fn a_silence_hides_what_it_names_and_says_why() {
    let found = findings("BAL028.almost.toml");
    let uneven = found.findings.iter().find(|finding| finding.id == "BAL016").unwrap();
    assert_eq!(uneven.silenced.as_deref(), Some("b1 is the older machine"));
    assert!(!uneven.counts());
}

/// Weight per capacity is what counts, not that capacities differ somehow.
#[test]
fn weights_are_judged_by_capacity_within_the_tolerance() {
    let ids = |lint: &str, backends: &[(u32, &str)]| -> Vec<&str> {
        let mut text = format!(
            "{lint}\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
             address = \"203.0.113.10\"\nport = 443\nforward = \"l2\"\nmax_share = 1.0\n"
        );
        for (number, (weight, capacity)) in backends.iter().enumerate() {
            text += &format!("[[service.backend]]\nname = \"b{number}\"\naddress = \"10.0.0.{}\"\n", 1 + number);
            text += &format!("weight = {weight}\n");
            if !capacity.is_empty() {
                text += &format!("capacity = {{ {capacity} }}\n");
            }
        }
        let loaded = spec::read("f.toml", text, Path::new("")).unwrap();
        loaded.findings(&Host::default()).findings.iter().filter(|f| f.counts()).map(|f| f.id).collect()
    };
    let flows = |most: u32| format!("new_flows_per_second = {most}");
    let (one, four) = (flows(1000), flows(4000));
    assert_eq!(ids("", &[(10, &four), (100, &one), (100, &one)]), ["BAL016"], "the wrong way round");
    assert_eq!(ids("", &[(100, &one), (400, &four)]), [""; 0]);
    assert_eq!(ids("", &[(109, &one), (400, &four)]), [""; 0], "within 10 %");
    assert_eq!(ids("", &[(112, &one), (400, &four)]), ["BAL016"]);
    assert_eq!(ids("[lint]\ntolerance = 0.2", &[(112, &one), (400, &four)]), [""; 0]);
    assert_eq!(ids("", &[(100, &four), (900, "")]), ["BAL016"], "one capacity explains nothing");
    assert_eq!(ids("", &[(900, ""), (50, ""), (50, "")]), ["BAL016"]);
    assert_eq!(ids("", &[(100, &one), (100, &four)]), ["BAL017"]);
    let bits = [(100, "new_flows_per_second = 1000, bits_per_second = 1000000"), (200, "bits_per_second = 2000000")];
    assert_eq!(ids("", &bits), [""; 0], "in the unit that all declare");
}

/// What two teams would have been told before, not twelve hours after.
#[test]
fn the_outages_configs_are_stopped() {
    let ids = |text: &str| -> Vec<&str> {
        let loaded = spec::read("outage.toml", text.to_owned(), Path::new("")).unwrap();
        loaded.findings(&Host::default()).findings.iter().filter(|f| f.counts()).map(|f| f.id).collect()
    };
    let service = "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
                   address = \"203.0.113.10\"\nport = 443\nforward = \"l2\"\n";
    let backend = |number: usize, more: &str| {
        format!("[[service.backend]]\nname = \"web-{number}\"\naddress = \"10.0.0.{number}\"\n{more}\n")
    };
    // Weights set unevenly, for no reason that anybody wrote down.
    let uneven: String =
        [100, 100, 250, 250].iter().zip(1..).map(|(w, n)| backend(n, &format!("weight = {w}"))).collect();
    assert_eq!(ids(&format!("{service}{uneven}")), ["BAL016"]);
    // A setting that sends a database more than it can take.
    let peak = "[service.peak]\nnew_flows_per_second = 3000\n";
    let capacity = "capacity = { new_flows_per_second = 1600 }";
    let overloaded: String = [400, 100, 100]
        .iter()
        .zip(1..)
        .map(|(weight, number)| backend(number, &format!("weight = {weight}\n{capacity}")))
        .collect();
    assert!(ids(&format!("{service}{peak}{overloaded}")).contains(&"BAL012"));
}
