//! What is wrong, and what to do about it: with the host (`host`, over what `facts` gathers) and with the way to each backend.
//!
//! A probe (`probe`) sends what opens a flow to one backend through the program that is loaded, from an address of this host,
//! and hears what comes back (`wire`, `heard`). Where nothing arrives it asks on beside the program (`beside`): with another
//! outer source, another port, another destination. `judge` makes findings of the evidence, and decides nothing else.

mod beside;
mod catalogue;
mod evidence;
mod facts;
mod features;
mod finding;
mod heard;
mod host;
mod judge;
mod patient;
mod probe;
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

pub use self::catalogue::{CATALOGUE, Kind};
pub use self::facts::{attached, links};
pub use self::host::{Filled, Known, Link};
pub use self::patient::{Patient, Way, room};
pub use self::probe::Plane;
use self::probe::Probe;
use self::wire::Wire;
use crate::control::api::{Examined, Finding, Probed};

/// Backends that are probed at once.
const AT_ONCE: usize = 64;
/// After this long nothing more is begun; whoever asked waits.
const LONGEST: Duration = Duration::from_secs(40);

/// What is wrong with the host.
pub async fn examine_host(known: &Known) -> Vec<Finding> {
    host::judge(known, &facts::gather().await)
}

/// When an examination that begins now must be over.
pub fn deadline() -> Instant {
    Instant::now() + LONGEST
}

/// What is wrong with the ways to backends of one service.
pub async fn examine_backends<P: Plane>(patients: &[Patient], plane: &P, deadline: Instant) -> Examined {
    let mut examined = Examined { findings: judge::of_links(patients), probed: Vec::new() };
    let addresses: BTreeSet<_> = patients.iter().filter_map(|patient| patient.source).collect();
    let wire = match Wire::open(&addresses) {
        Ok(wire) => wire,
        Err(error) => {
            let not_probed = |patient| not_probed(patient, format!("{error:#}"));
            examined.findings.extend(patients.iter().map(not_probed));
            return examined;
        }
    };
    let probes: Vec<_> = patients.iter().map(|patient| examine(patient, &wire, plane, deadline)).collect();
    let mut outcomes = futures::stream::iter(probes).buffered(AT_ONCE);
    while let Some((findings, probed)) = outcomes.next().await {
        examined.findings.extend(findings);
        examined.probed.extend(probed);
    }
    examined
}

async fn examine<P: Plane>(
    patient: &Patient,
    wire: &Wire,
    plane: &P,
    deadline: Instant,
) -> (Vec<Finding>, Option<Probed>) {
    if let Some(finding) = judge::of_reachability(patient) {
        return (vec![finding], None);
    }
    let Some(probe) = Probe::new(patient, wire, plane) else {
        let why = "this host has no address of the service's family that could be answered to".to_owned();
        return (vec![not_probed(patient, why)], None);
    };
    let Ok(evidence) = timeout_at(deadline, probe.run()).await else {
        return (vec![not_probed(patient, "there was no time left; name a service or a backend".to_owned())], None);
    };
    let probed = Probed {
        backend: patient.id.clone(),
        through: evidence.through,
        reason: match &patient.way {
            Way::Socket(reason) => Some(reason.clone()),
            Way::Program { .. } => None,
        },
        answered: evidence.opening.arrived(),
        largest: evidence.sizes.map(|sizes| sizes.largest),
    };
    (judge::of_evidence(patient, &evidence), Some(probed))
}

fn not_probed(patient: &Patient, why: String) -> Finding {
    Finding::new(Kind::NotProbed, &patient.id, why, "")
}
