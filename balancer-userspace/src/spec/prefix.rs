//! An address or a prefix, as a person writes it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{Placed, Section};

/// Why a text is no prefix.
#[derive(Debug)]
pub(super) struct NoPrefix {
    /// Goes on after the text.
    pub(super) reason: String,
    pub(super) help: String,
}

/// `203.0.113.0/24`, or an address, which is a prefix of its whole length.
pub(super) fn parse(text: &str) -> Result<IpNet, NoPrefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NoPrefix {
        reason: "is neither an address nor a prefix".to_owned(),
        help: "write an address or a prefix, such as \"192.0.2.10\", \"192.0.2.0/24\" or \"2001:db8::/64\"".to_owned(),
    })?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            length.parse().ok().filter(|length| digits && *length <= most).ok_or_else(|| NoPrefix {
                reason: format!("has no prefix length from 0 to {most}"),
                help: format!("write the number of bits that are the same for all, such as \"{address}/{most}\""),
            })?
        }
    };
    let prefix = IpNet::new_assert(address, length);
    if prefix.network() == address {
        return Ok(prefix);
    }
    Err(NoPrefix {
        reason: format!("has bits set behind its first {length}"),
        help: format!("write \"{}\", or \"{address}\" for this address alone", prefix.trunc()),
    })
}

/// Reads `key` as an address or a prefix.
pub(super) fn prefix(section: &Section<'_>, key: &str) -> Option<Placed<IpNet>> {
    let text = section.text(key)?;
    match parse(text.value) {
        Ok(value) => Some(Placed { value, span: text.span }),
        Err(NoPrefix { reason, help }) => {
            section.wrong(text.span, format!("`service.{key}` = {:?} {reason}", text.value), help);
            None
        }
    }
}

/// Whether it is one address.
pub(super) fn is_one(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

/// For people: an address without its length, a prefix with it.
pub(super) fn words(prefix: &IpNet) -> String {
    if is_one(prefix) { prefix.addr().to_string() } else { prefix.to_string() }
}
