//! Frames sent into the program by the controller, and what it is to show.

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions};
use balancer_common::capture::Filter;
use balancer_common::frame::VecFrame;
use balancer_common::parse::{Packet, Parsed, parse};

use super::load::{CAPTURE, DataPlane};

impl DataPlane {
    /// Whether the first fragment of the packet that `frame` is a later one of has come.
    pub fn knows_fragment(&self, frame: &[u8]) -> bool {
        let mut packet = Packet::default();
        parse(&mut VecFrame(frame.to_vec()), &mut packet) == Parsed::Fragment
            && self.fragments.get(&packet.fragment_key(), 0).is_ok()
    }

    /// Has the program take `frame` as if it had come in on the interface, and do with it what it says.
    pub fn inject(&mut self, frame: &[u8], ifindex: u32) -> Result<()> {
        // linux/bpf.h: `struct xdp_md`; the interface is the fourth of its words, where the data ends the second.
        let mut context = [0u8; 24];
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
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
