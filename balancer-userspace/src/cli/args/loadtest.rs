//! What `balancer loadtest` takes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::Output;
use super::values::{duration, path};
use crate::cli::completion;
use crate::loadtest::schedule::MOST_RATE;
use crate::model::ServiceName;

#[derive(Debug, Args)]
pub struct Loadtest {
    /// A tcp service, such as web
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completion::services))]
    pub service: ServiceName,
    /// New connections a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_RATE)))]
    pub rate: u32,
    /// How long, such as 30s; rate times duration is 10,000,000 at most
    #[arg(long, value_name = "D", value_parser = duration)]
    pub duration: Duration,
    /// Connections that may be open at once
    #[arg(long, value_name = "MAX", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Send this text on each connection, as it is, and wait for the first bytes of an answer
    #[arg(long, value_name = "TEXT", conflicts_with = "http")]
    pub request: Option<String>,
    /// Send an HTTP request for this path on each connection, and read the answer; a status from 400 on is a failure
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub http: Option<String>,
    /// Local addresses to connect from in turn
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub from: Vec<IpAddr>,
    /// Connect here rather than to the service's own address; shares are still those of the service
    #[arg(long, value_name = "ADDR:PORT")]
    pub to: Option<SocketAddr>,
    /// Longest time for a connection, its answer included
    #[arg(long, value_name = "D", default_value = "3s", value_parser = duration)]
    pub timeout: Duration,
    /// Don't ask on a terminal whether to begin
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::args::Cli;

    #[test]
    fn a_load_is_bounded_and_sends_one_thing() {
        let parse = |more: &str| {
            let line = format!("balancer loadtest web --duration 3s {more}");
            Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
        };
        assert!(parse("--rate 200000 --http / --from 10.0.0.1,10.0.0.2 --from ::1").is_ok());
        for (more, said) in [
            ("", "--rate"),
            ("--rate 0", "1..=200000"),
            ("--rate 200001", "1..=200000"),
            ("--rate 1 --connections 0", "1..=100000"),
            ("--rate 1 --timeout 0s", "100ms to 24h"),
            ("--rate 1 --http / --request x", "cannot be used with"),
            ("--rate 1 --http index.html", "such as /index.html"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.contains(said), "no {said:?} in {error}");
        }
    }
}
