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
    Drop(Reason),
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
    /// An IP fragment.
    Fragment = 4 "fragment",
    /// IPv6 extension headers before the transport header.
    Ipv6Extension = 5 "ipv6_extension",
    /// TTL or hop limit ran out here.
    TtlExpired = 6 "ttl_expired",
    /// Larger than the link to the backend takes, after encapsulation.
    PacketTooBig = 7 "packet_too_big",
    /// No room in front of the frame for the outer header.
    NoHeadroom = 8 "no_headroom",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_by_their_place() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
