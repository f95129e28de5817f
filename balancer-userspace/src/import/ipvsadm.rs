//! Rules as `ipvsadm -Sn` saves them, or `ipvsadm -Ln` lists them.

use std::net::IpAddr;

use super::share::Scheduler;
use super::virtual_server::{Forward, RealServer, VirtualServer};
use super::{At, Remarks, Rules};
use crate::model::{ForwardMode, Protocol};

/// What ipvsadm takes where nobody says another one.
const DEFAULT_SCHEDULER: Scheduler = Scheduler::WeightedLeastConnections;

pub(super) fn read(file: &str, text: &str) -> Rules {
    let mut reader = Reader::default();
    for (i, line) in text.lines().enumerate() {
        let at = At { file: file.to_owned(), line: i + 1 };
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        reader.line(&at, line, &words);
    }
    reader.rules
}

#[derive(Default)]
struct Reader {
    rules: Rules,
    /// In a listing: whether the servers that follow belong to a virtual server that was taken.
    skipping: bool,
}

/// A virtual server by what its real servers name it.
type Key = (Protocol, IpAddr, u16);

impl Reader {
    fn line(&mut self, at: &At, line: &str, words: &[&str]) {
        let words = match words {
            // A script of commands.
            ["ipvsadm" | "/sbin/ipvsadm" | "/usr/sbin/ipvsadm", rest @ ..] => rest,
            words => words,
        };
        match words {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["IP", "Virtual", "Server", ..] | ["Prot", ..] | ["->", "RemoteAddress:Port", ..] => {}
            ["-A" | "--add-service", rest @ ..] => self.service(at, line, rest),
            ["-a" | "--add-server", rest @ ..] => self.server(at, line, rest),
            [protocol @ ("TCP" | "UDP" | "SCTP"), place, scheduler, flags @ ..] => {
                self.listed_service(at, line, protocol, place, scheduler, flags);
            }
            ["FWM", ..] => {
                self.skipping = true;
                self.rules.remarks.not_taken(at, line, FIREWALL_MARK);
            }
            ["->", place, forward, weight, ..] => self.listed_server(at, line, place, forward, weight),
            ["-C" | "--clear" | "-R" | "--restore", ..] => {
                self.rules.remarks.not_taken(at, line, "a config always is the whole of the rules");
            }
            _ => self.rules.remarks.not_taken(at, line, "this is no rule that ipvsadm prints"),
        }
    }

    fn service(&mut self, at: &At, line: &str, options: &[&str]) {
        let remarks = &mut self.rules.remarks;
        let mut options = Options { rest: options };
        let (mut key, mut scheduler, mut by_client, mut ports) = (None, DEFAULT_SCHEDULER, false, false);
        while let Some(option) = options.next() {
            match option {
                "-t" | "--tcp-service" | "-u" | "--udp-service" | "--sctp-service" => key = options.key(option),
                "-f" | "--fwmark-service" => return remarks.not_taken(at, line, FIREWALL_MARK),
                "-s" | "--scheduler" => match options.value().and_then(Scheduler::named) {
                    Some(named) => scheduler = named,
                    None => remarks.differs(at, line, UNKNOWN_SCHEDULER),
                },
                "-p" | "--persistent" => {
                    by_client = true;
                    let seconds = options.number().unwrap_or(300);
                    remarks.differs(at, format!("{option} {seconds}"), PERSISTENCE);
                }
                "-M" | "--netmask" => netmask(at, options.value().unwrap_or(""), remarks),
                "-b" | "--sched-flags" => ports |= flags(at, options.value().unwrap_or(""), remarks),
                "-o" | "--ops" => remarks.differs(at, option, ONE_PACKET),
                "--pe" => remarks.not_taken(at, format!("--pe {}", options.value().unwrap_or("")), ENGINE),
                other => remarks.not_taken(at, other, UNKNOWN_OPTION),
            }
        }
        match key {
            Some(key) => self.add(at, line, key, scheduler, by_client || (scheduler.by_source() && !ports)),
            None => remarks.not_taken(at, line, NO_ADDRESS),
        }
    }

