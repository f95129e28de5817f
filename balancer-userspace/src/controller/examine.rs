//! The doctor, and the gate that it keeps, in tasks beside the controller's.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::control::api::{Examined, Finding};
use crate::controller::handle::Handle;
use crate::controller::observed::gate::AtGate;
use crate::controller::refusal::Refusal;
use crate::doctor;
use crate::doctor::{Kind, Plane, room};
use crate::model::{BackendId, BackendName, ServiceName};

/// Between looks at who waits.
const LOOK: Duration = Duration::from_secs(1);

impl Handle {
    /// Examines the host, and the ways to all backends, those of one service, or one.
    pub(crate) async fn doctor(
        &self,
        service: Option<ServiceName>,
        backend: Option<BackendName>,
    ) -> Result<Examined, Refusal> {
        let deadline = doctor::deadline();
        let mut examined = Examined::default();
        let services = match service {
            Some(service) => vec![service],
            None => {
                let known = self.run(|controller| Ok(controller.running.known())).await?;
                examined.findings = doctor::examine_host(&known).await;
                self.run(|controller| Ok(controller.running.desired.service_names())).await?
            }
        };
        let only: Vec<BackendName> = backend.into_iter().collect();
        for service in services {
            let of_service = self.examine(service, only.clone(), deadline).await?;
            examined.findings.extend(of_service.findings);
            examined.probed.extend(of_service.probed);
        }
        examined.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(examined)
    }

    /// Examines the ways to these backends of a service; where none is named, to all.
    pub(crate) async fn examine(
        &self,
        service: ServiceName,
        only: Vec<BackendName>,
        deadline: Instant,
    ) -> Result<Examined, Refusal> {
        let patients = self.run(move |controller| controller.running.patients(&service, &only)).await?;
        Ok(doctor::examine_backends(&patients, self, deadline).await)
    }

    pub(crate) async fn waiting(&self) -> Result<Vec<AtGate>, Refusal> {
        self.run(|controller| Ok(controller.running.at_gate())).await
    }

    pub(crate) async fn gate(
        &self,
        backend: BackendId,
        address: IpAddr,
        against: Option<String>,
    ) -> Result<(), Refusal> {
        self.run(move |controller| {
            controller.running.gate(backend, address, against);
            Ok(())
        })
        .await
    }
}

impl Plane for Handle {
    async fn inject(&self, frame: Vec<u8>, ifindex: u32) -> Result<()> {
        let injected = self.run(move |controller| {
            let plane = &mut controller.running.kernel.plane;
            plane.inject(&frame, ifindex).map_err(failed)
        });
        Ok(injected.await?)
    }

    async fn room(&self, backend: &BackendId) -> Option<u16> {
        let backend = backend.clone();
        self.run(move |controller| Ok(controller.running.kernel.entry_of(&backend).map(room))).await.ok().flatten()
    }
}

/// Examines whoever waits, again and again.
pub(crate) async fn keep_gate(handle: Handle) {
    loop {
        sleep(LOOK).await;
        let Ok(waiting) = handle.waiting().await else { return };
        for (service, backends) in waiting {
            let names = backends.iter().map(|(name, _)| name.clone()).collect();
            let Ok(examined) = handle.examine(service.clone(), names, doctor::deadline()).await else { continue };
            for (backend, address) in backends {
                let id = BackendId { service: service.clone(), backend };
                let against = examined.findings.iter().find(|finding| speaks_against(finding, &id));
                let against = against.map(|finding| format!("{} [{}]", finding.message, finding.id));
                let _ = handle.gate(id, address, against).await;
            }
        }
    }
}

/// A way that was not tried is not known to be good.
fn speaks_against(finding: &Finding, id: &BackendId) -> bool {
    finding.about == id.to_string() && (finding.counts() || finding.id == Kind::NotProbed.entry().id)
}

fn failed(error: anyhow::Error) -> Refusal {
    Refusal::Failed(format!("{error:#}"))
}
