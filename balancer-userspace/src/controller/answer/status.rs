//! What runs, for status and metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use balancer_common::layout::flags;
use balancer_common::slot::NO_BACKEND;

use crate::control::api::{BackendState, BackendStatus, InterfaceStatus, Override, ServiceStatus, Shares, Status};
use crate::controller::counts::{Raw, events};
use crate::controller::kernel::KernelService;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::dataplane::{Attached, Counters, TableCounts};
use crate::metrics::Snapshot;
use crate::model::{Service, ServiceName};
use crate::plan::share;

impl State {
    pub(crate) fn status(&self, only: Option<&ServiceName>) -> Result<Status, Refusal> {
        self.desired.is_there(only)?;
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        Ok(Status {
            node: self.desired.config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.kernel.generation,
            config_file: self.desired.path.display().to_string(),
            config_applied_at: humantime::format_rfc3339_seconds(self.desired.applied_at.wall()).to_string(),
            config_refused: self.desired.refused.clone(),
            guard: self.guard(),
            not_written: self.unwritten.said(),
            alarms: self.watch.watchtower.alarms.active(),
            findings: self.desired.judged.in_force().to_vec(),
            interfaces: self.interface_statuses(),
            services: self.services(only).map_err(failed)?,
            dropped: self.kernel.drops().map_err(failed)?.into_iter().filter(|(_, n)| *n > 0).map(owned).collect(),
        })
    }

    /// For metrics: what is not of a service and not counted by the data plane.
    pub(crate) fn without_services(&self) -> Snapshot {
        Snapshot {
            services: Vec::new(),
            dropped: BTreeMap::new(),
            maps: self
                .kernel
                .fill(&self.desired.config.limits)
                .map(|filled| (filled.map, (filled.used, filled.capacity)))
                .into(),
            config_applies: self.desired.applies.clone(),
            config_last_apply_timestamp_seconds: self.desired.applied_at.unix_seconds(),
            generation: self.kernel.generation,
            interfaces: self
                .kernel
                .interfaces
                .iter()
                .map(|(name, state)| {
                    let mode = state.as_ref().ok().filter(|_| self.watch.lost(name).is_none());
                    (name.clone(), mode.map(|mode| mode.as_str()))
                })
                .collect(),
            watch: self.watch_sample(),
        }
    }

    pub(crate) fn interface_statuses(&self) -> Vec<InterfaceStatus> {
        let status = |interface: &crate::model::Interface| {
            let state = self.kernel.interfaces.get(&interface.name);
            let attached = state.and_then(|state| state.as_ref().ok());
            let lost = self.watch.lost(&interface.name).map(ToString::to_string);
            InterfaceStatus {
                name: interface.name.clone(),
                wanted: interface.mode,
                attached: attached.filter(|_| lost.is_none()).map(|mode: &Attached| mode.mode()),
                problem: state.and_then(|state| state.as_ref().err()).cloned().or(lost),
            }
        };
        self.desired.config.interfaces.iter().map(status).collect()
    }

    pub(crate) fn services(&self, only: Option<&ServiceName>) -> Result<Vec<ServiceStatus>> {
        let counted = self.kernel.raw_counts()?;
        let services = match only {
            Some(name) => self.desired.service(name).into_iter().collect(),
            None => self.desired.config.services.iter().collect::<Vec<_>>(),
        };
        Ok(services.into_iter().map(|service| self.service_status(service, &counted)).collect())
    }

