//! The conversation with one backend: a packet, an answer or none, and what to ask next.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use balancer_common::layout::BackendEntry;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::evidence::{Answer, Closer, Direct, Evidence, Sizes};
use super::heard::{ErrorKind, Heard, TCP, UDP};
use super::patient::{Patient, Way, room};
use super::wire::Wire;
use crate::control::api::Through;
use crate::model::{BackendId, Protocol};
use crate::opening::Opening;
use crate::plan::words;

/// The program that is loaded.
pub trait Plane: Sync {
    /// Has it take a frame as if it had come in by the interface.
    fn inject(&self, frame: Vec<u8>, ifindex: u32) -> impl Future<Output = Result<()>> + Send;

    /// Bytes of the largest packet that it sends to the backend now, outer headers excluded.
    fn room(&self, backend: &BackendId) -> impl Future<Output = Option<u16>> + Send;
}

/// How long, and how often.
#[derive(Clone, Copy)]
struct Patience {
    tries: u32,
    each: Duration,
}

const USUAL: Patience = Patience { tries: 3, each: Duration::from_millis(330) };
/// Once it is known how an answer looks.
const BRIEF: Patience = Patience { tries: 2, each: Duration::from_millis(200) };
/// A plain connection; the system repeats its SYN after one second.
const CONNECT: Duration = Duration::from_millis(1500);

/// A port on which hardly anybody listens (discard, RFC 863): a host answers that it is closed.
const UNUSED: u16 = 9;
/// As clients send, and one hop for the balancer but none behind it.
const USUAL_TTL: u8 = 64;
const NO_FURTHER: u8 = 2;
/// Where ports of packets that a socket sends begin.
const FIRST_PORT: u16 = 20_000;
/// What any IP packet may be as long as, in bytes: without headers of TCP nothing is asked.
const LEAST: u16 = 80;

/// By which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// As clients' packets do, where that is possible.
    Usual,
    Socket,
    /// By a socket, from this host's own outer address.
    KnownSource,
}

/// What is asked.
#[derive(Clone, Copy)]
struct Question {
    by: By,
    protocol: Protocol,
    to: SocketAddr,
    length: u16,
}

pub(super) struct Probe<'a, P> {
    patient: &'a Patient,
    entry: &'a BackendEntry,
    wire: &'a Wire,
    plane: &'a P,
    next_port: AtomicU16,
}

impl<'a, P: Plane> Probe<'a, P> {
    /// `None` where there is no way to the backend, or nobody to answer to.
    pub(super) fn new(patient: &'a Patient, wire: &'a Wire, plane: &'a P) -> Option<Self> {
        patient.source?;
        let entry = patient.entry.as_ref()?;
        // Another place for each run: a server that still knows a SYN of ours is not asked about it again.
        let next_port = AtomicU16::new(rand::random());
        Some(Self { patient, entry, wire, plane, next_port })
    }

    pub(super) async fn run(&self) -> Evidence {
        let through = if matches!(self.patient.way, Way::Program { .. }) { Through::Program } else { Through::Socket };
        let usual = self.opening();
        let mut opening = match self.patient.protocol {
            // Nobody has to answer an INIT with a wrong checksum.
            Protocol::Sctp => Answer::Silence,
            Protocol::Tcp | Protocol::Udp => self.ask(&usual, USUAL).await,
        };
        if self.patient.protocol != Protocol::Tcp && opening == Answer::Silence {
            // Silence of a datagram says nothing; the kernel of whoever has the address answers a SYN.
            let syn = Question { by: By::Socket, protocol: Protocol::Tcp, ..usual };
            if self.ask(&syn, USUAL).await.arrived() {
                opening = Answer::Open;
            }
        }
        let mut closer = if opening.arrived() { None } else { Some(self.look_closer(&usual).await) };
        // A first answer may have waited for a neighbour to be found: nobody is accused of what does not last.
        if closer.as_ref().is_some_and(Closer::has_arrivals) {
            let again = self.ask(&usual, USUAL).await;
            if again.arrived() {
                (opening, closer) = (again, None);
            }
        }
        let sizes = if opening.arrived() { Some(self.sizes().await) } else { None };
        Evidence { through, opening, closer, sizes }
    }

    fn opening(&self) -> Question {
        let Patient { protocol, service, .. } = *self.patient;
        Question { by: By::Usual, protocol, to: service, length: 0 }
    }

