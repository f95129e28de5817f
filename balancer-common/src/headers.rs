//! Packet headers as they lie in a frame: packed, so that they can stand at any offset. Multi-byte fields are in
//! network byte order and typed as such, addresses are words in the order of their bytes in memory.

/// A 16-bit number in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct Be16(pub u16);

impl Be16 {
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// Types that any bytes are a valid value of, at any alignment.
///
/// # Safety
/// The type is `repr(C, packed)` and made of integers only.
pub unsafe trait Header: Copy {}

macro_rules! headers {
    ($($(#[$doc:meta])* $name:ident [$size:literal] { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C, packed)]
        pub struct $name {
            $(pub $field: $type,)*
        }
        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $size;
        }
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);
        // SAFETY: packed, and every field is an integer or an array of integers.
        unsafe impl Header for $name {}
    )*};
}

headers! {
    /// IEEE 802.3.
    Ethernet[14] {
        destination: [u8; 6],
        source: [u8; 6],
        ether_type: Be16,
    }
    /// RFC 791, without options.
    Ipv4[20] {
        version_ihl: u8,
        tos: u8,
        total_length: Be16,
        id: Be16,
        flags_fragment: Be16,
        ttl: u8,
        protocol: u8,
        checksum: Be16,
        source: u32,
        destination: u32,
    }
    /// RFC 8200.
    Ipv6[40] {
        version_class_flow: u32,
        payload_length: Be16,
        next_header: u8,
        hop_limit: u8,
        source: [u32; 4],
        destination: [u32; 4],
    }
    /// RFC 9293, without options.
    Tcp[20] {
        source: Be16,
        destination: Be16,
        sequence: u32,
        acknowledgment: u32,
        data_offset: u8,
        flags: u8,
        window: Be16,
        checksum: Be16,
        urgent: Be16,
    }
    /// RFC 768.
    Udp[8] {
        source: Be16,
        destination: Be16,
        length: Be16,
        checksum: Be16,
    }
    /// RFC 9260: the common header and the type of the first chunk.
    Sctp[13] {
        source: Be16,
        destination: Be16,
        verification_tag: u32,
        checksum: u32,
        chunk_type: u8,
    }
    /// The first bytes of every transport header here.
    Ports[4] {
        source: Be16,
        destination: Be16,
    }
    /// RFC 792 and RFC 4443; `rest` is what the type makes of it.
    Icmp[8] {
        kind: u8,
        code: u8,
        checksum: Be16,
        rest: u32,
    }
    /// IEEE 802.1Q: a tag that stands before the type.
    VlanTag[4] {
        control: Be16,
        ether_type: Be16,
    }
    /// RFC 8200: how every extension header but the fragment's begins.
    Extension[2] {
        next_header: u8,
        length: u8,
    }
    /// RFC 8200, 4.4.
    RoutingHeader[4] {
        next_header: u8,
        length: u8,
        kind: u8,
        segments_left: u8,
    }
    /// RFC 8200, 4.5.
    FragmentHeader[8] {
        next_header: u8,
        reserved: u8,
        offset_more: Be16,
        id: u32,
    }
    /// draft-ietf-intarea-gue, variant 0 without extensions.
    Gue[4] {
        variant_length: u8,
        protocol: u8,
        flags: Be16,
    }
    /// Any four bytes.
    Word[4] {
        value: u32,
    }
    /// Any two bytes.
    Half[2] {
        value: u16,
    }
}

pub const ETHER_IPV4: Be16 = Be16::new(0x0800);
pub const ETHER_IPV6: Be16 = Be16::new(0x86dd);

pub const ETHER_VLAN: Be16 = Be16::new(0x8100);
/// IEEE 802.1ad, the outer tag of two.
pub const ETHER_QINQ: Be16 = Be16::new(0x88a8);

pub const PROTOCOL_ICMP: u8 = 1;
pub const PROTOCOL_IPIP: u8 = 4;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
pub const PROTOCOL_IPV6: u8 = 41;
pub const PROTOCOL_ICMPV6: u8 = 58;
pub const PROTOCOL_SCTP: u8 = 132;

/// RFC 791: don't fragment, more fragments, and the 13 bits of the offset.
pub const IPV4_DF: u16 = 0x4000;
pub const IPV4_MF: u16 = 0x2000;
pub const IPV4_OFFSET: u16 = 0x1fff;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

impl Ipv4 {
    /// Header length in bytes, options included; less than 20 in a broken header.
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Takes one hop off and keeps the checksum right (RFC 1624).
    #[inline(always)]
    pub fn decrement_ttl(&mut self) {
        self.ttl = self.ttl.wrapping_sub(1);
        // TTL is the high byte of its word: the word fell by 0x0100, so the checksum rises by it.
        let sum = u32::from(self.checksum.get()) + 0x0100;
        // The carry comes round, and all ones become the 0 that a fresh sum would give.
        self.checksum = Be16::new((sum + u32::from(sum >= 0xffff)) as u16);
    }
}

impl Ipv6 {
    #[inline(always)]
    pub fn version(&self) -> u8 {
        (u32::from_be(self.version_class_flow) >> 28) as u8
    }

    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (u32::from_be(self.version_class_flow) >> 20) as u8
    }
}

/// The first word of an IPv6 header.
#[inline(always)]
pub fn ipv6_first_word(traffic_class: u8, flow_label: u32) -> u32 {
    ((6 << 28) | (u32::from(traffic_class) << 20) | (flow_label & 0x000f_ffff)).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_leaves_the_checksum_that_a_fresh_sum_gives() {
        let sum = |ip: &Ipv4| {
            let words = [
                u32::from(ip.version_ihl) << 8,
                u32::from(ip.id.get()),
                (u32::from(ip.ttl) << 8) + u32::from(ip.protocol),
            ];
            let sum: u32 = words.iter().sum();
            !((sum & 0xffff) + (sum >> 16)) as u16
        };
        for id in 0..=u16::MAX {
            let mut ip = Ipv4 {
                version_ihl: 0x45,
                tos: 0,
                total_length: Be16(0),
                id: Be16::new(id),
                flags_fragment: Be16(0),
                ttl: 64,
                protocol: 6,
                checksum: Be16(0),
                source: 0,
                destination: 0,
            };
            ip.checksum = Be16::new(sum(&ip));
            ip.decrement_ttl();
            let checksum = ip.checksum;
            assert_eq!((ip.ttl, checksum.get()), (63, sum(&ip)), "{id}");
        }
    }
}
