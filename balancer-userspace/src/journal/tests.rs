use std::time::Duration;

use super::*;
use crate::spec;

const SECRET: u64 = 0x5d1c_3a97_f0e2_b648;

fn services() -> Vec<Service> {
    let text =
        "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"192.0.2.10\"\nport = 80\nforward = \"l2\"\n";
    spec::parse("test.toml", &format!("[[interface]]\nname = \"eth0\"\n{text}")).unwrap().services.to_vec()
}

fn open(directory: &Path, seed: u64) -> Journal {
    Journal::open(directory, &services(), seed, Vec::new)
}

fn secret(seed: u64) -> Secret {
    Secret { seed, keys: flow_keys(&services()[0], seed) }
}

fn change(generation: u64, weights: &[u32]) -> Change {
    let named = |(place, weight): (usize, &u32)| (format!("b{place}").parse().unwrap(), Weight::new(*weight).unwrap());
    let time = humantime::parse_rfc3339("2026-11-21T10:00:00Z").unwrap() + Duration::from_secs(generation);
    Change {
        generation,
        at: humantime::format_rfc3339_millis(time).to_string(),
        service: "web".parse().unwrap(),
        cause: format!("change {generation}"),
        mark: Mark::of(&secret(SECRET)),
        table_size: TableSize::new(1009).unwrap(),
        port_mask: u32::MAX,
        weights: weights.iter().enumerate().map(named).collect(),
        secret: Some(secret(SECRET)),
    }
}

fn lines(directory: &Path) -> usize {
    fs::read_to_string(directory.join("tables.jsonl")).unwrap().lines().count()
}

#[test]
fn an_owner_came_with_the_change_after_the_last_other_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path(), SECRET);
    let service = "web".parse().unwrap();
    for (generation, weights) in [(1, [1, 1]), (2, [1, 3]), (3, [1, 3]), (4, [1, 9]), (5, [2, 9])] {
        journal.note(vec![change(generation, &weights)]).unwrap();
    }
    let again = open(directory.path(), SECRET);
    assert_eq!(again.changes, journal.changes);
    assert_eq!(journal.changes[&service].len(), 4, "one changed nothing");
    for slot in 0..1009 {
        let owners: Vec<_> = journal.changes[&service].iter().map(|change| change.owner(slot).cloned()).collect();
        let since = (1..owners.len()).rev().find(|place| owners[*place] != owners[place - 1]).unwrap_or(0);
        assert_eq!(journal.put_there(&service, slot).unwrap(), &journal.changes[&service][since]);
    }
    let time = humantime::parse_rfc3339("2026-11-21T10:00:03.500Z").unwrap();
    assert_eq!(journal.at(&service, time).unwrap().generation, 2);
    assert_eq!(journal.at(&service, SystemTime::UNIX_EPOCH), None);
}

#[test]
fn what_is_no_line_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path(), SECRET);
    journal.note(vec![change(1, &[1, 1])]).unwrap();
    let path = directory.path().join("tables.jsonl");
    let mut text = fs::read(&path).unwrap();
    text.extend(b"\xff\xfe\n{\"generation\": 1, \"at\": \"2026");
    fs::write(&path, text).unwrap();
    let mut journal = open(directory.path(), SECRET);
    journal.note(vec![change(2, &[1, 2])]).unwrap();
    let again = open(directory.path(), SECRET);
    assert_eq!(again.changes[&"web".parse().unwrap()].len(), 2);
    assert_eq!(lines(directory.path()), 2);
}

#[test]
fn the_file_stays_bounded_while_the_controller_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path(), SECRET);
    for generation in 1..=1000 {
        journal.note(vec![change(generation, &[1, 1 + generation as u32 % 7])]).unwrap();
        assert!(lines(directory.path()) <= 2 * MOST, "at {generation}");
    }
    assert_eq!(open(directory.path(), SECRET).changes, journal.changes);
}

#[test]
fn the_file_holds_no_secret_and_an_old_one_is_rid_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tables.jsonl");
    // As it was written before.
    let Secret { seed, keys } = secret(SECRET);
    let old = serde_json::json!({
        "generation": 1, "at": "2026-11-20T10:00:00.000Z", "service": "web", "cause": "start", "seed": seed,
        "table_size": 1009, "keys": keys, "port_mask": u32::MAX, "weights": [["b0", 1], ["b1", 1]],
    });
    fs::write(&path, format!("{old}\n")).unwrap();
    let mut journal = open(directory.path(), SECRET);
    journal.note(vec![change(2, &[1, 2])]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    for word in [seed, keys[0], keys[1]] {
        assert!(!text.contains(&word.to_string()) && !text.contains(&format!("{word:x}")), "{text}");
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What it says is the same for whoever knows the seed: from the config, or from an older one.
    let service = "web".parse().unwrap();
    let flow = Hashed { is_ipv6: false, source: [7, 0, 0, 0], ports: 9 };
    for again in [open(directory.path(), SECRET), Journal::open(directory.path(), &services(), 1, || vec![2, SECRET])] {
        assert_eq!(again.changes, journal.changes);
        assert_eq!(again.oldest(&service).unwrap().slot(&flow), change(2, &[1, 2]).slot(&flow));
    }
    let unknown = open(directory.path(), 1);
    assert_eq!(unknown.oldest(&service).unwrap().slot(&flow), None);
    assert_eq!(unknown.put_there(&service, 3).unwrap().generation, 2, "who put an owner there is not guessed");
}
