//! The command line: `args` has every command and flag, `render` what people read, this file one arm a command.

mod args;
mod backends;
mod capture;
mod check;
mod completion;
mod detach;
mod doctor;
mod drill;
mod generations;
#[cfg(test)]
mod golden;
mod import;
mod init;
mod loadtest;
mod manual;
mod new_file;
mod refusal;
mod rehearse;
mod render;
mod runbook;
mod status;
mod top;
mod verify;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use serde::Serialize;
use tokio::runtime::Builder;

use self::args::{Cli, Command, Format, Output, Why};
use crate::control::client::Client;
use crate::controller::requests::{
    self, Apply, Capture, ConfigText, Confirm, Drain, Explain, GetGeneration, GetHistory, MakePlan, Rehearse, Reload,
    Rollback, SetWeight, Undrain, VerifyHistory,
};
use crate::{controller, logging, printable, spec};

/// The answer is no.
const NO: u8 = 1;
const UNREACHABLE: u8 = 3;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    completion::answer();
    let matches = Cli::command().get_matches();
    let json = refusal::as_json(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    run(cli).unwrap_or_else(|error| refusal::say(&error, json))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Run { config } = &cli.command {
        return serve(config);
    }
    let mut builder = match cli.command {
        // Connections are opened on time while others are talked to.
        Command::Loadtest(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build()?.block_on(command(cli))
}

fn serve(config: &Path) -> anyhow::Result<ExitCode> {
    logging::start();
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(controller::run(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    let client = Client::new(&cli.socket);
    match cli.command {
        Command::Run { .. } => {}
        Command::Check { file, explain, here, format, output } => {
            let format = if output.json { Format::Json } else { format };
            return check::run(file.as_deref(), explain.as_deref(), here, format);
        }
        Command::Status(args) => return status::run(&client, *args).await,
        Command::Top { every } => return top::run(&client, every).await,
        Command::Verify { service, output } => {
            let verification = client.ask(&requests::Compare { service }).await?;
            show(output, &verification, verify::verification)?;
            if !verification.gaps.is_empty() {
                return Ok(ExitCode::from(NO));
            }
        }
        Command::Drill { fault, output } => return drill::run(&client, fault, output).await,
        Command::Runbook { name } => print(&runbook::entry(name.as_deref())?)?,
        Command::Weight { backend: id, weight, why: Why { accept, reason }, output, .. } => {
            show(output, &client.ask(&SetWeight { id, weight, accept, reason }).await?, render::changed)?;
        }
        Command::Drain { backend: id, why: Why { accept, reason }, output } => {
            show(output, &client.ask(&Drain { id, accept, reason }).await?, render::changed)?;
        }
        Command::Undrain { backend: id, why: Why { accept, reason }, output } => {
            show(output, &client.ask(&Undrain(Drain { id, accept, reason })).await?, render::changed)?;
        }
        Command::Explain { protocol, source, destination, with, at, output } => {
            let named = |file: &Path| -> anyhow::Result<_> {
                Ok(ConfigText { text: text(file)?, file: file.display().to_string() })
            };
            let with = with.as_deref().map(named).transpose()?;
            let explanation = client.ask(&Explain { protocol, source, destination, with, at }).await?;
            show(output, &explanation, render::explanation)?;
            if explanation.program.as_ref().is_some_and(|program| !program.agrees) {
                return Ok(ExitCode::from(NO));
            }
        }
        Command::Capture { service, flow, out, count, seconds, rate, one_in } => {
            let flow = flow.map(|words| capture::flow(&words)).transpose()?;
            let request = Capture { service, flow, count, seconds, rate, one_in };
            capture::run(&client, &request, &out).await?;
        }
        Command::Loadtest(args) => return loadtest::run(&client, &args).await,
        Command::Doctor { subject, output } => return doctor::run(&client, subject, output).await,
        Command::Import { origin, file, interface, out, output } => {
            return import::run(origin, &file, interface, &out, output);
        }
        Command::Plan { file, output } => {
            let request = Apply { text: text(&file)?, file: file.display().to_string(), ..Apply::default() };
            show(output, &client.ask(&MakePlan(request)).await?, generations::plan)?;
        }
        Command::Rehearse { file, profile, service, output } => {
            let (text, file) = (text(&file)?, file.display().to_string());
            let rehearsed = client.ask(&Rehearse { text, file, profile, service }).await?;
            show(output, &rehearsed, rehearse::rehearsed)?;
            return Ok(if rehearsed.exceeded { ExitCode::from(NO) } else { ExitCode::SUCCESS });
        }
        Command::Apply { file, plan, why: Why { accept, reason }, guard, dry_run, output } => {
            let (text, file) = (text(&file)?, file.display().to_string());
            let request = Apply { text, file, accept, reason, dry_run, plan, guard };
            show(output, &client.ask(&request).await?, render::reloaded)?;
        }
        Command::Confirm { output } => show(output, &client.ask(&Confirm {}).await?, render::reloaded)?,
        Command::Rollback { generation, reason, output } => {
            show(output, &client.ask(&Rollback { generation, reason }).await?, render::reloaded)?;
        }
        Command::History { verify: true, output } => {
            show(output, &client.ask(&VerifyHistory {}).await?, generations::verified)?;
        }
        Command::History { verify: false, output } => {
            show(output, &client.ask(&GetHistory {}).await?, generations::history)?
        }
        Command::Show { generation, output } => {
            show(output, &client.ask(&GetGeneration { number: generation }).await?, generations::generation)?;
        }
        Command::Diff { from, to, output } => {
            let from = client.ask(&GetGeneration { number: from }).await?;
            let to = client.ask(&GetGeneration { number: to }).await?;
            show(output, &generations::Difference::of(&from, &to), generations::Difference::text)?;
        }
        Command::Reload { output } => show(output, &client.ask(&Reload {}).await?, render::reloaded)?,
        Command::Completions { shell } => completion::run(shell)?,
        Command::Manual { directory } => manual::write(&directory)?,
        Command::Init { file, stdout } => init::run(&file, stdout)?,
        Command::Detach { pin_dir, config, output } => {
            let (client, pin_dir) = detach::places(client, pin_dir, config.as_deref());
            return detach::run(&client, &pin_dir, output).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The content of a config file; what is wrong with it the controller says.
fn text(file: &Path) -> anyhow::Result<String> {
    Ok(spec::text(file)?)
}

/// Prints a value for scripts or for people.
fn show<T: Serialize>(output: Output, value: &T, render: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    print(&if output.json { serde_json::to_string(value)? + "\n" } else { render(value) })
}

/// Prints what may hold what somebody else wrote.
fn print(text: &str) -> anyhow::Result<()> {
    write(&printable::block(text))
}

/// Prints what is fit for a terminal.
fn write(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}
