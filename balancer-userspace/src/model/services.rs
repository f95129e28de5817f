//! The services of a config, found by name, and their backends by address, without looking through all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Service, ServiceName};

/// Places of a service and of a backend in it.
pub type Member = (usize, usize);

/// In the order of the file. Nothing of it changes, so that what is found is true.
#[derive(Debug, Clone, Default)]
pub struct Services {
    all: Vec<Service>,
    by_name: HashMap<ServiceName, usize>,
    /// Made when it is first asked for.
    servers: OnceLock<HashMap<IpAddr, Vec<Member>>>,
    declares: OnceLock<bool>,
    revision: u64,
}

impl Services {
    /// A number that no others in this process have; a copy keeps it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn position(&self, name: &ServiceName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn by_name(&self, name: &ServiceName) -> Option<&Service> {
        self.all.get(self.position(name)?)
    }

    /// Where the server at an address is a backend, in the order of the file.
    pub fn members(&self, address: IpAddr) -> &[Member] {
        let servers = self.servers.get_or_init(|| {
            let mut servers: HashMap<IpAddr, Vec<Member>> = HashMap::new();
            for (at, service) in self.all.iter().enumerate() {
                for (number, backend) in service.backends.iter().enumerate() {
                    servers.entry(backend.address).or_default().push((at, number));
                }
            }
            servers
        });
        servers.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether any load can be predicted: a service declares its peak, and a backend what it can take.
    pub fn declares_loads(&self) -> bool {
        *self.declares.get_or_init(|| {
            self.all.iter().any(|service| service.peak.is_known())
                && self.all.iter().flat_map(|service| &service.backends).any(|backend| backend.capacity.is_known())
        })
    }
}

impl From<Vec<Service>> for Services {
    fn from(all: Vec<Service>) -> Self {
        // Names are unique in a valid config.
        let by_name = all.iter().enumerate().map(|(at, service)| (service.name.clone(), at)).collect();
        static REVISIONS: AtomicU64 = AtomicU64::new(1);
        let revision = REVISIONS.fetch_add(1, Ordering::Relaxed);
        Self { all, by_name, servers: OnceLock::new(), declares: OnceLock::new(), revision }
    }
}

impl FromIterator<Service> for Services {
    fn from_iter<I: IntoIterator<Item = Service>>(services: I) -> Self {
        services.into_iter().collect::<Vec<_>>().into()
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Services {}

impl Deref for Services {
    type Target = [Service];

    fn deref(&self) -> &[Service] {
        &self.all
    }
}

impl IntoIterator for Services {
    type Item = Service;
    type IntoIter = std::vec::IntoIter<Service>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = &'a Service;
    type IntoIter = std::slice::Iter<'a, Service>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}
