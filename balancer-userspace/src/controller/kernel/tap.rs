//! Packets shown to whoever asked, as pcapng: each as it came in and as it left, with what was decided in a comment.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use balancer_common::capture::{Filter, NO_SERVICE};
use balancer_common::tables::WatchedFlow;
use balancer_common::verdict::Verdict;
use bytes::Bytes;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgBlock;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use tokio::sync::mpsc;

use crate::controller::handle::Refusal;
use crate::controller::kernel::Kernel;
use crate::controller::requests;
use crate::dataplane::Watched;
use crate::plan::watched_flow;

/// Blocks that wait for a slow reader; more are lost.
const QUEUE: usize = 4096;

/// A capture that runs.
pub(crate) struct Capture {
    blocks: mpsc::Sender<Bytes>,
    until: Instant,
    /// Packets to come, entry and exit as one.
    left: u64,
    writer: PcapNgWriter<Vec<u8>>,
    /// Interfaces by index and whether packets come in there, as numbered in the file.
    interfaces: HashMap<(u32, bool), u32>,
    /// From CLOCK_MONOTONIC to the time of day.
    boot: Duration,
}

impl Kernel {
    /// Starts one; the answer ends when it does.
    pub(crate) fn start_capture(&mut self, request: &requests::Capture) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        if self.capture.as_ref().is_some_and(|capture| !capture.blocks.is_closed() && !capture.is_over()) {
            return Err(Refusal::Invalid("another capture runs; wait for its end, or end it".to_owned()));
        }
        let filter = self.filter(request)?;
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let (blocks, received) = mpsc::channel(QUEUE);
        let mut capture = Capture {
            blocks,
            until: Instant::now() + Duration::from_secs(u64::from(request.seconds)),
            left: u64::from(request.count),
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

    fn filter(&self, request: &requests::Capture) -> Result<Filter, Refusal> {
        let service = match &request.service {
            None => u64::from(NO_SERVICE),
            Some(name) => {
                let number = self.allocations.services.get(name);
                let absent = || Refusal::NotFound(format!("there is no service {name}; `balancer status` lists them"));
                u64::from(*number.ok_or_else(absent)?)
            }
        };
        let flow = match &request.flow {
            None => WatchedFlow::default(),
            Some(flow) => watched_flow(flow.protocol, flow.source, flow.destination).ok_or_else(|| {
                Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned())
            })?,
        };
        let rate = u64::from(request.rate.max(1));
        let interval = 1_000_000_000 / rate;
        Ok(Filter {
            service,
            by_flow: u64::from(request.flow.is_some()),
            flow,
            one_in: u64::from(request.one_in.max(1)),
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
        let service = watched.service.and_then(|number| {
            let mut services = self.allocations.services.iter();
            services.find(|(_, there)| **there == number).map(|(name, _)| name)
        });
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

impl Capture {
    fn is_over(&self) -> bool {
        self.left == 0 || Instant::now() >= self.until
    }

    fn add(&mut self, watched: &Watched, comment: String) -> Result<()> {
        let comes_in = watched.outcome.is_none();
        let leaves_by = match watched.outcome {
            Some(Verdict::Forward { ifindex }) => ifindex,
            _ => watched.ifindex,
        };
        let interface_id = self.interface(leaves_by, comes_in)?;
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: self.boot + Duration::from_nanos(watched.time),
            original_len: watched.length,
            data: watched.frame.as_slice().into(),
            options: vec![
                // Inbound and outbound.
                EnhancedPacketOption::Flags(if comes_in { 1 } else { 2 }),
                EnhancedPacketOption::Common(CommonOption::Comment(comment.into())),
            ],
        };
        self.writer.write_block(&block.into_block())?;
        self.flush();
        self.left -= u64::from(!comes_in && self.left > 0);
        Ok(())
    }

    fn interface(&mut self, ifindex: u32, comes_in: bool) -> Result<u32> {
        if let Some(id) = self.interfaces.get(&(ifindex, comes_in)) {
            return Ok(*id);
        }
        let name = format!("{} {}", interface_name(ifindex), if comes_in { "in" } else { "out" });
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: balancer_common::capture::WATCHED_SNAP,
            options: vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        };
        self.writer.write_block(&block.into_block())?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert((ifindex, comes_in), id);
        Ok(id)
    }

    /// What was written goes to whoever asked; where he is too slow it is lost.
    fn flush(&mut self) {
        let written = std::mem::take(self.writer.get_mut());
        let _ = self.blocks.try_send(written.into());
    }
}

fn interface_name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .map_or_else(|_| format!("#{ifindex}"), |name| name.to_string_lossy().into_owned())
}

/// When CLOCK_MONOTONIC was 0, as time of day.
fn boot_time() -> Duration {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(monotonic.unwrap_or_default())
}
