//! The gate of a service: with `gate = "doctor"` a backend that is new takes no flows until the doctor finds nothing wrong
//! with the way to it. Who is past the gate is kept on disk, and stays past it as long as it is in the config at its address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::sleep;

use crate::control::api::Finding;
use crate::controller::handle::Handle;
use crate::controller::kernel::step::Change;
use crate::controller::state::{State, id};
use crate::controller::unwritten::Part;
use crate::doctor::{self, Kind};
use crate::model::{Backend, BackendId, BackendName, Gate, Service, ServiceName};

/// Between looks at who waits.
const LOOK: Duration = Duration::from_secs(1);

/// Backends of a service that wait, and where they are.
pub type AtGate = (ServiceName, Vec<(BackendName, IpAddr)>);

/// What the doctor last said of backends that wait.
pub(crate) type GateQueue = BTreeMap<BackendId, String>;

/// Examines whoever waits, again and again.
pub(crate) async fn keep(handle: Handle) {
    loop {
        sleep(LOOK).await;
        let Ok(waiting) = handle.waiting().await else { return };
        for (service, backends) in waiting {
            let names = backends.iter().map(|(name, _)| name.clone()).collect();
            let Ok(examined) = handle.examine(service.clone(), names, doctor::deadline()).await else { continue };
            for (backend, address) in backends {
                let id = BackendId { service: service.clone(), backend };
                let against = examined.findings.iter().find(|finding| speaks_against(finding, &id));
                let against = against.map(|finding| format!("{} [{}]", finding.message, finding.id));
                let _ = handle.gate(id, address, against).await;
            }
        }
    }
}

/// A way that was not tried is not known to be good.
fn speaks_against(finding: &Finding, id: &BackendId) -> bool {
    finding.about == id.to_string() && (finding.counts() || finding.id == Kind::NotProbed.entry().id)
}

impl State {
    /// Why the backend has to wait; nothing where it is past the gate.
    pub(crate) fn held_back(&self, service: &Service, backend: &Backend) -> Option<String> {
        let id = id(service, backend);
        let is_past = service.gate == Gate::Health || self.kernel.allocations.passed.get(&id) == Some(&backend.address);
        let found = || self.observed.waiting.get(&id).map_or("not examined yet", String::as_str);
        (!is_past).then(|| format!("waiting for doctor: {}", found()))
    }

    /// Backends by service that nothing but the gate keeps from taking flows, and where they are.
    pub(crate) fn at_gate(&self) -> Vec<AtGate> {
        let gated = self.desired.config.services.iter().filter(|service| service.gate == Gate::Doctor);
        let waiting = gated.map(|service| {
            let waits = |backend: &&Backend| {
                let reason = self.effective(service, backend).reason;
                reason.is_some() && reason == self.held_back(service, backend)
            };
            let backends = service.backends.iter().filter(waits);
            (service.name.clone(), backends.map(|backend| (backend.name.clone(), backend.address)).collect())
        });
        waiting.filter(|(_, backends): &AtGate| !backends.is_empty()).collect()
    }

    /// Lets a backend in that was examined at this address, or notes what speaks against it.
    pub(crate) fn gate(&mut self, id: BackendId, address: IpAddr, against: Option<String>) {
        let is_there = self.desired.service(&id.service).is_some_and(|service| {
            service.backends.iter().any(|backend| backend.name == id.backend && backend.address == address)
        });
        if !is_there {
            return;
        }
        if let Some(against) = against {
            if self.observed.waiting.get(&id) != Some(&against) {
                log::warn!("{id} takes no flows yet: {against}");
                self.observed.waiting.insert(id, against);
            }
            return;
        }
        log::info!("{id} is past the gate: the doctor found nothing");
        self.observed.waiting.remove(&id);
        self.kernel.allocations.passed.insert(id.clone(), address);
        // Tried again where it fails; nobody waits for the disk to be let in.
        self.keep(Part::Places).ok();
        if let Err(error) = self.reconcile([id.service].into(), Change::default()) {
            log::error!("letting a backend in: {error:#}");
        }
    }
}
