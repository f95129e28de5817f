//! What is in force, in numbers, for the service manager.

use crate::control::api::BackendState;
use crate::controller::state::State;
use crate::service_manager::InForce;

impl State {
    pub(crate) fn in_force(&self) -> InForce {
        let services = &self.desired.config.services;
        let states = services
            .iter()
            .flat_map(|service| service.backends.iter().map(|backend| self.effective(service, backend).state));
        let (mut backends, mut up) = (0, 0);
        for state in states {
            backends += 1;
            up += usize::from(state == BackendState::Up);
        }
        let (generation, refused) = (self.kernel.generation, self.desired.refused.is_some());
        InForce { services: services.len(), backends, up, generation, refused }
    }
}
