//! A backend that waited at the gate of its service is let in.

use std::net::IpAddr;

use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::unwritten::Part;
use crate::model::BackendId;

impl State {
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