    pub(crate) fn service_status(&self, service: &Service, counted: &Raw) -> ServiceStatus {
        let counters = counted.backends.as_slice();
        let programmed = self.kernel.programmed.get(&service.name);
        let kernel = programmed.and_then(|programmed| self.kernel_counts(programmed));
        let layers = self.layers(service, programmed, kernel, counters);
        let backends = service.backends.iter().zip(layers).map(|(backend, share)| {
            let id = service.id_of(backend);
            let effective = self.effective(service, backend);
            let checked = self.observed.checked.get(&id);
            let set = self.desired.overrides.get(&id);
            let allocated = self.kernel.allocations.backends.get(&id);
            let sent = allocated.map_or(Counters::default(), |allocated| {
                allocated.base + counters.get(usize::from(allocated.index)).copied().unwrap_or_default()
            });
            let failure = checked.and_then(|checked| checked.error.clone());
            let reason = match effective.state {
                BackendState::Down | BackendState::Unknown if effective.weight.is_zero() => {
                    failure.or(effective.reason)
                }
                // It is kept.
                BackendState::Down => {
                    let last = failure.map_or_else(String::new, |failure| format!("; last check: {failure}"));
                    effective.reason.map(|reason| reason + &last)
                }
                _ => effective.reason,
            };
            BackendStatus {
                name: backend.name.clone(),
                address: backend.address,
                port: backend.port,
                weight: self.desired.weight(service, backend).get(),
                file_weight: backend.weight.get(),
                set_by_command: set.map(|set| Override {
                    weight: set.weight,
                    drained: set.drained,
                    by_uid: set.by_uid,
                    at: set.at.clone(),
                }),
                effective_weight: effective.weight.get(),
                state: effective.state,
                reason,
                share,
                packets: sent.packets,
                bytes: sent.bytes,
                new_flows: sent.new_flows,
                check_seconds: checked.and_then(|checked| checked.took).map(|took| took.as_secs_f64()),
                check_failures: checked.map_or(0, |checked| checked.failures),
            }
        });
        ServiceStatus {
            name: service.name.clone(),
            protocol: service.protocol,
            address: service.address,
            port: service.port,
            forward: service.forward,
            affinity: service.affinity,
            table_size: service.table_size.get(),
            ports: service.ports.to_string(),
            prefix_len: service.prefix_len,
            open_slots: kernel.map_or(0, |counts| counts.open),
            former_mapping: programmed.is_some_and(|p| p.plan.entry.has(flags::FORMER)),
            flow_table_entries: programmed.map_or(0, |p| p.tracked.flows),
            flow_table_capacity: service.connections.flow_table,
            leaving: self.kernel.leaving(service),
            events: programmed.map(|p| events(&counted.services, p.plan.entry.number)).unwrap_or_default(),
            backends: backends.collect(),
        }
    }

    /// The shares of each backend, in the order of the model.
    fn layers(
        &self,
        service: &Service,
        programmed: Option<&KernelService>,
        kernel: Option<&TableCounts>,
        counters: &[Counters],
    ) -> Vec<Shares> {
        let weights: Vec<u64> =
            service.backends.iter().map(|b| u64::from(self.desired.weight(service, b).get())).collect();
        let effective: Vec<u64> =
            service.backends.iter().map(|b| u64::from(self.effective(service, b).weight.get())).collect();
        let index = |backend| self.kernel.index_of(&service.id_of(backend)).unwrap_or(NO_BACKEND);
        let indices: Vec<u16> = service.backends.iter().map(index).collect();
        let observed =
            programmed.map(|p| self.watch.observer.since(&p.changed, counters, &indices)).unwrap_or_default();
        let sum = |values: &[u64]| values.iter().sum::<u64>();
        let (all_weights, all_effective, all_observed) = (sum(&weights), sum(&effective), sum(&observed));
        (0..service.backends.len())
            .map(|i| Shares {
                config: share(weights[i], all_weights),
                effective: share(effective[i], all_effective),
                planned: programmed.and_then(|p| p.counts.share(indices[i])),
                kernel: kernel.and_then(|counts| counts.share(indices[i])),
                observed: observed.get(i).and_then(|flows| share(*flows, all_observed)),
            })
            .collect()
    }
}

fn owned((reason, count): (&'static str, u64)) -> (String, u64) {
    (reason.to_owned(), count)
}
