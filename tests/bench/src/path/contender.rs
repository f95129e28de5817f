//! Who is compared: the balancer in its modes, and what a user would take instead.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::cpu::children;
use super::network::{Answers, BACKENDS, BALANCER, Network, PORT};
use crate::wire::{dnat, nft};
use harness::controller::Controller;
use harness::lab::{Lab, VIP4};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    Direct,
    /// By this forwarding mode.
    Balancer(&'static str),
    Nftables,
    Haproxy,
    Nginx,
}

use Contender::{Balancer, Direct, Haproxy, Nftables, Nginx};

/// In the order of tables.
pub const ALL: [Contender; 7] = [Direct, Balancer("l2"), Balancer("ipip"), Balancer("nat"), Nftables, Haproxy, Nginx];

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Direct => "direct, no balancer",
            Balancer("l2") => "balancer, l2",
            Balancer("ipip") => "balancer, ipip",
            Balancer(_) => "balancer, nat",
            Nftables => "nftables, DNAT",
            Haproxy => "HAProxy, TCP",
            Nginx => "nginx, stream",
        }
    }

    /// The program that must be installed, and how it is asked for its version.
    pub fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Direct | Balancer(_) => None,
            Nftables => Some(("nft", "-v")),
            Haproxy => Some(("haproxy", "-v")),
            Nginx => Some(("nginx", "-v")),
        }
    }

    /// What the program says of itself; none where it is not there, or can't do what is asked of it.
    pub fn version(self) -> Option<String> {
        let (program, flag) = self.program()?;
        let output = Command::new(program).arg(flag).output().ok()?;
        if self == Nginx && !Path::new(STREAM).exists() {
            return None;
        }
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        let line = String::from_utf8_lossy(&said).lines().next()?.to_owned();
        let version = line.split(|c: char| c.is_whitespace() || c == '/').find(|word| {
            let word = word.trim_start_matches('v');
            word.starts_with(|c: char| c.is_ascii_digit())
        })?;
        Some(format!("{program} {}", version.trim_start_matches('v')))
    }

    /// Needs no program, or has it.
    pub fn is_there(self) -> bool {
        self.program().is_none() || self.version().is_some()
    }

    pub fn network(self) -> Result<Network> {
        let mut network = Network::new(match self {
            Balancer("l2") => Answers::FromService,
            Balancer("ipip") => Answers::FromServiceUnpacked,
            Balancer(_) | Nftables => Answers::ByBalancer,
            Direct | Haproxy | Nginx => Answers::Directly,
        })?;
        if matches!(self, Balancer(_)) {
            network.take_sent_frames()?;
        }
        Ok(network)
    }

    /// Where the client connects to, in turn.
    pub fn targets(self) -> Vec<SocketAddr> {
        let at = |address: Ipv4Addr| SocketAddr::new(address.into(), PORT);
        match self {
            Direct => (0..BACKENDS).map(Lab::backend4).map(at).collect(),
            Balancer(_) | Nftables => vec![at(VIP4)],
            Haproxy | Nginx => vec![at(BALANCER.into())],
        }
    }

    pub fn start(self, network: &Network) -> Result<Middle<'_>> {
        Ok(match self {
            Direct => Middle::Nothing,
            Balancer(mode) => {
                let controller = Controller::start(&network.balancer, &config(mode))?;
                controller.wait_all_up()?;
                Middle::Balancer(controller)
            }
            Nftables => {
                nft(&network.balancer, &dnat(PORT, &[0, 1, 2].map(Lab::backend4)))?;
                Middle::Nothing
            }
            Haproxy => Middle::Proxy(Proxy::start(network, "haproxy", &["-db", "-q", "-f"], &haproxy())?),
            Nginx => Middle::Proxy(Proxy::start(network, "nginx", &["-e", "stderr", "-c"], &nginx())?),
        })
    }
}

/// What runs on the balancer's host.
pub enum Middle<'a> {
    Nothing,
    Balancer(Controller<'a>),
    Proxy(Proxy),
}

impl Middle<'_> {
    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Balancer(controller) => controller.pid().into_iter().collect(),
            Self::Proxy(proxy) => [vec![proxy.process.id()], children(proxy.process.id())].concat(),
        }
    }
}

/// A proxy in the balancer's namespace, with a config of its own.
pub struct Proxy {
    process: Child,
    _directory: TempDir,
}

impl Proxy {
    fn start(network: &Network, program: &str, args: &[&str], config: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let place = directory.path().display().to_string();
        let file = directory.path().join("config");
        fs::write(&file, config.replace("{directory}", &place))?;
        let mut command = network.balancer.command(program);
        command.args(args).arg(&file).stdin(Stdio::null());
        let process = command.spawn().with_context(|| format!("starting {program}"))?;
        let mut proxy = Self { process, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(5);
        let address = SocketAddr::new(Ipv4Addr::from(BALANCER).into(), PORT);
        while network.balancer.enter(|| std::net::TcpStream::connect(address).is_err())? {
            ensure!(proxy.process.try_wait()?.is_none(), "{program} ended");
            ensure!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not killed: nginx ends its workers itself.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn config(mode: &str) -> String {
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\nmode = \"native\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
         address = \"{VIP4}\"\nport = {PORT}\nforward = \"{mode}\"\n[service.health]\nkind = \"tcp\"\n"
    );
    for i in 0..BACKENDS {
        text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{}\"\n", Lab::backend4(i));
    }
    text
}

fn haproxy() -> String {
    let mut text = format!(
        "global\n  maxconn 4096\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend web\n  bind :{PORT}\n  default_backend web\nbackend web\n  balance roundrobin\n"
    );
    for i in 0..BACKENDS {
        text += &format!("  server b{i} {}:{PORT} check\n", Lab::backend4(i));
    }
    text
}

/// Where Debian's package puts the module.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn nginx() -> String {
    let mut servers = String::new();
    for i in 0..BACKENDS {
        servers += &format!("    server {}:{PORT};\n", Lab::backend4(i));
    }
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {{directory}}/pid;\nload_module {STREAM};\n\
         events {{ worker_connections 16384; }}\n\
         stream {{\n  access_log off;\n  upstream web {{\n{servers}  }}\n\
         \x20 server {{ listen {PORT} reuseport; proxy_pass web; proxy_timeout 60s; }}\n}}\n"
    )
}
