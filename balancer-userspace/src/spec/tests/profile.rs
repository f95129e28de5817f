//! `[profile]`.

use super::*;
use crate::model::ProfilePolicy;

fn with(lines: &str) -> String {
    format!("[profile]\n{lines}\n{}", service("forward = \"l2\"", &[]))
}

#[test]
fn days_and_interval_are_read_and_have_defaults() {
    let policy = |text: &str| parse("f.toml", text).unwrap_or_else(|problems| panic!("{problems}")).node.profile;
    assert_eq!(policy(&service("forward = \"l2\"", &[])), ProfilePolicy::DEFAULT);
    assert_eq!(policy(&with("")), ProfilePolicy::DEFAULT);
    let wanted = ProfilePolicy { days: 0, interval: Duration::from_secs(10) };
    assert_eq!(policy(&with("days = 0\ninterval = \"10s\"")), wanted);
}

#[test]
fn what_is_out_of_range_or_unknown_is_said() {
    for (lines, said) in [
        ("days = -1", "`profile.days` = -1 is out of range"),
        ("days = 4000", "write a number from 0 to 3660"),
        ("interval = \"500ms\"", "write \"1s\" to \"1h\""),
        ("interval = \"2h\"", "`profile.interval` = \"2h\" is out of range"),
        ("day = 3", "did you mean `days`?"),
    ] {
        let found = findings(&with(lines));
        assert!(found.len() == 1 && found[0].contains(said), "{lines}: {found:?}");
    }
}
