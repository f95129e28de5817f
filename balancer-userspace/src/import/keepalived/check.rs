//! keepalived's checkers.

use std::time::Duration;

use super::statement::Statement;
use super::whole;
use crate::import::Remarks;
use crate::import::health::{Check, Kind};
use crate::model::Protocol;

const NO_SUCH_CHECK: &str = "there is no such check; tcp and http are what there is";

/// keepalived.conf(5): what holds where nothing is said.
const DELAY_LOOP: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 1;
const HTTP_RETRIES: u32 = 3;
/// What a config may say at least.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a virtual server or a real one says for its checkers.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    pub delay_loop: Option<Duration>,
    pub retry: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub host: Option<String>,
}

impl Pace {
    /// Takes the statement, where it is about pace.
    pub fn takes(&mut self, statement: &Statement, remarks: &mut Remarks) -> bool {
        match statement.key() {
            "delay_loop" => self.delay_loop = seconds(statement, remarks),
            "connect_timeout" => self.connect_timeout = seconds(statement, remarks),
            "retry" | "nb_get_retry" => self.retry = statement.value().and_then(|value| value.parse().ok()),
            "virtualhost" => self.host = statement.value().map(str::to_owned),
            "delay_before_retry" => {
                remarks.differs(
                    &statement.at,
                    statement.text(),
                    "after a failure a check waits a tenth of its interval",
                );
            }
            "warmup" => remarks.not_taken(&statement.at, statement.text(), "first checks are spread by themselves"),
            _ => return false,
        }
        true
    }
}

fn seconds(statement: &Statement, remarks: &mut Remarks) -> Option<Duration> {
    let value = statement.value().and_then(|value| value.parse::<f64>().ok());
    match value.filter(|seconds| (0.0..1e6).contains(seconds)) {
        Some(seconds) => Some(Duration::from_secs_f64(seconds).max(SHORTEST)),
        None => {
            remarks.not_taken(&statement.at, statement.text(), "no number of seconds");
            None
        }
    }
}

/// Whether it is a checker.
pub(super) fn is_checker(key: &str) -> bool {
    key.ends_with("_CHECK") || matches!(key, "HTTP_GET" | "SSL_GET")
}

/// The check that a checker of keepalived becomes; none where it can't be one.
pub(super) fn read(checker: &Statement, protocol: Protocol, pace: &Pace, remarks: &mut Remarks) -> Option<Check> {
    let mut pace = pace.clone();
    let (mut port, mut kind) = (None, Kind::Tcp);
    let http = checker.key() == "HTTP_GET";
    match checker.key() {
        "HTTP_GET" => kind = Kind::Http { path: "/".to_owned(), host: None },
        "TCP_CHECK" => {}
        "SSL_GET" => remarks.differs(&checker.at, "SSL_GET", "https is checked by connecting, without a request"),
        "UDP_CHECK" | "PING_CHECK" | "BFD_CHECK" | "FILE_CHECK" => {
            remarks.not_taken(&checker.at, whole(checker), NO_SUCH_CHECK);
            return None;
        }
        _ if protocol != Protocol::Tcp => {
            remarks.not_taken(&checker.at, whole(checker), NO_SUCH_CHECK);
            return None;
        }
        _ => remarks.differs(&checker.at, checker.text(), "there is no such check: backends are checked by connecting"),
    }
    let mut paths = 0;
    for statement in &checker.block {
        if pace.takes(statement, remarks) {
            continue;
        }
        match statement.key() {
            "connect_port" => port = statement.value().and_then(|value| value.parse().ok()),
            "url" if http => {
                paths += 1;
                if paths > 1 {
                    let why = "a check asks for one path: the first";
                    remarks.not_taken(&statement.at, whole(statement), why);
                } else {
                    kind = Kind::Http { path: path_of(statement).unwrap_or("/").to_owned(), host: None };
                    url(statement, &mut pace, remarks);
                }
            }
            _ => remarks.not_taken(&statement.at, whole(statement), "a check has no such setting here"),
        }
    }
    if let Kind::Http { host, .. } = &mut kind {
        host.clone_from(&pace.host);
    }
    let interval = pace.delay_loop.unwrap_or(DELAY_LOOP);
    let wanted = pace.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    if wanted > interval {
        let why = format!("a check takes {} at most, its interval", humantime::format_duration(interval));
        remarks.differs(&checker.at, checker.text(), why);
    }
    let retries = pace.retry.unwrap_or(if http { HTTP_RETRIES } else { RETRIES });
    Some(Check { kind, port, interval, timeout: wanted.min(interval), fall: retries.saturating_add(1).min(1000) })
}

fn path_of(url: &Statement) -> Option<&str> {
    url.block.iter().find(|statement| statement.key() == "path").and_then(Statement::value)
}

fn url(url: &Statement, pace: &mut Pace, remarks: &mut Remarks) {
    for statement in &url.block {
        match statement.key() {
            "path" => {}
            "virtualhost" => pace.host = statement.value().map(str::to_owned),
            "status_code" if statement.words.len() == 2 && statement.value().is_some_and(is_success) => {
                if statement.value() != Some("200-299") {
                    remarks.differs(&statement.at, statement.text(), "200 to 299 are good");
                }
            }
            "status_code" => remarks.not_taken(&statement.at, statement.text(), "200 to 299 are good, others are not"),
            "digest" => remarks.not_taken(&statement.at, statement.text(), "the status counts, the body does not"),
            _ => remarks.not_taken(&statement.at, statement.text(), "a check has no such setting here"),
        }
    }
}

fn is_success(code: &str) -> bool {
    code.starts_with('2') && code.len() >= 3
}
