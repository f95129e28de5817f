//! One row a backend, RFC 4180.

use crate::control::api::Status;

const HEADER: &str = "service,protocol,address,ports,backend,backend_address,state,reason,weight,effective_weight,share_config,\
                      share_effective,share_planned,share_kernel,share_observed,packets,bytes,new_flows\r\n";

pub(super) fn csv(status: &Status) -> String {
    let mut out = HEADER.to_owned();
    for service in &status.services {
        for backend in &service.backends {
            let share = |share: Option<f64>| share.map(|share| format!("{share:.6}")).unwrap_or_default();
            let shares = backend.share;
            let fields = [
                service.name.to_string(),
                service.protocol.to_string(),
                service.address.to_string(),
                service.ports.clone(),
                backend.name.to_string(),
                backend.address.to_string(),
                backend.state.as_str().to_owned(),
                backend.reason.clone().unwrap_or_default(),
                backend.weight.to_string(),
                backend.effective_weight.to_string(),
                share(shares.config),
                share(shares.effective),
                share(shares.planned),
                share(shares.kernel),
                share(shares.observed),
                backend.packets.to_string(),
                backend.bytes.to_string(),
                backend.new_flows.to_string(),
            ];
            out += &fields.map(|field| quoted(&field)).join(",");
            out += "\r\n";
        }
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