    /// Everything that tells causes apart, at once.
    async fn look_closer(&self, usual: &Question) -> Closer {
        let patient = self.patient;
        let syn = Question { by: By::Socket, protocol: Protocol::Tcp, ..*usual };
        let is_through_program = matches!(patient.way, Way::Program { .. }) && patient.protocol == Protocol::Tcp;
        let knows_source = patient.is_encapsulated() && patient.outer.is_some();
        let reaches_own = knows_source && patient.is_of_one_family();
        let at = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
        let own = [patient.checked, patient.backend.port()].map(|port| Question {
            by: By::KnownSource,
            to: at(patient.backend, port),
            ..syn
        });
        let others = [patient.checked, UNUSED].map(|port| Question {
            by: if knows_source { By::KnownSource } else { By::Socket },
            to: at(patient.service, port),
            ..syn
        });
        let known = Question { by: By::KnownSource, ..syn };
        let (by_socket, known_source, own_address, other_port, direct) = tokio::join!(
            async { if is_through_program { Some(self.ask(&syn, USUAL).await) } else { None } },
            async { if knows_source { Some(self.ask(&known, USUAL).await) } else { None } },
            async { if reaches_own { Some(self.ask_any(own).await) } else { None } },
            async { if patient.is_nat() { None } else { Some(self.ask_any(others).await) } },
            self.connect(),
        );
        Closer { by_socket, known_source, own_address, other_port, direct }
    }

    /// Asks two questions at once; what arrived says more than what did not, and an error more than silence.
    async fn ask_any(&self, [one, other]: [Question; 2]) -> Answer {
        if one.to == other.to || one.to == self.patient.service {
            return self.ask(&other, USUAL).await;
        }
        let (one, other) = tokio::join!(self.ask(&one, USUAL), self.ask(&other, USUAL));
        if other.arrived() || one == Answer::Silence { other } else { one }
    }

    /// Whether the backend's own address answers a connection, on any port that is asked.
    async fn connect(&self) -> Direct {
        let Patient { backend, checked, .. } = *self.patient;
        let attempt = async |port| match timeout(CONNECT, TcpStream::connect((backend.ip(), port))).await {
            Ok(Ok(_)) => Direct::Answered,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Direct::Answered,
            Ok(Err(error)) => Direct::Failed(error.to_string()),
            Err(_) => Direct::Failed(format!("no answer within {} ms", CONNECT.as_millis())),
        };
        let (one, other) = tokio::join!(attempt(checked), attempt(backend.port()));
        if other == Direct::Answered { other } else { one }
    }

    /// The largest packet that arrives, up to what clients send and the program forwards.
    async fn sizes(&self) -> Sizes {
        let room_before = room(self.entry);
        let mut sizes = Sizes { room: room_before, room_before, tried: 0, largest: 0 };
        sizes.tried = self.patient.longest.min(sizes.room);
        if self.fits(sizes.tried).await {
            return Sizes { largest: sizes.tried, ..sizes };
        }
        sizes.room = self.plane.room(&self.patient.id).await.unwrap_or(room_before);
        if sizes.room < sizes.tried {
            // A router said what fits, and the program goes by it now.
            sizes.tried = sizes.room;
            if self.fits(sizes.tried).await {
                return Sizes { largest: sizes.tried, ..sizes };
            }
        }
        let (mut fits, mut lost) = (LEAST.min(sizes.tried), sizes.tried);
        if self.ask(&self.filled(lost), USUAL).await.arrived() {
            return Sizes { largest: lost, ..sizes };
        }
        while lost - fits > 1 {
            let middle = fits.midpoint(lost);
            if self.fits(middle).await { fits = middle } else { lost = middle }
        }
        Sizes { largest: fits, ..sizes }
    }

    async fn fits(&self, length: u16) -> bool {
        self.ask(&self.filled(length), BRIEF).await.arrived()
    }

    /// A SYN of so many bytes.
    fn filled(&self, length: u16) -> Question {
        let by = if self.patient.protocol == Protocol::Tcp { By::Usual } else { By::Socket };
        Question { by, protocol: Protocol::Tcp, length, ..self.opening() }
    }

