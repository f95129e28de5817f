//! A capture that runs, written as pcapng.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use balancer_common::verdict::Verdict;
use bytes::Bytes;
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use tokio::sync::mpsc;

use crate::dataplane::Watched;

/// A capture that runs.
pub(crate) struct Capture {
    pub(crate) blocks: mpsc::Sender<Bytes>,
    pub(crate) until: Instant,
    /// Packets to come, entry and exit as one.
    pub(crate) left: u64,
    pub(crate) writer: PcapNgWriter<Vec<u8>>,
    /// Interfaces by index and whether packets come in there, as numbered in the file.
    pub(crate) interfaces: HashMap<(u32, bool), u32>,
    /// From CLOCK_MONOTONIC to the time of day.
    pub(crate) boot: Duration,
}

impl Capture {
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 || Instant::now() >= self.until
    }

    pub(crate) fn add(&mut self, watched: &Watched, comment: String) -> Result<()> {
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
    pub(crate) fn flush(&mut self) {
        let written = std::mem::take(self.writer.get_mut());
        let _ = self.blocks.try_send(written.into());
    }
}

pub(crate) fn interface_name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .map_or_else(|_| format!("#{ifindex}"), |name| name.to_string_lossy().into_owned())
}

/// When CLOCK_MONOTONIC was 0, as time of day.
pub(crate) fn boot_time() -> Duration {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(monotonic.unwrap_or_default())
}
