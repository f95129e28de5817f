//! What a webhook's requests carry, and whose certificates they trust.

use std::fs;
use std::path::Path;

use hyper::header::{HeaderName, HeaderValue};
use ureq::tls::{PemItem, parse_pem};

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

/// The certificates of the key `ca_file`.
pub(super) fn authorities(section: &Section<'_>, directory: &Path) -> Vec<Vec<u8>> {
    let Some(file) = section.text("ca_file") else { return Vec::new() };
    match certificates(&directory.join(file.value)) {
        Ok(certificates) => certificates,
        Err(why) => {
            let help = "name a file of certificates in PEM (\"-----BEGIN CERTIFICATE-----\"); relative paths start \
                        from the directory of this config";
            section.wrong(file.span, format!("`ca_file` = {:?} {why}", file.value), help);
            Vec::new()
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let about = fs::metadata(path).map_err(|error| format!("can't be read: {error}"))?;
    if !about.is_file() || about.len() > LARGEST_FILE_BYTES {
        return Err(format!("is no file of at most {} MiB", LARGEST_FILE_BYTES >> 20));
    }
    let text = fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate.der().to_vec()),
            Ok(_) => {}
            Err(error) => return Err(format!("is not PEM: {error}")),
        }
    }
    if certificates.is_empty() { Err("has no certificate".to_owned()) } else { Ok(certificates) }
}
