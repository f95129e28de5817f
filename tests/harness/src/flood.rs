//! A SYN flood with spoofed sources, bounded in rate and time.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::checksum;
use balancer_common::frame::{Frame, VecFrame};
use balancer_common::headers::{Be16, Ipv4};
use balancer_common::parse::NETWORK;

use crate::netns::Namespace;

/// Spoofed sources are in this /16; the backends' program `sieve` drops what comes from there.
pub const SOURCES: [u8; 2] = [203, 0];
/// Frames handed over with one system call.
const BATCH: usize = 100;

pub struct Flood<'a> {
    pub namespace: &'a Namespace,
    /// Of the interface `eth0` that the flood leaves by, and of the next hop.
    pub source_mac: [u8; 6],
    pub mac: [u8; 6],
    pub vip: Ipv4Addr,
    pub port: u16,
    pub per_second: u64,
}

impl Flood<'_> {
    /// Sends until `stop`, at most for `limit`; `sent` counts.
    pub fn run(&self, stop: &AtomicBool, limit: Duration, sent: &AtomicU64) -> Result<()> {
        self.namespace.enter(|| self.send(stop, limit, sent))?
    }

    fn send(&self, stop: &AtomicBool, limit: Duration, sent: &AtomicU64) -> Result<()> {
        let socket = packet_socket()?;
        let mut frames: Vec<Vec<u8>> = (0..BATCH).map(|_| self.frame()).collect();
        let start = Instant::now();
        let mut number = 0u64;
        while !stop.load(Ordering::Relaxed) && start.elapsed() < limit {
            let due = (start.elapsed().as_micros() as u64).saturating_mul(self.per_second) / 1_000_000;
            if number + BATCH as u64 > due {
                std::thread::sleep(Duration::from_micros(500));
                continue;
            }
            for frame in &mut frames {
                number += 1;
                spoof(frame, number);
            }
            send_all(&socket, &frames)?;
            sent.fetch_add(BATCH as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A SYN without source.
    fn frame(&self) -> Vec<u8> {
        let mut frame = [self.mac, self.source_mac].concat();
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0]);
        frame.extend(self.vip.octets());
        frame.extend([0, 0]);
        frame.extend(self.port.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        frame
    }
}

/// Another source address and port for each number, and the IP checksum that goes with it.
fn spoof(frame: &mut Vec<u8>, number: u64) {
    let [_, _, _, _, a, b, c, d] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    frame[26..30].copy_from_slice(&[SOURCES[0], SOURCES[1], a, b]);
    frame[34..36].copy_from_slice(&[c, d]);
    let mut whole = VecFrame(std::mem::take(frame));
    if let Some(ip) = whole.at::<Ipv4>(NETWORK) {
        ip.checksum = Be16(0);
        ip.checksum = Be16(!checksum::of_ipv4(ip));
    }
    *frame = whole.0;
}

/// Sends these frames out of the namespace's `eth0`, as they are.
pub fn send_frames(namespace: &Namespace, frames: &[Vec<u8>]) -> Result<()> {
    namespace.enter(|| send_all(&packet_socket()?, frames))?
}

fn packet_socket() -> Result<OwnedFd> {
    // SAFETY: plain system calls; the descriptor is ours alone.
    unsafe {
        let descriptor = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        ensure!(descriptor >= 0, "a packet socket: {}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(descriptor);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = nix::net::if_::if_nametoindex("eth0").context("eth0")? as i32;
        let length = size_of::<libc::sockaddr_ll>() as u32;
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
        ensure!(bound == 0, "binding a packet socket: {}", std::io::Error::last_os_error());
        Ok(socket)
    }
}

fn send_all(socket: &OwnedFd, frames: &[Vec<u8>]) -> Result<()> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    // SAFETY: all zero is a valid `mmsghdr`; each names one part that lives until the call returns.
    let mut messages: Vec<libc::mmsghdr> = unsafe { vec![std::mem::zeroed(); frames.len()] };
    for (message, part) in messages.iter_mut().zip(&mut parts) {
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: as above.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
    ensure!(sent > 0, "sending a flood: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The MAC address of a namespace's `eth0`.
pub fn mac(namespace: &Namespace) -> Result<[u8; 6]> {
    let output = namespace.command("ip").args(["-br", "link", "show", "eth0"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text.split_whitespace().find(|word| word.len() == 17 && word.contains(':')).context("no MAC address")?;
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
}
