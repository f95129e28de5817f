//! Real requests to receivers in this process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::model::WebhookFormat;

const AUTHORITY: &[u8] = include_bytes!("../../tests/tls/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../tests/tls/server.pem");
const KEY: &[u8] = include_bytes!("../../tests/tls/server.key");

fn webhook(to: To) -> Webhook {
    let (timeout, wait, repeat) = (Duration::from_secs(10), Duration::ZERO, Duration::from_secs(60));
    Webhook { to, format: WebhookFormat::Json, timeout, wait, repeat }
}

/// What becomes of one message.
fn posted(url: String, headers: Vec<(String, String)>, authorities: Vec<Vec<u8>>) -> Result<(), String> {
    poster(&webhook(To::Http { url, headers, authorities }))("{}")
}

/// Answers one request; says what it was asked.
fn receiver(answer: String, over_tls: bool) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, received) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream: Box<dyn ReadWrite> = if over_tls {
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()],
                    PrivateKeyDer::from_pem_slice(KEY).unwrap(),
                )
                .unwrap();
            let connection = rustls::ServerConnection::new(config.into()).unwrap();
            Box::new(rustls::StreamOwned::new(connection, stream))
        } else {
            Box::new(stream)
        };
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            let mut part = [0; 1024];
            match stream.read(&mut part) {
                Ok(bytes @ 1..) => request.extend_from_slice(&part[..bytes]),
                _ => return,
            }
        }
        asked.send(String::from_utf8(request).unwrap()).unwrap();
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    });
    (port, received)
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

#[test]
fn a_redirect_is_not_followed_and_is_no_delivery() {
    let (elsewhere, asked_elsewhere) = receiver(answer("200 OK"), false);
    let to = format!("307 Temporary Redirect\r\nlocation: http://127.0.0.1:{elsewhere}/hook?key=secret");
    let (port, asked) = receiver(answer(&to), false);
    let said = posted(format!("http://127.0.0.1:{port}/"), Vec::new(), Vec::new()).unwrap_err();
    assert!(said.contains(&format!("redirect to http://127.0.0.1:{elsewhere}/hook,")), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert!(asked.recv().is_ok());
    assert!(asked_elsewhere.try_recv().is_err(), "it was followed");
}

#[test]
fn headers_go_with_each_request() {
    let (port, asked) = receiver(answer("204 No Content"), false);
    let headers = vec![("Authorization".to_owned(), "Bearer token".to_owned())];
    posted(format!("http://127.0.0.1:{port}/"), headers, Vec::new()).unwrap();
    let asked = asked.recv().unwrap().to_lowercase();
    assert!(asked.contains("authorization: bearer token\r\n"), "{asked}");
    assert!(asked.contains("content-type: application/json\r\n"), "{asked}");
}

#[test]
fn a_certificate_is_checked_against_the_authorities_of_the_config() {
    let trusting = |authorities: Vec<Vec<u8>>| {
        let (port, _asked) = receiver(answer("200 OK"), true);
        posted(format!("https://127.0.0.1:{port}/"), Vec::new(), authorities)
    };
    assert_eq!(trusting(vec![CertificateDer::from_pem_slice(AUTHORITY).unwrap().to_vec()]), Ok(()));
    let said = trusting(Vec::new()).unwrap_err();
    assert!(said.contains("certificate"), "{said}");
}
