//! `[[service.backend]]`.

use std::net::IpAddr;

use super::amount;
use super::diagnostic::Span;
use super::reader::{Placed, Section};
use crate::model::{Amount, Backend, BackendName, ServerId, Weight};

pub(super) const BACKEND_KEYS: &[&str] =
    &["name", "address", "port", "weight", "server_id", "capacity", "failure_domain"];

const DEFAULT_WEIGHT: u32 = 100;

#[derive(Debug, Clone)]
pub(super) struct ReadBackend {
    pub(super) name: Placed<BackendName>,
    pub(super) address: Placed<IpAddr>,
    pub(super) port: Option<Placed<u16>>,
    pub(super) weight: Weight,
    /// Where it is written.
    pub(super) weight_span: Option<Span>,
    pub(super) server_id: ReadServerId,
    pub(super) capacity: Option<Placed<Amount>>,
    pub(super) failure_domain: Option<Placed<String>>,
    pub(super) span: Span,
}

#[derive(Debug, Clone)]
pub(super) enum ReadServerId {
    Absent,
    /// What is wrong was noted.
    Wrong,
    Given(Placed<ServerId>),
}

pub(super) fn backends(service: &Section<'_>) -> Vec<ReadBackend> {
    service.sections("backend", "service.backend", BACKEND_KEYS).iter().filter_map(backend).collect()
}

fn backend(section: &Section<'_>) -> Option<ReadBackend> {
    let name = section.required("name", "\"web-1\"", |key| section.parsed::<BackendName>(key, "such as \"web-1\""));
    let address = section.required("address", "\"10.0.0.11\"", |key| section.address(key));
    let port = section.port("port");
    let weight = section.number("weight", 0..=Weight::MAX);
    let server_id = server_id(section);
    let capacity = amount::amount(section, "capacity", "service.backend.capacity");
    let failure_domain = failure_domain(section);
    Some(ReadBackend {
        name: name?,
        address: address?,
        port,
        weight: Weight::new(weight.as_ref().map_or(DEFAULT_WEIGHT, |weight| weight.value))?,
        weight_span: weight.map(|weight| weight.span),
        server_id,
        capacity,
        failure_domain,
        span: section.span.clone(),
    })
}

fn failure_domain(section: &Section<'_>) -> Option<Placed<String>> {
    let text = section.text("failure_domain")?;
    if text.value.trim().is_empty() {
        section.wrong(text.span, "`service.backend.failure_domain` is empty", "such as \"rack-1\"");
        return None;
    }
    Some(text.map(str::to_owned))
}

impl ReadBackend {
    /// `service_port`: the lowest of the service.
    pub(super) fn model(&self, service_port: u16) -> Backend {
        Backend {
            name: self.name.value.clone(),
            address: self.address.value,
            port: self.port.as_ref().map_or(service_port, |port| port.value),
            weight: self.weight,
            server_id: match &self.server_id {
                ReadServerId::Given(id) => Some(id.value),
                ReadServerId::Absent | ReadServerId::Wrong => None,
            },
            capacity: self.capacity.as_ref().map_or(Amount::default(), |capacity| capacity.value),
            failure_domain: self.failure_domain.as_ref().map(|domain| domain.value.clone()),
        }
    }
}

fn server_id(section: &Section<'_>) -> ReadServerId {
    if !section.has("server_id") {
        return ReadServerId::Absent;
    }
    let Some(text) = section.text("server_id") else { return ReadServerId::Wrong };
    match bytes(text.value) {
        Ok(value) => ReadServerId::Given(Placed { value, span: text.span }),
        Err(reason) => {
            let message = format!("`service.backend.server_id` = {:?} {reason}", text.value);
            section.wrong(text.span, message, "write 1 to 8 bytes, each as two hexadecimal digits, such as \"0a1f\"");
            ReadServerId::Wrong
        }
    }
}

fn bytes(text: &str) -> Result<ServerId, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("holds more than hexadecimal digits");
    }
    if !text.len().is_multiple_of(2) {
        return Err("has an odd number of digits");
    }
    let mut bytes = [0; 8];
    let length = text.len() / 2;
    if !(1..=bytes.len()).contains(&length) {
        return Err("is not 1 to 8 bytes long");
    }
    for (at, byte) in bytes.iter_mut().take(length).enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| "is not hexadecimal")?;
    }
    Ok(ServerId { bytes, length: length as u8 })
}
