//! The program on the interfaces of the config, also after one went and came back.

use crate::controller::kernel::Kernel;
use crate::controller::refusal::Refusal;
use crate::dataplane::AttachError;
use crate::doctor::Link;
use crate::model::{Config, Interface, XdpMode};

impl Kernel {
    /// Refuses a config with an interface that the program can't be attached to.
    pub(crate) fn refuse_unattachable(&self, config: &Config, links: &[Link]) -> Result<(), Refusal> {
        // Nothing can be told where the kernel lists no interfaces.
        if links.is_empty() {
            return Ok(());
        }
        let attached = |interface: &Interface| {
            let there = self.interfaces.get(&interface.name);
            matches!(there, Some(Ok(mode)) if fits(interface.mode, mode.mode()))
        };
        match unattachable(&config.interfaces, links, self.plane.program_id(), attached) {
            Some(error) => Err(Refusal::Invalid(error.to_string())),
            None => Ok(()),
        }
    }

    /// An interface went: the kernel took the program off with it.
    pub(crate) fn lose_interface(&mut self, name: &str) {
        if let Some(state) = self.interfaces.get_mut(name) {
            log::error!("interface {name} is gone: its packets are not balanced until it is back");
            *state = Err(format!("interface {name} is gone; the program is attached again when it is back"));
        }
    }

    /// Attaches to every interface of the config that has no program yet. An error names the first that can't be.
    pub(crate) fn attach_interfaces(&mut self, wanted: &[Interface]) -> Result<(), String> {
        for interface in wanted {
            if matches!(self.interfaces.get(&interface.name), Some(Ok(mode)) if fits(interface.mode, mode.mode())) {
                continue;
            }
            let mode = self.plane.attach(&interface.name, interface.mode).map_err(|error| error.to_string())?;
            log::info!("attached to {} ({})", interface.name, mode.as_str());
            self.interfaces.insert(interface.name.clone(), Ok(mode));
        }
        Ok(())
    }

    /// Takes the program off interfaces that are in the config no more, also those of an earlier controller.
    pub(crate) fn detach_unwanted(&mut self, wanted: &[Interface]) {
        let wanted: Vec<&str> = wanted.iter().map(|interface| interface.name.as_str()).collect();
        for (name, _) in self.plane.linked_interfaces() {
            if !wanted.contains(&name.as_str()) {
                self.plane.detach_interface(&name);
                log::info!("detached from {name}");
            }
        }
        self.interfaces.retain(|name, _| wanted.contains(&name.as_str()));
    }

    /// An interface appeared, perhaps one that had gone.
    pub(crate) fn regain_interface(&mut self, name: &str, wanted: &[Interface]) {
        let Some(Err(_)) = self.interfaces.get(name) else { return };
        let Some(wanted) = wanted.iter().find(|interface| interface.name == name).map(|i| i.mode) else { return };
        let state = match self.plane.attach(name, wanted) {
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
        self.interfaces.insert(name.to_owned(), state);
    }

    /// Puts the program back where another one, or none, was found. Answers whether it is there.
    pub(crate) fn attach_again(&mut self, name: &str, wanted: &[Interface]) -> bool {
        let Some(wanted) = wanted.iter().find(|there| there.name == name).map(|there| there.mode) else { return false };
        match self.plane.attach(name, wanted) {
            Ok(mode) => {
                self.interfaces.insert(name.to_owned(), Ok(mode));
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }
}

/// The first interface that the program can't be attached to, as far as that is known without trying; `ours` is the program's
/// number, and `attached` says where it is in the mode that is wanted.
fn unattachable(
    wanted: &[Interface],
    links: &[Link],
    ours: u32,
    attached: impl Fn(&Interface) -> bool,
) -> Option<AttachError> {
    wanted.iter().filter(|interface| !attached(interface)).find_map(|Interface { name, .. }| {
        match links.iter().find(|link| link.name == *name) {
            None => Some(AttachError::NoInterface(name.clone())),
            Some(Link { program: Some(program), .. }) if *program != ours => Some(AttachError::Busy(name.clone())),
            Some(_) => None,
        }
    })
}

fn fits(wanted: XdpMode, attached: XdpMode) -> bool {
    wanted == XdpMode::Auto || wanted == attached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_and_a_foreign_program_are_known_before_trying() {
        let interface = |name: &str| Interface { name: name.to_owned(), mode: XdpMode::Auto };
        let link = |name: &str, program| Link { name: name.to_owned(), program, ..Link::default() };
        let links = [link("eth0", Some(7)), link("eth1", None), link("eth2", Some(9))];
        let said = |names: &[&str], attached: &str| {
            let wanted: Vec<Interface> = names.iter().map(|name| interface(name)).collect();
            unattachable(&wanted, &links, 7, |there| there.name == attached).map(|error| error.to_string())
        };
        assert_eq!(said(&["eth0", "eth1"], ""), None);
        assert_eq!(said(&["eth0", "eth7"], ""), Some("there is no interface eth7; `ip link` lists them".to_owned()));
        assert!(said(&["eth2"], "").is_some_and(|said| said.starts_with("another XDP program is attached to eth2")));
        // Where it is, it stays; an interface that went is attached again when it is back.
        assert_eq!(said(&["eth2"], "eth2"), None);
    }
}
