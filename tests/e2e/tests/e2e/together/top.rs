//! `balancer top` on a real terminal, with the live product behind it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use balancer::control::api::BackendState;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::netns::unique;
use harness::server::{Server, binary};

const PORT: u16 = 8000;
/// As tmux says it, by name or by number.
fn is_red(text: &str) -> bool {
    text.contains("31m") || text.contains("38;5;1m")
}

/// A terminal of 80 columns and 24 rows, in a tmux server of its own; ended with the value.
struct Terminal(String);

impl Terminal {
    fn start(command: &str) -> Result<Self> {
        let terminal = Self(unique("tmux"));
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command])?;
        Ok(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("tmux").env("TERM", "xterm-256color").args(["-L", &self.0]).args(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {args:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Waits until the screen is as it should be; with colours as escape sequences.
    fn shows(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-e"])?;
            if is(&screen) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{what} is not on the screen:\n{screen}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_a_death_and_drains_by_key() -> Result<()> {
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2; 3])?;
    let names = ["b0", "b1", "b2"];
    let mut servers: Vec<Server> =
        lab.backends.iter().zip(names).map(|(ns, name)| Server::start(ns, name, PORT)).collect::<Result<_>>()?;
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\nmode = \"native\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
         address = \"{VIP4}\"\nport = {PORT}\nforward = \"l2\"\n[service.health]\nkind = \"tcp\"\ninterval = \"500ms\"\n\
         timeout = \"400ms\"\n"
    );
    for (i, name) in names.iter().enumerate() {
        text += &format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{}\"\n", Lab::backend4(i));
    }
    let controller = Controller::start(&lab.balancer, &text)?;
    controller.wait_all_up()?;

    let program = binary("balancer")?;
    // What tmux shows after its end is what a shell would find: the terminal as it was.
    let command =
        format!("{} --socket {} top; echo ended $?; sleep 60", program.display(), controller.socket().display());
    let terminal = Terminal::start(&command)?;
    terminal.shows("all up", |screen| screen.contains("3 of 3 up") && !is_red(screen))?;

    servers[1].kill();
    let dead = |screen: &str| screen.lines().any(|line| line.contains("b1") && line.contains("down") && is_red(line));
    terminal.shows("a dead backend, in red", dead)?;

    // The service, then b0.
    terminal.press("Down")?;
    terminal.press("d")?;
    terminal.shows("the shares of a drain", |screen| {
        screen.contains("drain web/b0") && screen.contains("50.00 %") && screen.contains("y does it")
    })?;
    let undrained = |state| state == BackendState::Up;
    ensure!(undrained(controller.status()?.services[0].backends[0].state), "nobody said yes yet");
    terminal.press("y")?;
    terminal.shows("what was done", |screen| screen.contains("done: drain web/b0") && screen.contains("draining"))?;
    ensure!(controller.status()?.services[0].backends[0].state == BackendState::Draining);

    terminal.press("q")?;
    terminal.shows("the terminal as it was", |screen| screen.contains("ended 0") && !screen.contains("flows/s"))
}
