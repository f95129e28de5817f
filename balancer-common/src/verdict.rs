//! What happened to a packet.

/// What the XDP program answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the kernel's network stack, untouched unless it is a reply that the stack is to route.
    Pass,
    /// Out of this interface.
    Forward {
        ifindex: u32,
    },
    /// Back out of where it came in: an answer of the balancer's own.
    Answer,
    Drop(Reason),
}

impl Verdict {
    /// In one word, for functions of the program that can't answer with more: what it is in the high half, interface or
    /// reason in the low one.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        match self {
            Self::Pass => 0,
            Self::Forward { ifindex } => 1 << 32 | ifindex as u64,
            Self::Answer => 2 << 32,
            Self::Drop(reason) => 3 << 32 | reason as u64,
        }
    }

    /// A word that none is stands for [`Verdict::Pass`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        match word >> 32 {
            1 => Self::Forward { ifindex: word as u32 },
            2 => Self::Answer,
            3 => match Reason::from_index(word as u32) {
                Some(reason) => Self::Drop(reason),
                None => Self::Pass,
            },
            _ => Self::Pass,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $index:literal $label:literal,)*) => {
        /// Why a packet of a service was not forwarded.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[$doc])* $name = $index,)*
        }

        impl Reason {
            /// Every reason; its number is its place here, and its index in the kernel's map.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The reason with this number.
            #[inline(always)]
            pub const fn from_index(index: u32) -> Option<Self> {
                if index < Self::ALL.len() as u32 {
                    // SAFETY: reasons are numbered by their place, without gaps.
                    Some(unsafe { core::mem::transmute::<u32, Self>(index) })
                } else {
                    None
                }
            }

            /// As in the metric `balancer_dropped_packets_total{reason}`.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// The service has no backend that takes flows.
    NoBackend = 0 "no_backend",
    /// The slot names a backend that the kernel's map does not hold: the maps were changed from outside.
    BackendMissing = 1 "backend_missing",
    /// The transport header is cut off or impossible.
    Malformed = 2 "malformed",
    /// The IP header promises more bytes than the frame has.
    Truncated = 3 "truncated",
    /// A fragment whose first one was not seen yet; the controller keeps it for a moment and sends it in again.
    Fragment = 4 "fragment",
    /// IPv6 extension headers that can't be looked through: more than six, or a source route.
    Ipv6Extension = 5 "ipv6_extension",
    /// TTL or hop limit ran out here.
    TtlExpired = 6 "ttl_expired",
    /// Larger than the link to the backend takes, after encapsulation.
    PacketTooBig = 7 "packet_too_big",
    /// No room in front of the frame for the outer header.
    NoHeadroom = 8 "no_headroom",
    /// From a source that no client can have.
    Martian = 9 "martian",
    /// The checksum of the IPv4 header is wrong.
    Checksum = 10 "checksum",
    /// The source is in a list that denies it, or in none that allows it.
    AclRefused = 11 "acl_refused",
    /// More new flows than the service takes.
    RateLimited = 12 "rate_limited",
    /// More new flows than the service takes of one source.
    SourceLimited = 13 "source_rate_limited",
    /// A new flow met a full flow table, and the service drops these.
    FlowTableFull = 14 "flow_table_full",
}

/// What is counted for each service beside packets and drops; the place in [`crate::layout::ServiceCounters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Event {
    FlowTableFull = 0,
    QuicUnknown = 1,
    QuicRouted = 2,
    AclRefused = 3,
    RateLimited = 4,
    SourceLimited = 5,
    IcmpRelayed = 6,
    TooBigAnswered = 7,
    /// A SYN came again: nobody answered the one before. Seen in open slots, where flows are remembered.
    SynRepeated = 8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_its_word() {
        let drops = Reason::ALL.iter().map(|reason| Verdict::Drop(*reason));
        let others = [Verdict::Pass, Verdict::Answer, Verdict::Forward { ifindex: u32::MAX }];
        for verdict in drops.chain(others) {
            assert_eq!(Verdict::from_word(verdict.to_word()), verdict);
        }
        assert_eq!(Verdict::from_word(3 << 32 | 1000), Verdict::Pass);
    }

    #[test]
    fn reasons_are_numbered_by_their_place() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
