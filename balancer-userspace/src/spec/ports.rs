//! `port` of a service: one, a range, or all.

use super::reader::{Placed, Section};
use crate::model::Ports;

pub(super) fn ports(section: &Section<'_>, key: &str) -> Option<Placed<Ports>> {
    if !section.is_text(key) {
        return section.port(key).map(|port| port.map(Ports::One));
    }
    let text = section.text(key)?;
    match parse(text.value) {
        Ok(value) => Some(Placed { value, span: text.span }),
        Err((reason, help)) => {
            section.wrong(text.span, format!("`service.{key}` = {:?} {reason}", text.value), help);
            None
        }
    }
}

/// What is wrong with the text and what would be right, if anything is.
fn parse(text: &str) -> Result<Ports, (&'static str, String)> {
    if text == "all" {
        return Ok(Ports::All);
    }
    if let Some(port) = number(text) {
        return Err(("is a port in quotes", format!("write {port}")));
    }
    let ends = text.split_once('-').and_then(|(first, last)| Some((number(first.trim())?, number(last.trim())?)));
    match ends {
        Some((first, last)) if first == last => Ok(Ports::One(first)),
        Some((first, last)) if first < last => Ok(Ports::Range(first, last)),
        Some((first, last)) => Err(("ends before it begins", format!("write \"{last}-{first}\""))),
        None => {
            Err(("is no port", "write a number from 1 to 65535, a range such as \"8000-8999\", or \"all\"".to_owned()))
        }
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// 0 of all ports.
pub(super) fn lowest(ports: Ports) -> u16 {
    match ports {
        Ports::One(port) | Ports::Range(port, _) => port,
        Ports::All => 0,
    }
}

/// For people.
pub(super) fn words(ports: Ports) -> String {
    match ports {
        Ports::One(port) => format!("port {port}"),
        Ports::Range(first, last) => format!("ports {first}-{last}"),
        Ports::All => "all ports".to_owned(),
    }
}
