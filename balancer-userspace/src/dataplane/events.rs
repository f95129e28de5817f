//! What the program tells: records in a ring that it shares with the controller.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use balancer_common::capture::{Head, Kind};
use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Verdict;

/// The ring; readable when there is something in it.
pub struct Events(RingBuf<MapData>);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A fragment that came before the first of its packet.
    Fragment {
        frame: Vec<u8>,
        ifindex: u32,
    },
    /// Routers say that the way to `address` takes IP packets of at most `mtu` bytes.
    PathMtu {
        address: IpAddr,
        mtu: u32,
    },
    Watched(Watched),
}

/// A packet that is watched, as it came in or as it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Absent of a packet that comes in.
    pub outcome: Option<Verdict>,
    /// The interface it came in on.
    pub ifindex: u32,
    /// Number of the service.
    pub service: Option<u16>,
    pub slot: u32,
    pub backend: BackendIndex,
    /// Of the whole frame, of which `frame` is the beginning.
    pub length: u32,
    /// Pairs an entry with its exit.
    pub sequence: u64,
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    pub frame: Vec<u8>,
}

impl Events {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// The oldest record; `None` where the ring is empty.
    pub fn take(&mut self) -> Option<Told> {
        loop {
            let item = self.0.next()?;
            // What this version does not know is passed over.
            if let Some(told) = told(&item) {
                return Some(told);
            }
        }
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn told(bytes: &[u8]) -> Option<Told> {
    let (head, frame) = bytes.split_at_checked(size_of::<Head>())?;
    // SAFETY: as long as a head by the line above; any bytes are one.
    let head = unsafe { head.as_ptr().cast::<Head>().read_unaligned() };
    let frame = || frame.get(..head.captured as usize).map(<[u8]>::to_vec);
    let is = |kind: Kind| head.kind == kind as u64;
    if is(Kind::PathMtu) {
        let [low, high] = head.address.map(u64::to_ne_bytes);
        let address = match head.family {
            4 => IpAddr::from([low[0], low[1], low[2], low[3]]),
            _ => IpAddr::from(<[u8; 16]>::try_from([low, high].concat()).ok()?),
        };
        return Some(Told::PathMtu { address, mtu: u32::try_from(head.mtu).ok()? });
    }
    if is(Kind::Fragment) {
        return Some(Told::Fragment { frame: frame()?, ifindex: head.ifindex as u32 });
    }
    (is(Kind::Entry) || is(Kind::Exit)).then(|| {
        Some(Told::Watched(Watched {
            outcome: is(Kind::Exit).then(|| Verdict::from_word(head.outcome)),
            ifindex: head.ifindex as u32,
            service: u16::try_from(head.service).ok(),
            slot: head.way as u32,
            backend: (head.way >> 32) as BackendIndex,
            length: head.length as u32,
            sequence: head.sequence,
            time: head.time,
            frame: frame()?,
        }))
    })?
}
