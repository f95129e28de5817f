//! The program of a controller that runs, given single packets.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;

use crate::netns::Namespace;

/// A program that is on an interface.
pub struct Program(OwnedFd);

/// Number of the XDP program on an interface. Not every program of the product is on one: changes are tried in another.
pub fn number(namespace: &Namespace, interface: &str) -> Result<u32> {
    let output = namespace.command("ip").args(["-j", "-d", "link", "show", "dev", interface]).output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading ip -j link")?;
    let number = links[0]["xdp"]["prog"]["id"].as_u64();
    Ok(number.with_context(|| format!("no XDP program on {interface}"))? as u32)
}

/// The fields of `union bpf_attr` that BPF_PROG_TEST_RUN reads and writes (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    answer: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _padding: u32,
}

const BPF_PROG_TEST_RUN: libc::c_long = 10;

impl Program {
    pub fn on(namespace: &Namespace, interface: &str) -> Result<Self> {
        let number = number(namespace, interface)?;
        let found = loaded_programs().filter_map(Result::ok).find(|info| info.id() == number);
        Ok(Self(found.context("the program is gone")?.fd()?.as_fd().try_clone_to_owned()?))
    }

    /// XDP's answer, and the frame as it leaves.
    pub fn run(&self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0u8; 2048];
        let (answer, length, _) = self.repeat(frame, &mut out, 1)?;
        out.truncate(length as usize);
        Ok((answer, out))
    }

    /// Nanoseconds a run, over so many on the same frame, which is not put back in between.
    pub fn time(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        Ok(self.repeat(frame, &mut vec![0u8; 2048], repeat)?.2)
    }

    /// XDP's answer, bytes of the frame as it leaves, and nanoseconds a run.
    fn repeat(&self, frame: &[u8], out: &mut [u8], repeat: u32) -> Result<(u32, u32, u32)> {
        let mut attr = TestRun {
            program: self.0.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            size_out: out.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_out: out.as_mut_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        let size = size_of::<TestRun>();
        // SAFETY: buffers of the lengths given, which live until the call returns.
        let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size) };
        ensure!(result == 0, "BPF_PROG_TEST_RUN: {}", std::io::Error::last_os_error());
        Ok((attr.answer, attr.size_out, attr.duration))
    }
}
