//! A drill, followed until it is over.

use std::process::ExitCode;
use std::time::Duration;

use super::{NO, print};
use crate::cli::args::Output;
use crate::control::api::{Drill, DrillStep, Fault};
use crate::control::client::Client;
use crate::controller::requests::{GetDrill, StartDrill};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(client: &Client, fault: Fault, output: Output) -> anyhow::Result<ExitCode> {
    let mut drill = client.ask(&StartDrill { fault }).await?;
    let mut shown = 0;
    loop {
        if !output.json {
            drill.steps[shown..].iter().try_for_each(|step| print(&line(step)))?;
            shown = drill.steps.len();
        }
        if drill.over {
            break;
        }
        tokio::time::sleep(LOOK).await;
        drill = client.ask(&GetDrill {}).await?;
    }
    print(&if output.json { serde_json::to_string(&drill)? + "\n" } else { end(&drill) })?;
    Ok(if drill.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn line(step: &DrillStep) -> String {
    let detail = step.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
    format!("{:6.1} s  {}{detail}\n", step.seconds, step.what)
}

fn end(drill: &Drill) -> String {
    match &drill.missing[..] {
        [] => "the chain works: the fault was found, told and put right\n".to_owned(),
        missing => format!("NOT IN TIME: {}\n", missing.join(", ")),
    }
}
