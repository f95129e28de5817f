//! The first thing: the kernel's verifier takes the program, its driver carries it natively; or the start is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use balancer::model::XdpMode;

use super::Outcome;
use harness::controller::Controller;
use harness::netns::Namespace;

const CONFIG: &str = "[[interface]]\nname = \"eth0\"\nmode = \"native\"\n";

/// Kernels in front of these numbers must be refused by the product; newer ones must not.
const OLDEST: (u32, u32) = (5, 18);

pub(super) fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST
}

pub(super) fn attaches() -> Result<Outcome> {
    let namespace = with_interface()?;
    let before: BTreeSet<u32> = xdp_programs()?.iter().map(ProgramInfo::id).collect();
    let controller = Controller::start(&namespace, CONFIG)?;
    controller.wait_for("the program is on the interface natively", Duration::from_secs(10), |status| {
        status.interfaces.iter().all(|interface| interface.attached == Some(XdpMode::Native))
    })?;
    let programs = xdp_programs()?;
    let ours = programs.iter().filter(|program| !before.contains(&program.id()));
    let said: Vec<String> = ours.map(describe).collect();
    ensure!(!said.is_empty(), "no XDP program was loaded");
    Ok(Outcome::works(said.join("; ")))
}

/// Says why, before it loads anything.
pub(super) fn is_refused() -> Result<Outcome> {
    let namespace = with_interface()?;
    let before = xdp_programs()?.len();
    let mut controller = Controller::prepare(&namespace, CONFIG)?;
    let Err(error) = controller.run() else { bail!("balancer started") };
    let text = format!("{error:#}");
    let reason = text.lines().find(|line| line.contains("or newer")).context(text.clone())?;
    ensure!(xdp_programs()?.len() == before, "a program was loaded all the same");
    Ok(Outcome::works(reason.trim()))
}

fn with_interface() -> Result<Namespace> {
    let namespace = Namespace::new("start")?;
    namespace.ip("link add eth0 type veth peer name peer0")?;
    namespace.ip("link set eth0 up")?;
    namespace.ip("link set peer0 up")?;
    Ok(namespace)
}

fn xdp_programs() -> Result<Vec<ProgramInfo>> {
    let all: Vec<ProgramInfo> = loaded_programs().collect::<Result<_, _>>().context("listing programs")?;
    Ok(all.into_iter().filter(is_xdp).collect())
}

/// Of linux/bpf.h.
const BPF_PROG_TYPE_XDP: u32 = 6;

fn is_xdp(program: &ProgramInfo) -> bool {
    program.program_type() as u32 == BPF_PROG_TYPE_XDP
}

/// Since Linux 5.16 the verifier tells how many instructions it looked at.
fn describe(program: &ProgramInfo) -> String {
    let name = program.name_as_str().unwrap_or("?");
    let verified = program.verified_instruction_count();
    let verified = verified.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string());
    format!("{name}: {verified} instructions verified, native on veth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert!(is_too_old("5.10.0-32-cloud-amd64"));
        assert!(is_too_old("5.4.0"));
        assert!(!is_too_old("5.18.0"));
        assert!(!is_too_old("6.1.0-56-cloud-amd64"));
    }
}