    fn add(&mut self, at: &At, text: &str, key: Key, scheduler: Scheduler, by_client: bool) {
        let (protocol, address, port) = key;
        let server = VirtualServer {
            at: at.clone(),
            text: text.to_owned(),
            protocol,
            address,
            port,
            scheduler,
            by_client,
            servers: Vec::new(),
        };
        self.rules.servers.push(server);
    }

    fn server(&mut self, at: &At, line: &str, options: &[&str]) {
        let remarks = &mut self.rules.remarks;
        let mut options = Options { rest: options };
        let (mut key, mut real, mut weight, mut tunnel) = (None, None, 1, Tunnel::default());
        // ipvsadm(8): direct routing is the default.
        let mut mode = ForwardMode::L2;
        while let Some(option) = options.next() {
            match option {
                "-t" | "--tcp-service" | "-u" | "--udp-service" | "--sctp-service" => key = options.key(option),
                "-f" | "--fwmark-service" => return remarks.not_taken(at, line, FIREWALL_MARK),
                "-r" | "--real-server" => real = options.value().and_then(place),
                "-g" | "--gatewaying" => mode = ForwardMode::L2,
                "-i" | "--ipip" => mode = ForwardMode::Ipip,
                "-m" | "--masquerading" => mode = ForwardMode::Nat,
                "-w" | "--weight" => match options.number() {
                    Some(number) => weight = number,
                    None => remarks.differs(at, line, "the weight can't be read; it is 1 here"),
                },
                "-x" | "--u-threshold" | "-y" | "--l-threshold" => {
                    let limit = options.number().unwrap_or(0);
                    if limit > 0 {
                        remarks.not_taken(at, format!("{option} {limit}"), THRESHOLD);
                    }
                }
                "--tun-type" => tunnel.kind = options.value().map(str::to_owned),
                "--tun-port" => tunnel.port = options.number().and_then(|port| u16::try_from(port).ok()),
                "--tun-nocsum" => {}
                "--tun-csum" | "--tun-remcsum" => {
                    remarks.differs(at, option, "GUE without a checksum of its own is what this balancer sends");
                }
                other => remarks.not_taken(at, other, UNKNOWN_OPTION),
            }
        }
        let (Some(key), Some((address, port))) = (key, real) else { return remarks.not_taken(at, line, NO_ADDRESS) };
        let forward = match tunnel.forward(mode) {
            Ok(forward) => forward,
            Err(why) => return remarks.not_taken(at, line, why),
        };
        let text = line.to_owned();
        let server = RealServer { at: at.clone(), text, address, port, weight, forward, check: None };
        let of_key = |server: &&mut VirtualServer| (server.protocol, server.address, server.port) == key;
        match self.rules.servers.iter_mut().rev().find(of_key) {
            Some(service) => service.servers.push(server),
            None => remarks.not_taken(at, line, "no virtual server of this address was taken before it"),
        }
    }

