//! Steps of the packet path that the program runs as functions of their own. The kernel verifies each of them once, for any
//! arguments, where a step that is compiled into its caller is verified again for every way that leads there; without
//! that the program would be too much for it. Everybody else takes them as they are.

use crate::frame::Frame;
use crate::layout::{BackendEntry, FragmentEntry, ServiceEntry};
use crate::parse::{Packet, Parsed};
use crate::slot::{BackendIndex, Slot};
use crate::tables::Tables;
use crate::verdict::{Reason, Verdict};
use crate::{datapath, guard, icmp, mss, owner, parse, path, quic};

pub trait Steps: Tables + Sized {
    fn parse<F: Frame>(&self, frame: &mut F, packet: &mut Packet) -> Parsed {
        parse::parse(frame, packet)
    }

    /// The backend of a flow in open slot `place`.
    fn owner_in_open(&self, service: &ServiceEntry, packet: &Packet, place: u32, slot: Slot) -> BackendIndex {
        owner::in_open(self, service, packet, place, slot)
    }

    fn admit(&self, service: &ServiceEntry, packet: &Packet, entropy: u32) -> Option<Reason> {
        guard::admit(self, service, packet, entropy).err()
    }

    /// Whether the service's lists deny the sender of an ICMP error.
    fn denies_sender<F: Frame>(&self, frame: &mut F, service: &ServiceEntry, error: &Packet) -> bool {
        guard::denies_sender(frame, self, service, error)
    }

    fn by_connection_id<F: Frame>(
        &self,
        frame: &mut F,
        service: &ServiceEntry,
        packet: &Packet,
    ) -> Option<BackendIndex> {
        quic::backend(frame, self, service, packet)
    }

    fn clamp<F: Frame>(&self, frame: &mut F, packet: &Packet, most: u16) {
        mss::clamp(frame, packet, most);
    }

    /// Rewrites an ICMP error so that the backend knows the packet it quotes as its own; false where it is cut off.
    fn error_to_backend<F: Frame>(&self, frame: &mut F, packet: &Packet, backend: &BackendEntry) -> bool {
        icmp::to_backend(frame, packet, backend).is_some()
    }

    fn answer_too_big<F: Frame>(&self, frame: &mut F, packet: &Packet, mtu: u16) -> bool {
        icmp::answer_too_big(frame, packet, mtu).is_some()
    }

    /// Takes in an ICMP error about no packet of a service; false where it is not about what goes to backends either.
    fn learn_path<F: Frame>(&self, frame: &mut F, packet: &Packet) -> bool {
        path::learn(frame, self, packet)
    }

    fn echo<F: Frame>(&self, frame: &mut F, packet: &Packet) -> Verdict {
        datapath::echo(frame, self, packet)
    }

    /// Remembers where the first fragment of a packet went.
    fn remember_first(&self, packet: &Packet, entry: &FragmentEntry) {
        self.remember_fragment(&packet.fragment_key(), entry);
    }

    fn later_fragment<F: Frame>(&self, frame: &mut F, packet: &Packet) -> Verdict {
        datapath::later_fragment(frame, self, packet)
    }

    fn reply<F: Frame>(&self, frame: &mut F, packet: &Packet) -> Verdict {
        datapath::reply(frame, self, packet)
    }

    fn unusable(&self, packet: &Packet, reason: Reason) -> Verdict {
        datapath::unusable(self, packet, reason)
    }
}
