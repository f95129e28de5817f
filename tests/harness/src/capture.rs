//! What is on a wire.

use std::io::Read;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

type Frames = Vec<Vec<u8>>;

/// Frames seen at an interface since the start, both ways.
pub struct Capture {
    stop: Arc<AtomicBool>,
    frames: Arc<Mutex<Frames>>,
    worker: JoinHandle<()>,
}

impl Capture {
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let mut socket = namespace.enter(|| open(interface))??;
        let (stop, frames) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Frames::new())));
        let (stopped, seen) = (stop.clone(), frames.clone());
        let worker = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            loop {
                let ends = stopped.load(Ordering::Relaxed);
                match socket.read(&mut buffer) {
                    Ok(count) => lock(&seen).push(buffer[..count].to_vec()),
                    // What came before the end is all read.
                    Err(_) if ends => return,
                    Err(_) => {}
                }
            }
        });
        Ok(Self { stop, frames, worker })
    }

    pub fn stop(self) -> Frames {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.worker.join();
        std::mem::take(&mut lock(&self.frames))
    }

    /// Waits until so many of the frames are wanted ones, for two seconds at most, and stops.
    pub fn stop_after(self, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Frames {
        let deadline = Instant::now() + Duration::from_secs(2);
        let seen = || lock(&self.frames).iter().filter(|frame| wanted(frame)).count();
        while seen() < count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop()
    }
}

fn lock(frames: &Mutex<Frames>) -> MutexGuard<'_, Frames> {
    frames.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(interface: &str) -> Result<Socket> {
    let every = (libc::ETH_P_ALL as u16).to_be();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(i32::from(every).into())).context("a packet socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    socket.set_recv_buffer_size(64 << 20)?;
    // SAFETY: all zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every;
    address.sll_ifindex = if_nametoindex(interface)? as i32;
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: an address of the length given.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    ensure!(bound == 0, "binding to {interface}: {}", std::io::Error::last_os_error());
    Ok(socket)
}

/// Checks every checksum of a frame, of the outer and of the inner packet, by an independent parser.
pub fn check_sums(frame: &[u8]) -> Result<()> {
    let packet = SlicedPacket::from_ethernet(frame)?;
    check_packet(&packet)
}

fn check_packet(packet: &SlicedPacket<'_>) -> Result<()> {
    let Some(net) = &packet.net else { return Ok(()) };
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header().to_header();
        ensure!(header.header_checksum == header.calc_header_checksum(), "IPv4 header checksum");
    }
    // Neither family's header inside another one is a transport header to the parser.
    if let Some(inner) = inner_packet(net) {
        return check_packet(&SlicedPacket::from_ip(inner)?);
    }
    match (&packet.transport, net) {
        (Some(TransportSlice::Tcp(tcp)), NetSlice::Ipv4(ip)) => {
            let wanted = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())?;
            ensure!(same(tcp.checksum(), wanted), "TCP checksum");
        }
        (Some(TransportSlice::Tcp(tcp)), NetSlice::Ipv6(ip)) => {
            let wanted = tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())?;
            ensure!(same(tcp.checksum(), wanted), "TCP checksum");
        }
        (Some(TransportSlice::Udp(udp)), NetSlice::Ipv4(ip)) => {
            let wanted = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload())?;
            ensure!(udp.checksum() == 0 || same(udp.checksum(), wanted), "UDP checksum");
        }
        (Some(TransportSlice::Udp(udp)), NetSlice::Ipv6(ip)) => {
            let wanted = udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload())?;
            ensure!(same(udp.checksum(), wanted), "UDP checksum");
        }
        _ => {}
    }
    Ok(())
}

/// In one's complement 0 and all ones are the same sum.
fn same(a: u16, b: u16) -> bool {
    a == b || (a.is_multiple_of(0xffff) && b.is_multiple_of(0xffff))
}

/// The packet inside an IP-in-IP packet.
pub fn inner_packet<'a>(net: &NetSlice<'a>) -> Option<&'a [u8]> {
    let payload = match net {
        NetSlice::Ipv4(ip) => ip.payload(),
        NetSlice::Ipv6(ip) => ip.payload(),
        NetSlice::Arp(_) => return None,
    };
    matches!(payload.ip_number.0, 4 | 41).then_some(payload.payload)
}
