//! `balancer import`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::args::Output;
use super::{NO, print};
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
        write_new(out, &imported.config)?;
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

fn write_new(path: &Path, text: &str) -> Result<()> {
    let open = File::options().write(true).create_new(true).mode(0o640).open(path);
    let mut file =
        open.with_context(|| format!("{} is not written; name a file that does not exist", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {}", path.display()))
}
