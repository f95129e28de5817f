//! `balancer capture`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::request::{Body, Method, Reply, Request};
use crate::control::api::Flow;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::controller::kernel::tap::Selection;
use crate::model::ServiceName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Packets of this service only.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// Packets of this flow only.
    #[serde(default)]
    pub flow: Option<Flow>,
    /// Packets to show at most, each twice: as it comes and as it leaves.
    pub count: u32,
    /// Longest time to wait for them.
    pub seconds: u32,
    /// Packets a second at most, on each processor.
    pub rate: u32,
    /// One packet in so many.
    pub one_in: u32,
}

/// Parts of a pcapng file that ends when the capture does.
pub struct Packets(mpsc::Receiver<Bytes>);

impl Reply for Packets {
    fn body(self) -> Body {
        Body::Packets(self.0)
    }
}

impl Request for Capture {
    type Answer = Packets;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "capture";
    const MEANS: &'static str = "Packets as they come in and as they leave; the answer is a pcapng file, not JSON.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("service", "optional: only this one's"),
        ("flow", "optional: only this one's, `{\"protocol\", \"source\", \"destination\"}`"),
        ("count", "packets at most"),
        ("seconds", "longest time to wait for them"),
        ("rate", "packets a second at most, on each processor"),
        ("one_in", "take one packet in so many"),
    ];

    fn said(&self) -> Option<String> {
        Some("capture packets".to_owned())
    }

    /// The capture ends when whoever asked closes the connection.
    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        let Self { service, flow, count, seconds, rate, one_in } = self;
        let flow = flow.map(|flow| (flow.protocol, flow.source, flow.destination));
        let wanted = Selection { service, flow, count, seconds, rate, one_in };
        handle.run(move |controller| controller.running.kernel.start_capture(&wanted)).await.map(Packets)
    }
}
