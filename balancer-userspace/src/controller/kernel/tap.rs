//! Packets shown to whoever asked: each as it came in and as it left, with what was decided in a comment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use balancer_common::capture::{Filter, NO_SERVICE};
use balancer_common::tables::WatchedFlow;
use balancer_common::verdict::Verdict;
use bytes::Bytes;
use pcap_file::pcapng::PcapNgWriter;
use tokio::sync::mpsc;

use crate::controller::kernel::Kernel;
use crate::controller::kernel::pcap::{Capture, boot_time, interface_name};
use crate::controller::refusal::Refusal;
use crate::dataplane::Watched;
use crate::model::{Protocol, ServiceName};
use crate::plan::watched_flow;

/// Blocks that wait for a slow reader; more are lost.
const QUEUE: usize = 4096;

/// Which packets are shown, and how many.
pub(crate) struct Selection {
    pub(crate) service: Option<ServiceName>,
    pub(crate) flow: Option<(Protocol, SocketAddr, SocketAddr)>,
    /// Packets at most.
    pub(crate) count: u32,
    pub(crate) seconds: u32,
    /// Packets a second at most, on each processor.
    pub(crate) rate: u32,
    /// One packet in so many.
    pub(crate) one_in: u32,
}

impl Kernel {
    /// Starts one; the answer ends when it does.
    pub(crate) fn start_capture(&mut self, wanted: &Selection) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        if self.capture.as_ref().is_some_and(|capture| !capture.blocks.is_closed() && !capture.is_over()) {
            return Err(Refusal::Invalid("another capture runs; wait for its end, or end it".to_owned()));
        }
        let filter = self.filter(wanted)?;
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let (blocks, received) = mpsc::channel(QUEUE);
        let mut capture = Capture {
            blocks,
            until: Instant::now() + Duration::from_secs(u64::from(wanted.seconds)),
            left: u64::from(wanted.count),
            writer: PcapNgWriter::new(Vec::new()).map_err(|error| failed(error.into()))?,
            interfaces: HashMap::new(),
            boot: boot_time(),
        };
        capture.flush();
        self.plane.watch(&filter).map_err(failed)?;
        self.capture = Some(capture);
        Ok(received)
    }

    /// Whether the program is to show packets now.
    pub(crate) fn is_capturing(&self) -> bool {
        self.capture.is_some()
    }

    pub(crate) fn filter(&self, wanted: &Selection) -> Result<Filter, Refusal> {
        let service = match &wanted.service {
            None => u64::from(NO_SERVICE),
            Some(name) => {
                let number = self.allocations.services.get(name);
                let absent = || Refusal::NotFound(format!("there is no service {name}; `balancer status` lists them"));
                u64::from(*number.ok_or_else(absent)?)
            }
        };
        let flow = match wanted.flow {
            None => WatchedFlow::default(),
            Some((protocol, source, destination)) => watched_flow(protocol, source, destination).ok_or_else(|| {
                Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned())
            })?,
        };
        let rate = u64::from(wanted.rate.max(1));
        let interval = 1_000_000_000 / rate;
        Ok(Filter {
            service,
            by_flow: u64::from(wanted.flow.is_some()),
            flow,
            one_in: u64::from(wanted.one_in.max(1)),
            interval,
            // A tenth of a second's worth at once, and at least one.
            depth: interval * (rate / 10).max(1),
        })
    }

    pub(crate) fn note_watched(&mut self, watched: &Watched) {
        let comment = self.comment(watched);
        let Some(capture) = &mut self.capture else { return };
        if let Err(error) = capture.add(watched, comment) {
            log::warn!("a captured packet could not be written: {error:#}");
        }
        self.end_capture_if_over();
    }

    /// The last sender gone, whoever asked sees the end.
    pub(crate) fn end_capture_if_over(&mut self) {
        if self.capture.as_ref().is_some_and(|capture| capture.blocks.is_closed() || capture.is_over()) {
            self.plane.watch_no_more();
            self.capture = None;
        }
    }

    /// What was decided about a packet.
    fn comment(&self, watched: &Watched) -> String {
        let service = watched.service.and_then(|number| self.numbered(number));
        let service_text = service.map_or_else(|| "none".to_owned(), ToString::to_string);
        let Some(outcome) = watched.outcome else {
            return format!("packet {:x} comes in; service {service_text}", watched.sequence);
        };
        let verdict = match outcome {
            Verdict::Pass => "pass".to_owned(),
            Verdict::Forward { ifindex } => format!("forward to {}", interface_name(ifindex)),
            Verdict::Answer => "answer".to_owned(),
            Verdict::Drop(reason) => format!("drop, reason {}", reason.label()),
        };
        let backend = service.and_then(|service| self.owner_name(service, watched.backend));
        let backend = backend.map_or_else(String::new, |name| format!(", slot {}, backend {name}", watched.slot));
        format!("packet {:x}: {verdict}; service {service_text}{backend}", watched.sequence)
    }
}
