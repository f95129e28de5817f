//! The tests' own XDP programs on interfaces.

use anyhow::{Context, Result};
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};

use crate::netns::Namespace;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BALANCER_TESTS_OBJECT_PATH"));

/// The object with all programs, none of them loaded into the kernel yet.
pub fn object() -> Result<Ebpf> {
    EbpfLoader::new().load(OBJECT).context("loading the tests' programs")
}

/// A program of the object, loaded.
pub fn load<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("loading {name}"))?;
    Ok(program)
}

/// Puts a program on an interface, natively, for as long as the answer lives.
pub fn attach(namespace: &Namespace, interface: &str, name: &str) -> Result<Ebpf> {
    namespace.enter(|| {
        let mut object = object()?;
        let program = load(&mut object, name)?;
        program.attach(interface, XdpMode::Driver).with_context(|| format!("attaching {name} to {interface}"))?;
        Ok(object)
    })?
}
