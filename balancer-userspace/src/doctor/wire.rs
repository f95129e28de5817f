//! Packet sockets: what comes in for this host, and frames that leave beside the program. Answers are heard before the host
//! looks at them, so that its own filters and `rp_filter` don't hide them.

use std::collections::BTreeSet;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::heard::{Heard, read};

/// Packets that wait for a slow probe; more are lost, and asked for again.
const QUEUE: usize = 4096;
/// Enough for what an ICMP error quotes of an encapsulated packet.
const SNAP: usize = 256;

/// Both directions; closed with the value.
pub(super) struct Wire {
    heard: broadcast::Sender<Heard>,
    listener: AbortHandle,
    sender: Socket,
}

impl Wire {
    /// Listens for packets to these addresses of this host.
    pub(super) fn open(addresses: &BTreeSet<IpAddr>) -> Result<Self> {
        let open = |kind, protocol: Option<Protocol>| {
            Socket::new(Domain::PACKET, kind, protocol)
                .context("opening a packet socket, which needs CAP_NET_RAW (deploy/balancer.service has it)")
        };
        // Deaf until it has its filter.
        let ear = open(Type::DGRAM, None)?;
        ear.attach_filter(&filter(addresses)).context("filtering a packet socket")?;
        ear.set_nonblocking(true)?;
        bind(&ear)?;
        // SAFETY: the socket is closed only when it is dropped, and the `AsyncFd` has it until then.
        let ear = unsafe { AsyncFd::register_with_interest(ear, Interest::READABLE) }.context("waiting for packets")?;
        let (heard, _) = broadcast::channel(QUEUE);
        let listener = tokio::spawn(listen(ear, heard.clone())).abort_handle();
        Ok(Self { heard, listener, sender: open(Type::RAW, None)? })
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// Sends a whole frame.
    pub(super) fn send(&self, frame: &[u8], ifindex: u32) -> Result<()> {
        let address = link_address(0, ifindex);
        let length = size_of::<libc::sockaddr_ll>() as u32;
        // SAFETY: a buffer and an address of the lengths given.
        let sent = unsafe {
            let (frame, bytes) = (frame.as_ptr().cast(), frame.len());
            libc::sendto(self.sender.as_raw_fd(), frame, bytes, 0, (&raw const address).cast(), length)
        };
        ensure!(sent >= 0, "sending a frame by a socket: {}", io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn listen(ear: AsyncFd<Socket>, heard: broadcast::Sender<Heard>) {
    loop {
        let Ok(mut ready) = ear.readable().await else { return };
        let mut buffer = [MaybeUninit::<u8>::uninit(); SNAP];
        let received = ready.try_io(|ear| ear.get_ref().recv(&mut buffer));
        if let Ok(Ok(count)) = received {
            // SAFETY: the kernel wrote that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), count.min(SNAP)) };
            if let Some(packet) = read(bytes) {
                let _ = heard.send(packet);
            }
        }
    }
}

fn link_address(protocol: u16, ifindex: u32) -> libc::sockaddr_ll {
    // SAFETY: all zeros are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    address
}

/// Has the socket hear what comes in by any interface.
fn bind(ear: &Socket) -> Result<()> {
    let address = link_address(libc::ETH_P_ALL as u16, 0);
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: an address of the length given.
    let bound = unsafe { libc::bind(ear.as_raw_fd(), (&raw const address).cast(), length) };
    ensure!(bound == 0, "listening for packets: {}", io::Error::last_os_error());
    Ok(())
}

/// Offsets in IP headers: the version, the IPv4 destination, and the last word of the IPv6 destination.
const VERSION: u32 = 0;
const TO_V4: u32 = 16;
const TO_V6: u32 = 36;

/// A program of the classic kind (Documentation/networking/filter.rst) that takes packets to these addresses, of IPv6 those
/// whose last word is one's.
fn filter(addresses: &BTreeSet<IpAddr>) -> Vec<SockFilter> {
    let words = |v4: bool| -> BTreeSet<u32> {
        let of_family = addresses.iter().filter(|address| address.is_ipv4() == v4);
        of_family
            .map(|address| match address {
                IpAddr::V4(address) => address.to_bits(),
                IpAddr::V6(address) => address.to_bits() as u32,
            })
            .collect()
    };
    let statement = |code: u32, k| SockFilter::new(code as u16, 0, 0, k);
    let jump = |k, yes, no| SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, yes, no, k);
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let answer = |bytes| statement(libc::BPF_RET | libc::BPF_K, bytes);
    let matches = |at, words: BTreeSet<u32>| {
        let mut part = vec![load(at)];
        part.extend(words.into_iter().flat_map(|word| [jump(word, 0, 1), answer(SNAP as u32)]));
        part.push(answer(0));
        part
    };
    let (v4, v6) = (matches(TO_V4, words(true)), matches(TO_V6, words(false)));
    let mut program = vec![
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, VERSION),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0xf0),
        jump(0x40, 0, 1),
        // A conditional jump reaches 255 instructions, this one any.
        statement(libc::BPF_JMP | libc::BPF_JA, v6.len() as u32),
    ];
    program.extend(v6);
    program.extend(v4);
    program
}
