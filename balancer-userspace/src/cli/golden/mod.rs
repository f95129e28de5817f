//! What people read of the command line, kept as text: `UPDATE_GOLDEN=1 cargo test golden` writes it again.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use super::args::Cli;
use crate::control::client::{AskError, advice};
use crate::spec;

/// Compares `said` with the file of this name.
pub(super) fn golden(name: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, said).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said, "{} is not what is said now; look at it with UPDATE_GOLDEN=1 and `git diff`", path.display());
}

#[test]
fn every_help_text_fits_80_columns() {
    let mut said = String::new();
    let mut root = Cli::command().term_width(80);
    root.build();
    let names: Vec<String> = root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let _ = writeln!(said, "$ balancer --help\n{}", root.render_long_help());
    for name in names.iter().filter(|name| *name != "help") {
        let command = root.find_subcommand_mut(name).unwrap();
        let mut command = command.clone().term_width(80);
        let _ = writeln!(said, "$ balancer {name} --help\n{}", command.render_long_help());
    }
    for line in said.lines() {
        // A flag that takes three values is written in one piece.
        let usual = !line.contains("PROTO SRC:PORT DST:PORT") && !line.trim_start().starts_with("Usage:");
        assert!(!usual || line.chars().count() <= 80, "{line}");
    }
    golden("help.txt", &said);
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_do() {
    let mut said = String::new();
    let socket = || Path::new("/run/balancer/control.sock").to_owned();
    let forbidden =
        |group: Option<&str>| AskError::Forbidden { socket: socket(), advice: advice(group.map(str::to_owned)) };
    let unreachable = AskError::Unreachable { socket: socket(), cause: "No such file or directory".to_owned() };
    for error in [unreachable, forbidden(Some("balancer")), forbidden(Some("root")), forbidden(None)] {
        let _ = writeln!(said, "balancer: {error}\n");
    }
    for text in [
        "[[service]]\nname = \"web\"\nprotocol = \"http\"\naddress = \"192.0.2.10\"\nport = 80\nforward = \"l2\"\n\
         [[service.backend]]\nname = \"a\"\naddress = \"10.0.0.1\"\nweight = 1\n",
        "[[service]]\nname = \"web\"\nprotocol = \"tcp4\"\naddress = \"192.0.2.10\"\nport = 80\nforward = \"l2\"\n\
         [service.health]\nkind = \"http\"\npath = \"/a b\"\nhost = \"shop .example\"\n\
         [[service.backend]]\nname = \"a\"\naddress = \"10.0.0.1\"\nwieght = 1\n",
        "[node]\nname = \"a\"\n[node\n",
    ] {
        let problems = spec::parse("balancer.toml", text).unwrap_err();
        let _ = writeln!(said, "balancer: {problems}\n");
    }
    golden("refusals.txt", &said);
}
