//! `balancer status`: what is wrong first, then services, on 80 columns; everything with `--wide`.

mod age;
mod columns;
mod csv;
mod screen;
#[cfg(test)]
pub(super) mod tests;
mod text;
mod wrong;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

use super::args::{Output, Sort, StatusArgs, StatusFormat};
use super::{print, render, show};
use crate::control::api::Status;
use crate::control::client::Client;
use crate::controller::requests::GetStatus;

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;
/// Takes a terminal back to its first column and row, and forgets what it shows.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// What of a status is shown, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// Columns of the terminal.
    width: usize,
    now: SystemTime,
    /// One service was asked for: all its backends.
    whole: bool,
    down_only: bool,
    sort: Sort,
    /// An earlier status, and how long before this one it was asked for.
    before: Option<(&'a Status, Duration)>,
}

pub(super) async fn run(client: &Client, args: StatusArgs) -> Result<ExitCode> {
    let format = if args.output.json { StatusFormat::Json } else { args.format };
    let Some(pause) = args.watch else {
        let status = ask(client, &args).await?;
        print_once(&status, &args, format, None)?;
        return Ok(ExitCode::SUCCESS);
    };
    if !matches!(format, StatusFormat::Text) {
        bail!("--watch is for people: leave out --format and --json");
    }
    let terminal = std::io::stdout().is_terminal();
    let mut before: Option<(Status, Instant)> = None;
    loop {
        let (status, now) = (ask(client, &args).await?, Instant::now());
        if terminal {
            std::io::stdout().write_all(CLEAR.as_bytes())?;
        }
        let earlier = before.as_ref().map(|(status, then)| (status, now.duration_since(*then)));
        print_once(&status, &args, format, earlier)?;
        before = Some((status, now));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn ask(client: &Client, args: &StatusArgs) -> Result<Status> {
    Ok(client.ask(&GetStatus { service: args.service.clone() }).await?)
}

fn print_once(
    status: &Status,
    args: &StatusArgs,
    format: StatusFormat,
    before: Option<(&Status, Duration)>,
) -> Result<()> {
    match format {
        StatusFormat::Json => show(Output { json: true }, status, |_| String::new()),
        StatusFormat::Csv => print(&csv::csv(status)),
        StatusFormat::Text if args.wide => print(&render::status(status)),
        StatusFormat::Text => {
            let view = View {
                width: terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| width.0.into()),
                now: SystemTime::now(),
                whole: args.service.is_some(),
                down_only: args.down,
                sort: args.sort,
                before,
            };
            let coloured =
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            screen::print(&text::status(status, &view), coloured)
        }
    }
}

/// The status as lines without colours.
#[cfg(test)]
fn plain(status: &Status, view: &View<'_>) -> String {
    text::status(status, view).plain()
}
