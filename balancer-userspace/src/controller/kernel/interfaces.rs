//! The program on the interfaces of the config, also after one went and came back.

use crate::controller::state::State;
use crate::dataplane::AttachError;
use crate::model::XdpMode;

impl State {
    /// Attaches to every interface of the config that has no program yet. An error names the first that can't be.
    pub(crate) fn attach_interfaces(&mut self) -> Result<(), String> {
        for interface in self.desired.config.interfaces.clone() {
            if matches!(self.kernel.interfaces.get(&interface.name), Some(Ok(mode)) if fits(interface.mode, mode.mode()))
            {
                continue;
            }
            let mode = self.kernel.plane.attach(&interface.name, interface.mode).map_err(|error| error.to_string())?;
            log::info!("attached to {} ({})", interface.name, mode.as_str());
            self.kernel.interfaces.insert(interface.name, Ok(mode));
        }
        Ok(())
    }

    /// Takes the program off interfaces that are in the config no more, also those of an earlier controller.
    pub(crate) fn detach_unwanted(&mut self) {
        let wanted: Vec<&str> =
            self.desired.config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        for (name, _) in self.kernel.plane.linked_interfaces() {
            if !wanted.contains(&name.as_str()) {
                self.kernel.plane.detach_interface(&name);
                log::info!("detached from {name}");
            }
        }
        self.kernel.interfaces.retain(|name, _| wanted.contains(&name.as_str()));
    }

    /// An interface went: the kernel took the program off with it.
    pub(crate) fn lose_interface(&mut self, name: &str) {
        if let Some(state) = self.kernel.interfaces.get_mut(name) {
            log::error!("interface {name} is gone: its packets are not balanced until it is back");
            *state = Err(format!("interface {name} is gone; the program is attached again when it is back"));
        }
    }

    /// An interface appeared, perhaps one that had gone.
    pub(crate) fn regain_interface(&mut self, name: &str) {
        let Some(Err(_)) = self.kernel.interfaces.get(name) else { return };
        let Some(wanted) =
            self.desired.config.interfaces.iter().find(|interface| interface.name == name).map(|i| i.mode)
        else {
            return;
        };
        let state = match self.kernel.plane.attach(name, wanted) {
            Ok(mode) => {
                log::info!("interface {name} is back, attached ({})", mode.as_str());
                Ok(mode)
            }
            Err(error @ AttachError::NoInterface(_)) => Err(error.to_string()),
            Err(error) => {
                log::error!("{error}");
                Err(error.to_string())
            }
        };
        self.kernel.interfaces.insert(name.to_owned(), state);
    }
}

fn fits(wanted: XdpMode, attached: XdpMode) -> bool {
    wanted == XdpMode::Auto || wanted == attached
}
