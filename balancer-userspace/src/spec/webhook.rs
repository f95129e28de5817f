//! What a webhook's requests carry, and whose certificates they trust; the program that is run instead.

use std::path::Path;

use hyper::header::{HeaderName, HeaderValue};
use ureq::tls::{PemItem, parse_pem};

use super::beside::Beside;
use super::reader::Section;

/// Headers that the request has anyway.
const OWN: &[&str] = &["content-type", "content-length", "host", "transfer-encoding", "connection"];
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// Of the key `headers`.
pub(super) fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in section.text_table("headers") {
        let named = name.value.parse::<HeaderName>();
        if named.is_err() || OWN.contains(&name.value.to_ascii_lowercase().as_str()) {
            let message = format!("{:?} is no header that a webhook can be given", name.value);
            section.wrong(name.span, message, "write, for example, headers = { Authorization = \"Bearer TOKEN\" }");
        } else if HeaderValue::from_str(value.value).is_err() {
            // Not quoted: it may be a secret.
            let message = format!("the value of the header {} has characters that no header can have", name.value);
            section.wrong(value.span, message, "write it on one line, without control characters");
        } else {
            headers.push((name.value.to_owned(), value.value.to_owned()));
        }
    }
    headers
}

/// Program and arguments of the key `exec`, in whose place nothing of a request can stand.
pub(super) fn program(section: &Section<'_>) -> Option<Vec<String>> {
    for key in ["url", "headers", "ca_file"] {
        if let Some(span) = section.span_of(key) {
            let message = format!("`webhook.{key}` does not go with `webhook.exec`");
            section.wrong(span, message, "remove one of them; another [[webhook]] can have the other");
        }
    }
    let command = section.texts("exec")?;
    let words: Vec<String> = command.value.iter().map(|word| word.value.to_owned()).collect();
    let absolute = words.first().is_some_and(|program| program.starts_with('/'));
    if !absolute || words.iter().any(|word| word.contains('\0')) {
        let help =
            "write the program with its whole path, then its arguments: exec = [\"/usr/local/bin/page\", \"--now\"]";
        section.wrong(command.span, "`webhook.exec` names no program that can be run", help);
        return None;
    }
    Some(words)
}

/// The certificates of the key `ca_file`.
pub(super) fn authorities(section: &Section<'_>, beside: Beside<'_>) -> Vec<Vec<u8>> {
    let Some(file) = section.text("ca_file") else { return Vec::new() };
    match certificates(&beside.directory.join(file.value), beside) {
        Ok(certificates) => certificates,
        Err(why) => {
            let help = "name a file of certificates in PEM (\"-----BEGIN CERTIFICATE-----\"); relative paths start \
                        from the directory of this config";
            section.wrong(file.span, format!("`ca_file` = {:?} {why}", file.value), help);
            Vec::new()
        }
    }
}

fn certificates(path: &Path, beside: Beside<'_>) -> Result<Vec<Vec<u8>>, String> {
    let text = beside.text(path, LARGEST_FILE_BYTES).map_err(|why| why.to_string())?;
    let mut certificates = Vec::new();
    for item in parse_pem(text.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate.der().to_vec()),
            Ok(_) => {}
            Err(error) => return Err(format!("is not PEM: {error}")),
        }
    }
    if certificates.is_empty() { Err("has no certificate".to_owned()) } else { Ok(certificates) }
}
