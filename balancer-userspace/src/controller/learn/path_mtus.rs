//! What routers say of path MTUs, taken into what runs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use crate::controller::state::State;
use crate::model::{BackendId, ServiceName};

impl State {
    /// Takes in what a router said of the way to a backend, in an error that the program believed; answers whose entries
    /// change by it.
    pub(crate) fn learn_path(&mut self, address: IpAddr, mtu: u32) -> BTreeSet<ServiceName> {
        let services = self.desired.tunnelled_to(&[address]);
        if services.is_empty() || !self.observed.paths.learn(address, mtu, Instant::now()) {
            return BTreeSet::new();
        }
        log::info!("a router says that the way to {address} takes packets of {mtu} bytes at most");
        services
    }

    /// Forgets path MTUs that are old; answers whose entries change by it.
    pub(crate) fn forget_paths(&mut self) -> BTreeSet<ServiceName> {
        let gone = self.observed.paths.expire(Instant::now());
        self.desired.tunnelled_to(&gone)
    }

    /// Backends to which smaller packets go than their link takes, with both sizes: a router asked for that.
    pub(crate) fn path_mtus(&self) -> impl Iterator<Item = (BackendId, u32, u32)> {
        self.desired.pairs().filter_map(|(service, backend)| {
            let (told, link) = self.observed.path_mtu(service, backend)?;
            Some((service.id_of(backend), told, link))
        })
    }
}
