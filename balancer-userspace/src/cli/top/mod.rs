//! `balancer top`: services and backends, each second, with keys for weights and drains.
//!
//! `app` holds what is known and what a key does, without a terminal; `draw` shows it; this file has the terminal and the
//! controller.

mod app;
mod change;
mod draw;
#[cfg(test)]
mod tests;
mod trend;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::future::{Fuse, FusedFuture};
use futures::{FutureExt, StreamExt};
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use self::app::{App, Then};
use self::change::Change;
use crate::control::client::{AskError, Client};
use crate::controller::requests::{Drain, GetStatus, SetWeight, Undrain};

pub(super) async fn run(client: &Client, pause: Duration) -> Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`balancer top` needs a terminal; `balancer status` prints");
    }
    // A controller that does not answer is said before the screen is taken.
    let status = client.ask(&GetStatus { service: None }).await?;
    let mut app = App::new(std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()));
    app.answered(status, Duration::ZERO);
    // The panic hook that comes with it gives the terminal back first.
    let terminal = ratatui::try_init()?;
    let outcome = follow(terminal, client, &mut app, pause).await;
    ratatui::restore();
    outcome
}

async fn follow(mut terminal: DefaultTerminal, client: &Client, app: &mut App, pause: Duration) -> Result<ExitCode> {
    let start = Instant::now();
    let mut keys = EventStream::new();
    let mut clock = interval(pause);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut asking = Fuse::terminated();
    let mut changing = Fuse::terminated();
    loop {
        terminal.draw(|frame| draw::draw(frame, app))?;
        tokio::select! {
            _ = clock.tick() => {
                if asking.is_terminated() {
                    asking = Box::pin(ask(client.clone())).fuse();
                }
            }
            status = &mut asking => match status {
                Ok(status) => app.answered(status, start.elapsed()),
                Err(error) => app.silent(error.to_string()),
            },
            said = &mut changing => app.changed(said),
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => match app.key(key) {
                    Then::Quit => return Ok(ExitCode::SUCCESS),
                    Then::Do(change) => changing = Box::pin(apply(client.clone(), change)).fuse(),
                    Then::Nothing => {}
                },
                Some(Ok(_)) => {}
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(ExitCode::SUCCESS),
            },
            _ = terminated.recv() => return Ok(ExitCode::SUCCESS),
            _ = hung_up.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn ask(client: Client) -> Result<crate::control::api::Status, AskError> {
    client.ask(&GetStatus { service: None }).await
}

/// What came of it, for the line at the bottom.
async fn apply(client: Client, change: Change) -> Result<String, String> {
    let (accept, reason) = (Vec::new(), None);
    let said = change.to_string();
    let answer = match change {
        Change::Drain(id) => client.ask(&Drain { id, accept, reason }).await,
        Change::Undrain(id) => client.ask(&Undrain(Drain { id, accept, reason })).await,
        Change::Weight(id, weight) => client.ask(&SetWeight { id, weight: Some(weight), accept, reason }).await,
    };
    match answer {
        Ok(changed) => Ok(format!("{said}: generation {}", changed.generation)),
        Err(error) => Err(format!("{said}: {error}")),
    }
}
