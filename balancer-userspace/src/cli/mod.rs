//! The command line: `args` has every command and flag, `render` what people read, this file one arm a command.

mod args;
mod capture;
mod render;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use self::args::{Cli, Command, Output};
use crate::control::api;
use crate::control::client::{AskError, Client};
use crate::{controller, dataplane, spec};

/// The answer is no.
const NO: u8 = 1;
const UNREACHABLE: u8 = 3;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("balancer: {error:#}");
            let unreachable = matches!(error.downcast_ref(), Some(AskError::Unreachable { .. }));
            ExitCode::from(if unreachable { UNREACHABLE } else { NO })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Run { config } = &cli.command {
        return serve(config);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command(cli))
}

fn serve(config: &Path) -> anyhow::Result<ExitCode> {
    // What the XDP program says is chosen by `node.datapath_log`, in the kernel.
    let filter = env_logger::Env::default().default_filter_or("info,balancer_xdp=trace");
    env_logger::Builder::from_env(filter).format_target(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(controller::run(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    let client = Client::new(&cli.socket);
    match cli.command {
        Command::Run { .. } => {}
        Command::Check { file, output } => return check(&file, output),
        Command::Status { service, output } => {
            show(output, &client.status(service.as_ref()).await?, render::status)?;
        }
        Command::Weight { backend, weight, output, .. } => {
            show(output, &client.weight(backend, weight).await?, render::changed)?;
        }
        Command::Drain { backend, output } => show(output, &client.drain(backend).await?, render::changed)?,
        Command::Undrain { backend, output } => show(output, &client.undrain(backend).await?, render::changed)?,
        Command::Explain { protocol, source, destination, output } => {
            let flow = api::Flow { protocol, source, destination };
            show(output, &client.explain(&flow).await?, render::explanation)?;
        }
        Command::Capture { service, flow, out, count, seconds, rate, one_in } => {
            let flow = flow.map(|words| capture::flow(&words)).transpose()?;
            let request = api::CaptureRequest { service, flow, count, seconds, rate, one_in };
            capture::run(&client, &request, &out).await?;
        }
        Command::Reload { output } => show(output, &client.reload().await?, render::reloaded)?,
        Command::Detach { pin_dir, output } => {
            let detached = match client.detach().await {
                // Nobody runs: what is pinned can be taken away from here.
                Err(AskError::Unreachable { .. }) => dataplane::detach_unattended(&pin_dir)?,
                answer => answer?,
            };
            show(output, &detached, render::detached)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let problems = match spec::load(file) {
        Ok(loaded) => {
            let none = spec::Diagnostics { findings: Vec::new() };
            show(output, &none, |_| render::valid(file, &loaded.config))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(problems) => problems,
    };
    if output.json {
        show(output, &problems, ToString::to_string)?;
    } else {
        eprintln!("{problems}");
    }
    Ok(ExitCode::from(NO))
}

/// Prints a value for scripts or for people.
fn show<T: Serialize>(output: Output, value: &T, render: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let text = if output.json { serde_json::to_string(value)? + "\n" } else { render(value) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}
