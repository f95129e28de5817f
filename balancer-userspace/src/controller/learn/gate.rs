//! The gate of a service: with `gate = "doctor"` a backend that is new takes no flows until the doctor finds nothing wrong
//! with the way to it. Who is past the gate is kept on disk, and stays past it as long as it is in the config at its address.

use crate::controller::observed::gate::AtGate;
use crate::controller::state::State;
use crate::model::{Backend, Gate};

impl State {
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
}
