//! Frames sent into the program by the controller, and what it is to show.

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions};
use balancer_common::capture::Filter;
use balancer_common::frame::VecFrame;
use balancer_common::parse::{Packet, Parsed, parse};

use super::load::{CAPTURE, DataPlane};

/// XDP's answers (linux/bpf.h), by name at their number.
pub const ANSWERS: [&str; 5] = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"];
pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

impl DataPlane {
    /// Whether the first fragment of the packet that `frame` is a later one of has come.
    pub fn knows_fragment(&self, frame: &[u8]) -> bool {
        let mut packet = Packet::default();
        parse(&mut VecFrame(frame.to_vec()), &mut packet) == Parsed::Fragment
            && self.fragments.get(&packet.fragment_key(), 0).is_ok()
    }

    /// Has the program take `frame` as if it had come in on the interface, and do with it what it says.
    pub fn inject(&mut self, frame: &[u8], ifindex: u32) -> Result<()> {
        let context = context(frame, ifindex);
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: 1,
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::default()
        };
        self.xdp()?.test_run(options).context("sending a frame into the program")?;
        Ok(())
    }

    /// What the loaded program does with `frame` as if it had come in on the interface: XDP's answer, and the frame as it would
    /// leave. It goes nowhere; what the program counts and remembers of it stays.
    pub fn run(&mut self, frame: &[u8], ifindex: u32) -> Result<(u32, Vec<u8>)> {
        let context = context(frame, ifindex);
        // Room for outer headers.
        let mut out = vec![0; frame.len() + 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.xdp()?.test_run(options).context("running a frame through the program")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// Has the program show packets that the filter wants.
    pub fn watch(&mut self, filter: &Filter) -> Result<()> {
        self.filter.set(0, filter, 0).context("writing whose packets are watched")?;
        self.settings.set(CAPTURE, 1);
        Ok(())
    }

    pub fn watch_no_more(&self) {
        self.settings.set(CAPTURE, 0);
    }
}

/// linux/bpf.h: `struct xdp_md`; the interface is the fourth of its words, where the data ends the second.
fn context(frame: &[u8], ifindex: u32) -> [u8; 24] {
    let mut context = [0u8; 24];
    context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    context
}
