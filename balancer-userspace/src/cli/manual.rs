//! The manual's pages: `balancer(8)` and one a command from the definitions of the command line, `balancer.toml(5)` from
//! docs/config.md, which a test holds against the keys that the reader knows.

mod markdown;

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

use super::args::Cli;

static CONFIG: &str = include_str!("../../../docs/config.md");

pub(super) fn write(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    page(directory, whole.clone())?;
    for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
        page(directory, command.clone())?;
    }
    let path = directory.join("balancer.toml.5");
    fs::write(&path, config()).with_context(|| format!("writing {}", path.display()))
}

fn page(directory: &Path, command: clap::Command) -> Result<()> {
    let man = Man::new(command).section("8").source(concat!("balancer ", env!("CARGO_PKG_VERSION"))).manual("balancer");
    let path = directory.join(man.get_filename());
    let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    man.render(&mut file).with_context(|| format!("writing {}", path.display()))
}

fn config() -> String {
    let head = "balancer.toml \\- the config file of balancer";
    markdown::page(&format!("balancer.toml 5 \"\" \"balancer {}\" balancer", env!("CARGO_PKG_VERSION")), head, CONFIG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_key_has_its_place() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let whole = read("balancer.8");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(whole.contains(&format!("balancer\\-{name}(8)")), "{name} is not in balancer(8)");
            assert!(read(&format!("balancer-{name}.8")).contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(!directory.path().join("balancer-manual.8").exists());
        let config = read("balancer.toml.5");
        for key in crate::spec::known_keys() {
            let (section, key) = key.rsplit_once('.').unwrap();
            let part = config.split("\n.SH ").find(|part| {
                let heading = part.lines().next().unwrap_or_default().to_lowercase();
                heading.contains(&format!("[{section}]"))
            });
            let part = part.unwrap_or_else(|| panic!("no section for {section}"));
            assert!(part.contains(&format!("\n\\fB{key}\\fR")), "{section}.{key} is not in balancer.toml(5)");
        }
    }
}
