//! Once a second: what changes have opened is closed where that harms no flow.

use anyhow::Result;

use crate::controller::state::State;
use crate::controller::unwritten::Part;

impl State {
    /// One look at everything that is open; cheap where nothing is.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let now = self.kernel.plane.clock();
        for name in self.kernel.unsettled() {
            let Some(service) = self.desired.service(&name) else { continue };
            let dead = self.given_up(service, self.kernel.is_short_of_flows(service));
            if self.kernel.settle(service, &dead, now)? {
                self.keep(Part::Places)?;
            }
        }
        Ok(())
    }
}
