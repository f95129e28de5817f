//! keepalived.conf(5): virtual servers, their groups, and the interface of VRRP.

mod check;
mod statement;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::check::Pace;
use self::statement::Statement;
use super::ipvsadm::{ENGINE, FIREWALL_MARK, ONE_PACKET, PERSISTENCE, THRESHOLD, UNKNOWN_SCHEDULER, flags, netmask};
use super::share::Scheduler;
use super::virtual_server::{Forward, RealServer, VirtualServer};
use super::{At, Remarks, Rules, Unreadable};
use crate::model::{ForwardMode, Protocol};

const UNKNOWN: &str = "there is no such setting here";
const SCRIPTS: &str = "no scripts are run; alarms and `[[webhook]]` tell of changes";

pub(super) fn read(file: &str, text: &str) -> Result<Rules, Unreadable> {
    let mut rules = Rules::default();
    let statements = statement::read(file, text, &mut rules.remarks)?;
    let groups = statements.iter().filter(|statement| statement.key() == "virtual_server_group");
    let groups: BTreeMap<&str, &Statement> = groups.filter_map(|group| Some((group.value()?, group))).collect();
    let mut used = Vec::new();
    for statement in &statements {
        match statement.key() {
            "virtual_server" => virtual_server(statement, &groups, &mut used, &mut rules),
            "virtual_server_group" => {}
            "vrrp_instance" => instance(statement, &mut rules),
            "vrrp_sync_group" | "vrrp_script" | "vrrp_track_process" | "vrrp_track_file" | "bfd_instance" => {
                rules.remarks.not_taken(&statement.at, whole(statement), VRRP);
            }
            _ => rules.remarks.not_taken(&statement.at, whole(statement), UNKNOWN),
        }
    }
    for (_, group) in groups.iter().filter(|(name, _)| !used.iter().any(|used| used == *name)) {
        rules.remarks.not_taken(&group.at, whole(group), "no virtual server uses it");
    }
    Ok(rules)
}

const VRRP: &str = "VRRP stays with keepalived: run it beside, without virtual servers";

/// A block by its first line.
fn whole(statement: &Statement) -> String {
    match statement.size() {
        1 => statement.text(),
        more => format!("{} {{ {} }}", statement.text(), crate::spec::counted(more - 1, "statement")),
    }
}

fn instance(statement: &Statement, rules: &mut Rules) {
    let interface = statement.block.iter().find(|inside| inside.key() == "interface");
    if let Some(name) = interface.and_then(Statement::value)
        && !rules.interfaces.iter().any(|known| known == name)
    {
        rules.interfaces.push(name.to_owned());
    }
    rules.remarks.not_taken(&statement.at, whole(statement), VRRP);
}

/// A place that a virtual server has.
type Place = (At, IpAddr, u16);

fn virtual_server<'a>(
    statement: &'a Statement,
    groups: &BTreeMap<&'a str, &Statement>,
    used: &mut Vec<&'a str>,
    rules: &mut Rules,
) {
    let words: Vec<&str> = statement.words.iter().skip(1).map(String::as_str).collect();
    let places = match words[..] {
        ["fwmark", ..] => {
            rules.remarks.not_taken(&statement.at, whole(statement), FIREWALL_MARK);
            return;
        }
        ["group", name] => match groups.get(name) {
            Some(group) => {
                used.push(name);
                group.block.iter().flat_map(|line| places(line, &mut rules.remarks)).collect()
            }
            None => {
                rules.remarks.not_taken(&statement.at, whole(statement), "there is no group of this name");
                return;
            }
        },
        [address, ref port @ ..] => one(statement, address, port.first().copied(), &mut rules.remarks),
        [] => Vec::new(),
    };
    if places.is_empty() {
        rules.remarks.not_taken(&statement.at, whole(statement), "it has no address that was taken");
        return;
    }
    let server = Block::read(statement, &mut rules.remarks);
    for (at, address, port) in places {
        rules.servers.push(server.clone().at(at, statement, address, port));
    }
}

fn one(statement: &Statement, address: &str, port: Option<&str>, remarks: &mut Remarks) -> Vec<Place> {
    match (address.parse(), port.unwrap_or("0").parse()) {
        (Ok(address), Ok(port)) => vec![(statement.at.clone(), address, port)],
        _ => {
            remarks.not_taken(&statement.at, statement.text(), "no address and port in digits");
            Vec::new()
        }
    }
}

