//! `balancer detach`: by the controller, or from here where none answers. It is done only once no program of balancer is
//! attached any more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::args::Output;
use super::{NO, render, show};
use crate::control::client::{AskError, Client};
use crate::controller::requests::Detach;
use crate::dataplane::{self, Left};
use crate::doctor;

/// Whom to ask, and where the pins are: as the config says, even one that would be refused, or as usual.
pub(super) fn places(client: Client, pin_dir: PathBuf, config: Option<&Path>) -> (Client, PathBuf) {
    let Some(text) = config.and_then(|file| std::fs::read_to_string(file).ok()) else { return (client, pin_dir) };
    let (socket, pins) = named(&text);
    (socket.map_or(client, |socket| Client::new(&socket)), pins.unwrap_or(pin_dir))
}

fn named(text: &str) -> (Option<PathBuf>, Option<PathBuf>) {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let path = |key| table.get("node")?.get(key)?.as_str().map(PathBuf::from);
    (path("control_socket"), path("pin_dir"))
}

pub(super) async fn run(client: &Client, pin_dir: &Path, output: Output) -> Result<ExitCode> {
    let unattended = match client.ask(&Detach {}).await {
        Ok(detached) => {
            show(output, &detached, render::detached)?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(AskError::Unreachable { .. }) => dataplane::detach_unattended(pin_dir)?,
        Err(error) => return Err(error.into()),
    };
    let left = dataplane::left(&doctor::attached().await?);
    if left.is_empty() {
        show(output, &unattended, render::detached)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !unattended.removed.is_empty() {
        show(output, &unattended, render::detached)?;
    }
    eprintln!("balancer: {}", said(pin_dir, unattended.removed.is_empty(), &left));
    Ok(ExitCode::from(NO))
}

/// What stays attached, and how it is taken off.
fn said(pin_dir: &Path, nothing_removed: bool, left: &[Left]) -> String {
    let mut said = if nothing_removed {
        format!("nothing was removed: there is no state of balancer under {}", pin_dir.display())
    } else {
        format!("not all is removed: another controller's state is not under {}", pin_dir.display())
    };
    for Left { interface, pin_dir } in left {
        said += &match pin_dir {
            Some(pins) => format!(
                "\na program of balancer is attached to {interface}, pinned under {pins}; take it off with `balancer detach \
                 --pin-dir {pins}`",
                pins = pins.display()
            ),
            None => format!(
                "\na program of balancer is attached to {interface}, and nothing below /sys/fs/bpf pins it; `bpftool link \
                 list` has its number, and `bpftool link detach id NUMBER` takes it off"
            ),
        };
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_names_other_places_is_followed_also_where_it_is_invalid() {
        assert_eq!(named("[node]\npin_dir = \"/sys/fs/bpf/x\"\nnonsense = 1"), (None, Some("/sys/fs/bpf/x".into())));
        assert_eq!(named("[node]\ncontrol_socket = \"/run/x\""), (Some("/run/x".into()), None));
        for useless in ["", "[node", "node = 3", "[node]\npin_dir = 3"] {
            assert_eq!(named(useless), (None, None), "{useless}");
        }
    }

    #[test]
    fn what_stays_attached_is_said_with_the_command_that_takes_it_off() {
        let left = |pin_dir: Option<&str>| Left { interface: "eth0".to_owned(), pin_dir: pin_dir.map(Into::into) };
        let usual = Path::new("/sys/fs/bpf/balancer");
        let text = said(usual, true, &[left(Some("/sys/fs/bpf/other"))]);
        assert!(
            text.starts_with("nothing was removed: there is no state of balancer under /sys/fs/bpf/balancer\n"),
            "{text}"
        );
        assert!(text.contains("`balancer detach --pin-dir /sys/fs/bpf/other`"), "{text}");
        let text = said(usual, false, &[left(None)]);
        assert!(text.starts_with("not all is removed") && text.contains("bpftool link detach"), "{text}");
    }
}