    fn listed_service(&mut self, at: &At, line: &str, protocol: &str, address: &str, name: &str, flags_: &[&str]) {
        let remarks = &mut self.rules.remarks;
        self.skipping = true;
        let Some((address, port)) = place(address) else { return remarks.not_taken(at, line, NO_ADDRESS) };
        self.skipping = false;
        let protocol = match protocol {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let scheduler = Scheduler::named(name).unwrap_or_else(|| {
            remarks.differs(at, line, UNKNOWN_SCHEDULER);
            DEFAULT_SCHEDULER
        });
        let (mut by_client, mut ports) = (false, false);
        let mut options = Options { rest: flags_ };
        while let Some(option) = options.next() {
            match option {
                "persistent" => {
                    by_client = true;
                    let seconds = options.number().unwrap_or(300);
                    remarks.differs(at, format!("persistent {seconds}"), PERSISTENCE);
                }
                "mask" => netmask(at, options.value().unwrap_or(""), remarks),
                "ops" => remarks.differs(at, option, ONE_PACKET),
                "pe" => remarks.not_taken(at, format!("pe {}", options.value().unwrap_or("")), ENGINE),
                of_scheduler if of_scheduler.starts_with('(') => {
                    ports |= flags(at, of_scheduler.trim_matches(['(', ')']), remarks);
                }
                other => remarks.not_taken(at, other, UNKNOWN_OPTION),
            }
        }
        let by_client = by_client || (scheduler.by_source() && !ports);
        self.add(at, line, (protocol, address, port), scheduler, by_client);
    }

    fn listed_server(&mut self, at: &At, line: &str, address: &str, forward: &str, weight: &str) {
        let remarks = &mut self.rules.remarks;
        let service = self.rules.servers.last_mut().filter(|_| !self.skipping);
        let Some(service) = service else {
            return remarks.not_taken(at, line, "its virtual server was not taken");
        };
        let (Some((address, port)), Ok(weight)) = (place(address), weight.parse()) else {
            return remarks.not_taken(at, line, NO_ADDRESS);
        };
        let mode = match forward {
            "Masq" => ForwardMode::Nat,
            "Tunnel" => ForwardMode::Ipip,
            "Route" => ForwardMode::L2,
            "Local" => {
                let why = "this host itself serves: packets of a service leave it here";
                return remarks.not_taken(at, line, why);
            }
            _ => return remarks.not_taken(at, line, "this is no way of forwarding that ipvsadm prints"),
        };
        let (text, forward) = (line.to_owned(), Forward::plain(mode));
        let server = RealServer { at: at.clone(), text, address, port, weight, forward, check: None };
        service.servers.push(server);
    }
}

pub(super) const PERSISTENCE: &str = "clients stay together by address, for good: affinity = \"client\"";
pub(super) const FIREWALL_MARK: &str = "virtual servers by firewall mark: a service has an address here";
pub(super) const ONE_PACKET: &str = "packets of one flow go to one server here";
pub(super) const ENGINE: &str = "flows are known by addresses and ports only, and QUIC's by server id";
pub(super) const THRESHOLD: &str = "connections are not limited; a backend's `capacity` is what plan checks";
pub(super) const UNKNOWN_SCHEDULER: &str = "not a scheduler of the kernel: read as wlc";
const UNKNOWN_OPTION: &str = "this is no option that ipvsadm prints";
const NO_ADDRESS: &str = "no address and port in digits; print the rules with -n";

#[derive(Default)]
struct Tunnel {
    kind: Option<String>,
    port: Option<u16>,
}

impl Tunnel {
    fn forward(self, mode: ForwardMode) -> Result<Forward, &'static str> {
        match (mode, self.kind.as_deref()) {
            (ForwardMode::Ipip, Some("gue")) => Ok(Forward { mode: ForwardMode::Gue, port: self.port }),
            (ForwardMode::Ipip, Some("gre")) => Err("GRE tunnels are not offered; `ipip` and `gue` are"),
            _ => Ok(Forward::plain(mode)),
        }
    }
}

pub(super) fn netmask(at: &At, mask: &str, remarks: &mut Remarks) {
    if !matches!(mask, "255.255.255.255" | "32" | "128") {
        remarks.not_taken(at, format!("netmask {mask}"), "affinity is by whole addresses of clients");
    }
}

/// Whether they say that ports count.
pub(super) fn flags(at: &At, flags: &str, remarks: &mut Remarks) -> bool {
    let mut ports = false;
    for flag in flags.split(',') {
        match flag {
            "sh-port" | "mh-port" | "flag-2" => ports = true,
            // What a server that is down had goes to the others here in any case.
            "sh-fallback" | "mh-fallback" | "flag-1" => {}
            other => remarks.not_taken(at, other, "this is no flag of sh or mh"),
        }
    }
    ports
}

/// An address in digits with its port; 0 is every port.
pub(super) fn place(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some((address.ip(), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|address| (address, 0))
}

/// Words of a command, one after the other.
struct Options<'a> {
    rest: &'a [&'a str],
}

impl<'a> Options<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// What belongs to the option before.
    fn value(&mut self) -> Option<&'a str> {
        self.rest.first().filter(|word| !word.starts_with('-'))?;
        self.next()
    }

    fn number(&mut self) -> Option<u32> {
        self.rest.first()?.parse::<u32>().ok()?;
        self.next()?.parse().ok()
    }

    /// Of the option that names a virtual server.
    fn key(&mut self, option: &str) -> Option<Key> {
        let protocol = match option {
            "-u" | "--udp-service" => Protocol::Udp,
            "--sctp-service" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let (address, port) = place(self.value()?)?;
        Some((protocol, address, port))
    }
}
