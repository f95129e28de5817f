//! `[service.connections]`.

use super::*;
use crate::model::{Connections, Tracking, WhenFull};

fn tcp(lines: &str) -> String {
    service(&format!("forward = \"l2\"\n[service.connections]\n{lines}"), &[])
}

fn udp(lines: &str) -> String {
    tcp(lines).replace("\"tcp\"", "\"udp\"")
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(model(&service("forward = \"l2\"", &[])).connections, Connections::DEFAULT);
    assert_eq!(model(&tcp("")).connections, Connections::DEFAULT);
    assert_eq!(model(&udp("")).connections, Connections::DEFAULT);
}

#[test]
fn everything_can_be_said() {
    let all = "quiet = \"5m\"\ndrain_deadline = \"2h\"\nflow_table = 64\nwhen_full = \"drop\"\ntracking = \"window\"\nwindow = \"5m\"";
    let wanted = Connections {
        quiet: minutes(5),
        drain_deadline: minutes(120),
        flow_table: 64,
        when_full: WhenFull::Drop,
        tracking: Tracking::Window(minutes(5)),
    };
    assert_eq!(model(&udp(all)).connections, wanted);
    let tracking = |lines: &str| model(&udp(lines)).connections.tracking;
    assert_eq!(tracking("tracking = \"none\""), Tracking::None);
    assert_eq!(tracking("tracking = \"full\""), Tracking::Full);
    assert_eq!(
        tracking("window = \"20s\""),
        Tracking::Window(Duration::from_secs(20)),
        "which is the default tracking"
    );
    assert_eq!(model(&tcp("when_full = \"settled\"")).connections.when_full, WhenFull::Settled);
}

#[test]
fn what_is_not_said_follows_a_quiet_that_is_very_short_or_very_long() {
    let quiet = |quiet: &str| model(&udp(&format!("quiet = {quiet:?}"))).connections;
    assert_eq!(quiet("1s").tracking, Tracking::Window(Duration::from_secs(1)));
    assert_eq!(quiet("3h").drain_deadline, minutes(180));
    assert_eq!(quiet("24h").drain_deadline, minutes(24 * 60));
    let seven_days = model(&tcp("drain_deadline = \"7d\"")).connections.drain_deadline;
    assert_eq!(seven_days, minutes(7 * 24 * 60));
}

#[test]
fn times_and_sizes_have_bounds() {
    for (lines, what) in [
        (
            "quiet = \"999ms\"",
            "10:9 BAL005 `service.connections.quiet` = \"999ms\" is out of range | write \"1s\" to \"1day\"",
        ),
        ("quiet = \"25h\"", "`service.connections.quiet` = \"1day 1h\" is out of range"),
        (
            "drain_deadline = \"8d\"",
            "`service.connections.drain_deadline` = \"8days\" is out of range | write \"1s\" to \"7days\"",
        ),
        ("quiet = 120", "`service.connections.quiet` is an integer, not a string"),
        (
            "quiet = \"10m\"\ndrain_deadline = \"5m\"",
            "11:18 BAL005 `service.connections.drain_deadline` is shorter than `quiet`, so that no slot would ever fall quiet | write at least \"10m\"",
        ),
        ("drain_deadline = \"1m\"", "write at least \"2m\", or a shorter `quiet`"),
        (
            "flow_table = 63",
            "`service.connections.flow_table` = 63 is out of range | write a number from 64 to 16777216",
        ),
        ("flow_table = 16777217", "is out of range"),
        ("when_full = \"reset\"", "`service.connections.when_full` = \"reset\" is unknown | one of: settled, drop"),
    ] {
        says(&tcp(lines), &[what]);
    }
}

#[test]
fn windows_have_bounds() {
    for (lines, what) in [
        ("window = \"500ms\"", "`service.connections.window` = \"500ms\" is out of range | write \"1s\" to \"1h\""),
        ("quiet = \"3h\"\nwindow = \"61m\"", "`service.connections.window` = \"1h 1m\" is out of range"),
        (
            "window = \"121s\"",
            "`service.connections.window` is longer than `quiet` | write at most \"2m\", or a longer `quiet`",
        ),
        (
            "tracking = \"sometimes\"",
            "`service.connections.tracking` = \"sometimes\" is unknown | one of: none, window, full",
        ),
        (
            "tracking = \"full\"\nwindow = \"10s\"",
            "11:10 BAL009 `service.connections.window` is for `tracking = \"window\"` | remove it, or set `tracking = \"window\"`",
        ),
        ("tracking = \"none\"\nwindow = \"10s\"", "`service.connections.window` is for `tracking = \"window\"`"),
    ] {
        says(&udp(lines), &[what]);
    }
}

#[test]
fn tracking_is_for_udp() {
    let both = "tracking = \"full\"\nwindow = \"10s\"";
    let wanted = [
        "BAL009 `service.connections.tracking` is for udp; flows of tcp are always kept | remove it",
        "BAL009 `service.connections.window` is for udp; flows of tcp are always kept",
    ];
    says(&tcp(both), &wanted);
    says(
        &tcp(both).replace("\"tcp\"", "\"sctp\""),
        &wanted.map(|line| line.replace("tcp", "sctp")).each_ref().map(String::as_str),
    );
}
