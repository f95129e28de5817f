//! What should run: the config file, what commands set over it, the history, and a change on probation.

pub(crate) mod admit;
pub(crate) mod config_file;
pub(crate) mod empty;
pub(crate) mod exchange;
pub(crate) mod file;
pub(crate) mod generations;
pub(crate) mod judged;
pub(crate) mod judging;
pub(crate) mod listed;
pub(crate) mod overrides;
pub(crate) mod probation;
pub(crate) mod settling;
pub(crate) mod way;
pub(crate) mod whole;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::controller::desired::judged::Judged;
use crate::controller::desired::probation::Probation;
use crate::controller::refusal::Refusal;
use crate::history::History;
use crate::model::{Backend, BackendId, Config, Risk, Service, ServiceName, Weight};
use crate::moment::Moment;
use crate::neighbor::Wanted;
use crate::state::{Fallback, Overrides};

pub(crate) struct Desired {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    /// The text that `config` was read from.
    pub(crate) text: String,
    /// SHA-256 of the config file's content when it was last read or written here.
    pub(crate) seen: String,
    /// What lint finds in it, and in what commands set over it.
    pub(crate) judged: Judged,
    pub(crate) overrides: Overrides,
    pub(crate) history: History,
    /// A change on probation.
    pub(crate) probation: Option<Probation>,
    /// How applies ended, by result.
    pub(crate) applies: BTreeMap<&'static str, u64>,
    pub(crate) applied_at: Moment,
    /// Why the last reload was refused.
    pub(crate) refused: Option<String>,
}

impl Desired {
    pub(crate) fn all_services(&self) -> BTreeSet<ServiceName> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.config.services.by_name(name)
    }

    /// The weight in force: set by command, or the file's.
    pub(crate) fn weight(&self, service: &Service, backend: &Backend) -> Weight {
        let set = self.overrides.get(&service.id_of(backend)).and_then(|set| set.weight);
        set.and_then(Weight::new).unwrap_or(backend.weight)
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Service, &Backend)> {
        self.config.services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
    }

    /// Every address that packets are to be sent to.
    pub(crate) fn wanted(&self) -> HashSet<Wanted> {
        self.pairs().map(|(service, backend)| Wanted::of(service, backend)).collect()
    }

    pub(crate) fn tunnelled_to(&self, addresses: &[IpAddr]) -> BTreeSet<ServiceName> {
        let there =
            |(service, backend): &(&Service, &Backend)| service.encapsulates() && addresses.contains(&backend.address);
        self.pairs().filter(there).map(|(service, _)| service.name.clone()).collect()
    }

    /// Backends that declare how many new flows a second they can take.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&Service, &Backend, u64)> {
        let pairs = self.config.services.iter().flat_map(|service| service.backends.iter().map(move |b| (service, b)));
        pairs.filter_map(|(service, backend)| Some((service, backend, backend.capacity.new_flows?)))
    }

    /// Whoever asks for one service must name one.
    pub(crate) fn is_there(&self, only: Option<&ServiceName>) -> Result<(), Refusal> {
        match only {
            Some(name) if self.service(name).is_none() => {
                Err(Refusal::NotFound(format!("there is no service {name}; `balancer status` lists them")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn service_names(&self) -> Vec<ServiceName> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }

    /// What a controller that starts now would have to go back to.
    pub(crate) fn fallback(&self) -> Option<Fallback> {
        self.probation.as_ref().map(|guarded| guarded.fallback.clone())
    }

    /// What of a weight a guarded change lets be in force now.
    pub(crate) fn ramped(&self, id: &BackendId, weight: Weight) -> Weight {
        self.probation.as_ref().map_or(weight, |guarded| guarded.ramped(id, weight))
    }

    /// How long a change of this risk is on probation without being asked to.
    pub(crate) fn guard_by_policy(&self, risk: Risk) -> Option<Duration> {
        self.config.node.guard.filter(|policy| risk >= policy.from).map(|policy| policy.duration)
    }
}