/// The addresses of a line of a group: `ADDRESS[-LAST] [PORT]` or `fwmark N`.
fn places(line: &Statement, remarks: &mut Remarks) -> Vec<Place> {
    let port = line.value();
    match line.key() {
        "fwmark" => {
            remarks.not_taken(&line.at, line.text(), FIREWALL_MARK);
            Vec::new()
        }
        range if range.contains('-') => {
            let addresses = addresses(range);
            if addresses.is_empty() {
                remarks.not_taken(&line.at, line.text(), "no range of addresses");
            }
            addresses.iter().flat_map(|address| one(line, &address.to_string(), port, remarks)).collect()
        }
        address => one(line, address, port, remarks),
    }
}

/// `192.0.2.1-5`, and of IPv6 the last group in hexadecimal digits.
fn addresses(range: &str) -> Vec<IpAddr> {
    let Some((first, last)) = range.split_once('-') else { return Vec::new() };
    match first.parse() {
        Ok(IpAddr::V4(first)) => {
            let [a, b, c, from] = first.octets();
            let to = last.parse::<u8>().unwrap_or(0);
            (from..=to).map(|d| Ipv4Addr::new(a, b, c, d).into()).collect()
        }
        Ok(IpAddr::V6(first)) => {
            let mut groups = first.segments();
            let (from, to) = (groups[7], u16::from_str_radix(last, 16).unwrap_or(0));
            let with = |last| {
                groups[7] = last;
                IpAddr::V6(Ipv6Addr::from(groups))
            };
            // More than this are better one service with a prefix.
            (from..=to).take(1024).map(with).collect()
        }
        Err(_) => Vec::new(),
    }
}

/// What stands in the block of a virtual server.
#[derive(Clone)]
struct Block {
    protocol: Protocol,
    scheduler: Scheduler,
    by_client: bool,
    /// The scheduler looks at ports, too.
    ports: bool,
    forward: Forward,
    weight: u32,
    pace: Pace,
    servers: Vec<RealServer>,
}

impl Block {
    fn read(statement: &Statement, remarks: &mut Remarks) -> Self {
        let mut block = Self {
            protocol: Protocol::Tcp,
            // keepalived.conf(5): the defaults.
            scheduler: Scheduler::WeightedLeastConnections,
            by_client: false,
            ports: false,
            forward: Forward::plain(ForwardMode::Nat),
            weight: 1,
            pace: Pace::default(),
            servers: Vec::new(),
        };
        // Real servers take what the block says, wherever it says it.
        let (servers, settings): (Vec<_>, Vec<_>) =
            statement.block.iter().partition(|inside| inside.key() == "real_server");
        for setting in settings {
            block.setting(setting, remarks);
        }
        let read = servers.into_iter().filter_map(|server| block.real_server(server, remarks)).collect();
        block.servers = read;
        block
    }

    fn setting(&mut self, statement: &Statement, remarks: &mut Remarks) {
        if self.pace.takes(statement, remarks) {
            return;
        }
        let (at, value) = (&statement.at, statement.value());
        match statement.key() {
            "lb_algo" | "lvs_sched" => match value.and_then(Scheduler::named) {
                Some(scheduler) => self.scheduler = scheduler,
                None => remarks.differs(at, statement.text(), UNKNOWN_SCHEDULER),
            },
            "lb_kind" | "lvs_method" => self.forward = forward(statement, self.forward, remarks),
            "protocol" => match value.unwrap_or("").to_uppercase().as_str() {
                "TCP" => self.protocol = Protocol::Tcp,
                "UDP" => self.protocol = Protocol::Udp,
                "SCTP" => self.protocol = Protocol::Sctp,
                _ => remarks.differs(at, statement.text(), "tcp, udp and sctp are what there is: read as tcp"),
            },
            "persistence_timeout" => {
                self.by_client = true;
                remarks.differs(at, statement.text(), PERSISTENCE);
            }
            "persistence_granularity" => netmask(at, value.unwrap_or(""), remarks),
            "persistence_engine" => remarks.not_taken(at, statement.text(), ENGINE),
            "ops" => remarks.differs(at, statement.text(), ONE_PACKET),
            flag @ ("sh-port" | "mh-port" | "sh-fallback" | "mh-fallback" | "flag-1" | "flag-2") => {
                self.ports |= flags(at, flag, remarks);
            }
            "weight" => self.weight = weight(statement, remarks),
            "ip_family" => {}
            "sorry_server" | "sorry_server_inhibit" | "sorry_server_lvs_method" => {
                remarks.not_taken(at, statement.text(), "there is no spare server: the last backends are kept instead");
            }
            "quorum" | "hysteresis" | "ha_suspend" | "alpha" | "omega" => {
                let why = "health is judged otherwise: see \"kept\" in docs/config.md";
                remarks.not_taken(at, statement.text(), why);
            }
            "quorum_up" | "quorum_down" | "smtp_alert" => remarks.not_taken(at, statement.text(), SCRIPTS),
            "inhibit_on_failure" => remarks.differs(at, statement.text(), INHIBIT),
            _ => remarks.not_taken(at, whole(statement), UNKNOWN),
        }
    }

