//! Whether every service is in the kernel.

use crate::controller::refusal::Refusal;
use crate::controller::state::State;

impl State {
    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        if self.kernel.out_of_step() {
            return Err(Refusal::Failed(
                "the last write to the kernel failed; it is tried again each second".to_owned(),
            ));
        }
        let detached: Vec<&str> =
            self.kernel.interfaces.iter().filter(|(_, state)| state.is_err()).map(|(name, _)| name.as_str()).collect();
        if !detached.is_empty() {
            return Err(Refusal::Failed(format!("not attached to {}", detached.join(", "))));
        }
        match self.store.trouble() {
            Some(why) => Err(Refusal::Failed(format!("packets are forwarded, but changes can't be kept: {why}"))),
            None => Ok(()),
        }
    }
}
