//! `balancer loadtest`.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use super::args::Loadtest;
use super::render::{percent, table, text};
use crate::control::api::{BackendState, ServiceStatus};
use crate::control::client::Client;
use crate::controller::requests::GetStatus;
use crate::loadtest::connect::{Connection, Exchange};
use crate::loadtest::report::{Percentiles, Reached, Report};
use crate::loadtest::schedule::Schedule;
use crate::loadtest::{Load, Progress};
use crate::model::Protocol;
use crate::printable;

/// Seconds between lines of progress where they can't be written over one another.
const LINE_EVERY: u64 = 5;

pub(super) async fn run(client: &Client, args: &Loadtest) -> Result<ExitCode> {
    let status = GetStatus { service: Some(args.service.clone()) };
    let before = client.ask(&status).await?;
    let service = before.services.first().with_context(|| format!("there is no service {}", args.service))?;
    let load = load(args, service)?;
    for backend in service.backends.iter().filter(|backend| backend.state != BackendState::Up) {
        let reason = backend.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let reason = printable::line(&reason);
        eprintln!("warning: {}/{} is {}{reason}", service.name, backend.name, backend.state.as_str());
    }
    if !args.yes && !confirmed(args, &load)? {
        bail!("nothing was opened");
    }
    let terminal = std::io::stderr().is_terminal();
    let tally = load.run(|progress| show(&progress, terminal)).await?;
    if terminal {
        eprint!("\r\x1b[K");
    }
    let after = client.ask(&status).await.map_err(|error| error.to_string());
    let report = Report::new(&args.service, &load, &tally, &before, after.as_ref().map_err(Clone::clone));
    super::show(args.output, &report, self::report)?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(super::NO) })
}

/// What was asked for, if it makes sense for this service.
fn load(args: &Loadtest, service: &ServiceStatus) -> Result<Load> {
    let ServiceStatus { name, protocol, .. } = service;
    ensure!(
        *protocol == Protocol::Tcp,
        "{name} is a {protocol} service, and connections are of tcp: name one that `balancer status` lists as tcp"
    );
    ensure!(
        args.to.is_some() || service.port != 0,
        "{name} is on all ports: say by `--to {}:PORT` on which to connect",
        service.address
    );
    let target = args.to.unwrap_or(SocketAddr::new(service.address, service.port));
    for source in &args.from {
        let same = source.is_ipv4() == target.is_ipv4();
        ensure!(same, "--from {source} can't reach {target}: let both be IPv4 or both be IPv6");
    }
    let rate = NonZeroU32::new(args.rate).context("--rate 0 opens no connections")?;
    let exchange = match (&args.request, &args.http) {
        (Some(text), _) => Exchange::Text(text.clone().into()),
        (None, Some(path)) => Exchange::http(path, target),
        (None, None) => Exchange::None,
    };
    Ok(Load {
        schedule: Schedule::new(rate, args.duration, args.connections as usize)?,
        connection: Connection { target, timeout: args.timeout, exchange },
        sources: args.from.clone(),
    })
}

/// Asks whoever sits at a terminal; a script has said what it wants by being written.
fn confirmed(args: &Loadtest, load: &Load) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let (count, target) = (load.schedule.count(), load.connection.target);
    eprint!("Open {count} connections to {} at {target}, {} a second? [y/N] ", args.service, args.rate);
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn show(progress: &Progress<'_>, terminal: bool) {
    let seconds = progress.elapsed.as_secs();
    if terminal {
        eprint!("\r{}\x1b[K", line(progress));
    } else if seconds > 0 && seconds.is_multiple_of(LINE_EVERY) {
        eprintln!("{}", line(progress));
    }
}

fn line(progress: &Progress<'_>) -> String {
    let Progress { elapsed, open, tally } = progress;
    let mut out = format!("{} s: {} opened, {open} open", elapsed.as_secs(), tally.opened);
    let _ = write!(out, ", {} failed, {} skipped", tally.failures.total(), tally.skipped());
    if let Some(connected) = Percentiles::of(&tally.connected) {
        let _ = write!(out, ", p99 of connect {}", time(connected.p99));
    }
    out
}

/// Microseconds as people read them: three digits.
fn time(microseconds: u64) -> String {
    let (value, unit) = match microseconds as f64 {
        us @ ..999.5 => return format!("{us:.0} µs"),
        us @ ..999_500.0 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

fn report(report: &Report) -> String {
    let Report { service, target, rate, seconds, connections, failures, .. } = report;
    let mut out = format!("{service} at {target}: {} connections in {:.1} s\n", connections.opened, seconds.taken);
    let _ = writeln!(out, "  rate       {:.1} a second; {} were asked for", rate.achieved, rate.asked);
    let _ = writeln!(
        out,
        "  opened     {}: {} succeeded, {} failed; at most {} at once",
        connections.opened, connections.succeeded, connections.failed, connections.most_open
    );
    let kinds = [("refused", failures.refused), ("reset", failures.reset), ("timed out", failures.timed_out)];
    let kinds = kinds.into_iter().chain(failures.other.iter().map(|(text, count)| (text.as_str(), *count)));
    for (kind, count) in kinds.filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, "  ! failed   {count}: {kind}");
    }
    if connections.unfinished > 0 {
        let _ = writeln!(out, "  broken off {}", connections.unfinished);
    }
    if connections.skipped > 0 {
        let (skipped, most) = (connections.skipped, connections.most_open_allowed);
        let _ = writeln!(out, "  ! skipped  {skipped} of {}, with {most} allowed at once", connections.asked);
    }
    out += &latencies(report);
    out += &shares(&report.backends);
    for note in &report.notes {
        let _ = writeln!(out, "  ! {note}");
    }
    out
}

fn latencies(report: &Report) -> String {
    let measured = &report.latency_us;
    let mut rows = table(&["from when it was due", "p50", "p90", "p99", "p99.9", "max"], 1);
    let named =
        [("begun, by this host", measured.begin), ("connected", measured.connect), ("first answer", measured.answer)];
    for (name, percentiles) in named {
        let Some(Percentiles { p50, p90, p99, p99_9, max }) = percentiles else { continue };
        rows.add_row([vec![name.to_owned()], [p50, p90, p99, p99_9, max].map(time).to_vec()].concat());
    }
    format!("\n{}", text(&rows))
}

fn shares(backends: &[Reached]) -> String {
    if backends.is_empty() {
        return String::new();
    }
    let mut rows = table(&["backend", "planned", "observed", "new flows", "difference", "by chance"], 1);
    for backend in backends {
        let relative = |prefix: &str, value: Option<f64>| match value {
            Some(value) => format!("{prefix}{value:.1} %"),
            None => "-".to_owned(),
        };
        let sign = if backend.difference_percent.is_some_and(|difference| difference >= 0.0) { "+" } else { "" };
        rows.add_row(vec![
            backend.name.to_string(),
            percent(backend.planned),
            percent(backend.observed),
            backend.new_flows.to_string(),
            relative(sign, backend.difference_percent),
            relative("± ", backend.chance_percent),
        ]);
    }
    format!("\n{}", text(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (microseconds, wanted) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1000, "1.00 ms"),
            (9_994, "9.99 ms"),
            (9_996, "10.0 ms"),
            (99_960, "100 ms"),
            (999_499, "999 ms"),
            (999_600, "1.00 s"),
            (61_000_000, "61.0 s"),
        ] {
            assert_eq!(time(microseconds), wanted);
        }
    }
}
