//! Asking the kernel about the host. What can't be asked is not known.

use std::fs;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use nix::sys::resource::{Resource, getrlimit};

use super::features;
use super::host::{Facts, Link};

pub async fn gather() -> Facts {
    Facts {
        links: links().await,
        jit: number("/proc/sys/net/core/bpf_jit_enable").map(|enabled| enabled != 0),
        clock_is_synchronised: clock_is_synchronised(),
        open_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
    }
}

/// Interfaces with an XDP program, and the program's number.
pub async fn attached() -> Result<Vec<(String, u32)>> {
    let attached = listed().await?.into_iter().filter_map(|link| Some((link.name, link.program?)));
    Ok(attached.collect())
}

/// The interfaces; none where the kernel does not tell.
pub async fn links() -> Vec<Link> {
    listed().await.unwrap_or_else(|error| {
        log::warn!("{error:#}");
        Vec::new()
    })
}

async fn listed() -> Result<Vec<Link>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
    let connection = tokio::spawn(connection);
    let messages: Result<Vec<LinkMessage>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    Ok(messages.context("listing the interfaces")?.iter().map(read).collect())
}

fn read(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp);
    let mut link = Link { up, ..Link::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Xdp(xdp) => {
                link.program = xdp.iter().find_map(|part| match part {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link.coalescing = features::coalescing(&link.name);
    // The stricter of the two holds (Documentation/networking/ip-sysctl.rst).
    let rp_filter = |name: &str| number(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    link.rp_filter = rp_filter("all").max(rp_filter(&link.name));
    link
}

fn number(path: &str) -> Option<u8> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: all zeros are a valid request, which changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a `timex`, which lives through the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}