    async fn ask(&self, question: &Question, patience: Patience) -> Answer {
        let mut heard = self.wire.listen();
        let mut ports = Vec::new();
        for _ in 0..patience.tries {
            let port = self.port(question.by);
            ports.push(port);
            if let Err(error) = self.send(question, port, Opening::frame).await {
                log::warn!("probing {}: {error:#}", self.patient.id);
            }
            let until = Instant::now() + patience.each;
            let mut error = None;
            while let Ok(packet) = timeout_at(until, heard.recv()).await {
                let Some((answer, port)) = packet.ok().and_then(|packet| self.answer(question, &ports, &packet)) else {
                    continue;
                };
                if !answer.arrived() {
                    // Whoever redirects has sent the packet on: it may still arrive.
                    error = error.or(Some(answer));
                    continue;
                }
                if answer == Answer::Open && question.protocol == Protocol::Tcp {
                    // The server need not wait for the rest of a connection.
                    let _ = self.send(question, port, Opening::reset).await;
                }
                return answer;
            }
            if let Some(error) = error {
                return error;
            }
        }
        Answer::Silence
    }

    /// The next port to ask from: no two SYNs are from the same one, because servers don't answer the second at once.
    fn port(&self, by: By) -> u16 {
        let next = self.next_port.fetch_add(1, Ordering::Relaxed);
        match &self.patient.way {
            Way::Program { ports, .. } if by == By::Usual => ports[usize::from(next) % ports.len()],
            _ => FIRST_PORT + next % 10_000,
        }
    }

    async fn send(&self, question: &Question, port: u16, frame: fn(&Opening) -> Vec<u8>) -> Result<()> {
        let source = self.patient.source.context("no address of this host")?;
        let Question { by, protocol, to, length } = *question;
        let opening = Opening { length, ..Opening::new(protocol, SocketAddr::new(source, port), to) };
        if let (Way::Program { ifindex, .. }, By::Usual) = (&self.patient.way, by) {
            return self.plane.inject(frame(&Opening { ttl: USUAL_TTL, ..opening }), *ifindex).await;
        }
        // Whoever does not have the address must not pass it on: it would come back, and go to another backend.
        let ttl = if self.patient.is_nat() { USUAL_TTL } else { NO_FURTHER };
        let frame = frame(&Opening { ttl, ..opening });
        match super::beside::forwarded(frame, &self.patient.rules, &self.entry_for(by)) {
            Some((frame, ifindex)) => self.wire.send(&frame, ifindex),
            // It would have been too big.
            None => Ok(()),
        }
    }

    fn entry_for(&self, by: By) -> BackendEntry {
        match (by, self.patient.outer) {
            (By::KnownSource, Some(outer)) => {
                BackendEntry { outer_source: words(outer), outer_source_mask: 0, ..*self.entry }
            }
            _ => *self.entry,
        }
    }

    /// What a packet says about the question, and which of our ports it is for.
    fn answer(&self, question: &Question, ports: &[u16], heard: &Heard) -> Option<(Answer, u16)> {
        let source = self.patient.source?;
        let answers = |from: &SocketAddr, to: &SocketAddr| {
            let from_there = *from == question.to || self.patient.is_nat() && *from == self.patient.backend;
            from_there && to.ip() == source && ports.contains(&to.port())
        };
        match heard {
            Heard::Tcp { from, to, flags } if question.protocol == Protocol::Tcp && answers(from, to) => {
                let answer = if flags & RST != 0 { Answer::Closed } else { Answer::Open };
                Some((answer, to.port()))
            }
            Heard::Udp { from, to } if question.protocol == Protocol::Udp && answers(from, to) => {
                Some((Answer::Open, to.port()))
            }
            Heard::Error { from, kind, quoted } => {
                let (from, kind) = (*from, *kind);
                let addressed = quoted.destination == question.to.ip()
                    || self.patient.is_nat() && quoted.destination == self.patient.backend.ip();
                let port = quoted.source_port;
                if addressed && ports.contains(&port) && quoted.protocol == question.protocol.number() {
                    let closed = kind == ErrorKind::NoPort && question.protocol == Protocol::Udp;
                    let answer = if closed { Answer::Closed } else { Answer::Error { from, kind, outer: false } };
                    return Some((answer, port));
                }
                let outer = self.patient.is_encapsulated()
                    && quoted.destination == self.patient.backend.ip()
                    && match quoted.protocol {
                        UDP => quoted.destination_port == u16::from_be(self.entry.port),
                        protocol => protocol != TCP,
                    };
                outer.then_some((Answer::Error { from, kind, outer: true }, port))
            }
            _ => None,
        }
    }
}

const RST: u8 = 0x04;
