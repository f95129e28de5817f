//! `balancer import`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::Output;
use super::{NO, new_file, print};
use crate::import::{self, Options, Origin, Outcome};
use crate::{printable, spec};

/// Of what comes by the standard input.
const LARGEST_BYTES: u64 = 16 << 20;

pub(super) fn run(
    origin: Origin,
    file: &Path,
    interfaces: Vec<String>,
    out: &Path,
    output: Output,
) -> Result<ExitCode> {
    let text = if file == Path::new("-") { standard_input()? } else { spec::text(file)? };
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let options = Options { interfaces, seed: rand::random() };
    let imported = import::import(origin, &name, &text, &options)?;
    if out != Path::new("-") {
        new_file::write(out, &imported.config, "name a file that does not exist")?;
    }
    if output.json {
        print(&(serde_json::to_string(&imported)? + "\n"))?;
    } else {
        if out == Path::new("-") {
            print(&imported.config)?;
        }
        // A reader that has gone away has seen enough.
        let _ = std::io::stderr().write_all(printable::block(&import::report(&imported)).as_bytes());
    }
    let whole = imported.errors.is_empty() && imported.remarks.iter().all(|remark| remark.outcome == Outcome::Differs);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().take(LARGEST_BYTES).read_to_string(&mut text).context("the standard input is no text")?;
    Ok(text)
}
