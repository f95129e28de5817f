//! `balancer capture`.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::args::protocol;
use crate::control::api::Flow;
use crate::control::client::Client;
use crate::controller::requests::Capture;

/// Protocol, source and destination of `--flow`.
pub(super) fn flow(words: &[String]) -> Result<Flow> {
    let [name, source, destination] = words else { bail!("`--flow` takes PROTO SRC:PORT DST:PORT") };
    let address = |text: &String| {
        text.parse().with_context(|| format!("{text:?} is no address and port, such as 198.51.100.7:40000"))
    };
    Ok(Flow {
        protocol: protocol(name).map_err(anyhow::Error::msg)?,
        source: address(source)?,
        destination: address(destination)?,
    })
}

pub(super) async fn run(client: &Client, request: &Capture, out: &Path) -> Result<()> {
    let to_stdout = out == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("a pcapng file is nothing to read on a terminal: give `--out FILE.pcapng`, or pipe it to `tshark -r -`");
    }
    let mut sink: Box<dyn Write> = if to_stdout {
        Box::new(std::io::stdout())
    } else {
        Box::new(File::create(out).with_context(|| format!("writing {}", out.display()))?)
    };
    let bytes = client.capture(request, &mut sink).await?;
    if !to_stdout {
        eprintln!("{bytes} bytes in {}", out.display());
    }
    Ok(())
}