    fn real_server(&self, statement: &Statement, remarks: &mut Remarks) -> Option<RealServer> {
        let place = match statement.words.get(1..).unwrap_or_default() {
            [address] => address.parse().ok().map(|address| (address, 0)),
            [address, port] => address.parse().ok().zip(port.parse().ok()),
            _ => None,
        };
        let Some((address, port)) = place else {
            remarks.not_taken(&statement.at, whole(statement), "no address and port in digits");
            return None;
        };
        let (mut pace, mut checkers) = (self.pace.clone(), Vec::new());
        let mut server = RealServer {
            at: statement.at.clone(),
            text: statement.text(),
            address,
            port,
            weight: self.weight,
            forward: self.forward,
            check: None,
        };
        for inside in &statement.block {
            if pace.takes(inside, remarks) {
                continue;
            }
            match inside.key() {
                "weight" => server.weight = weight(inside, remarks),
                "lvs_method" => server.forward = forward(inside, self.forward, remarks),
                "inhibit_on_failure" => remarks.differs(&inside.at, inside.text(), INHIBIT),
                "uthreshold" | "lthreshold" => remarks.not_taken(&inside.at, inside.text(), THRESHOLD),
                "notify_up" | "notify_down" | "smtp_alert" => remarks.not_taken(&inside.at, inside.text(), SCRIPTS),
                key if check::is_checker(key) => checkers.push(inside),
                _ => remarks.not_taken(&inside.at, whole(inside), UNKNOWN),
            }
        }
        for more in checkers.iter().skip(1) {
            remarks.not_taken(&more.at, whole(more), "a backend has one check: the first");
        }
        server.check = checkers.first().and_then(|checker| check::read(checker, self.protocol, &pace, remarks));
        Some(server)
    }

    fn at(self, at: At, statement: &Statement, address: IpAddr, port: u16) -> VirtualServer {
        VirtualServer {
            at,
            text: statement.text(),
            protocol: self.protocol,
            address,
            port,
            scheduler: self.scheduler,
            by_client: self.by_client || (self.scheduler.by_source() && !self.ports),
            servers: self.servers,
        }
    }
}

const INHIBIT: &str = "a backend that is down takes no new flows; open ones stay for `quiet`";

fn weight(statement: &Statement, remarks: &mut Remarks) -> u32 {
    statement.value().and_then(|value| value.parse().ok()).unwrap_or_else(|| {
        remarks.differs(&statement.at, statement.text(), "no weight: read as 1");
        1
    })
}

/// `NAT`, `DR`, or `TUN [type gue port N]`.
fn forward(statement: &Statement, otherwise: Forward, remarks: &mut Remarks) -> Forward {
    let words: Vec<&str> = statement.words.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["NAT"] => Forward::plain(ForwardMode::Nat),
        ["DR"] => Forward::plain(ForwardMode::L2),
        ["TUN"] | ["TUN", "type", "ipip"] => Forward::plain(ForwardMode::Ipip),
        ["TUN", "type", "gue", ref rest @ ..] => {
            let port = rest.iter().position(|word| *word == "port").and_then(|at| rest.get(at + 1));
            if rest.contains(&"csum") || rest.contains(&"remcsum") {
                let why = "GUE without a checksum of its own is what this balancer sends";
                remarks.differs(&statement.at, statement.text(), why);
            }
            Forward { mode: ForwardMode::Gue, port: port.and_then(|port| port.parse().ok()) }
        }
        _ => {
            remarks.differs(&statement.at, statement.text(), "NAT, DR, TUN and TUN type gue are what there is");
            otherwise
        }
    }
}
