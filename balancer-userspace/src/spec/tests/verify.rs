//! How what runs is compared, and who hears of alarms.

use std::time::Duration;

use super::*;
use crate::model::{Alarming, Receiver, Verify, WebhookFormat};

fn node(lines: &str) -> crate::model::Node {
    let text = format!("{}\n{lines}", service("forward = \"l2\"", &[]));
    parse("test.toml", &text).unwrap_or_else(|problems| panic!("{problems}")).node
}

fn said(lines: &str) -> String {
    let text = format!("{}\n{lines}", service("forward = \"l2\"", &[]));
    parse("test.toml", &text).unwrap_err().to_string()
}

#[test]
fn what_is_not_said_is_compared_every_ten_seconds_and_put_right() {
    assert_eq!(node("").verify, Verify::DEFAULT);
    let verify = node("[verify]\ninterval = \"1m\"\nself_heal = false\nself_heal_program = true").verify;
    assert_eq!(verify, Verify { interval: Duration::from_secs(60), self_heal: false, self_heal_program: true });
    assert!(said("[verify]\ninterval = \"10ms\"").contains("verify.interval"));
    assert!(said("[verify]\nheal = true").contains("unknown key `heal` in verify"));
}

#[test]
fn a_webhook_has_a_url() {
    assert_eq!(node("").alarming, Alarming { runbook: Alarming::RUNBOOK.to_owned(), webhooks: Vec::new() });
    let alarming = node(
        "[alarm]\nrunbook = \"https://example.com/rb\"\n[[webhook]]\nurl = \"http://a/\"\n\
         [[webhook]]\nurl = \"https://b:8443/x\"\nformat = \"json\"\nrepeat = \"10m\"",
    )
    .alarming;
    assert_eq!(alarming.runbook, "https://example.com/rb");
    let formats: Vec<_> = alarming.webhooks.iter().map(|webhook| (webhook.name(), webhook.format)).collect();
    assert_eq!(formats, [("a", WebhookFormat::Alertmanager), ("b:8443", WebhookFormat::Json)]);
    assert_eq!(alarming.webhooks[1].repeat, Duration::from_secs(600));
    assert!(said("[[webhook]]\nformat = \"json\"").contains("url"));
    assert!(said("[[webhook]]\nurl = \"ftp://a\"").contains("write one with http:// or https://"));
}

#[test]
fn a_program_takes_the_place_of_a_url() {
    let read = node("[[webhook]]\nexec = [\"/usr/local/bin/page\", \"--now\"]").alarming.webhooks[0].clone();
    assert_eq!(read.to, Receiver::Program(vec!["/usr/local/bin/page".to_owned(), "--now".to_owned()]));
    assert_eq!((read.name(), read.format), ("/usr/local/bin/page", WebhookFormat::Json));
    let said = |lines: &str| said(&format!("[[webhook]]\n{lines}"));
    assert!(
        said("exec = [\"/bin/page\"]\nurl = \"http://a/\"").contains("`webhook.url` does not go with `webhook.exec`")
    );
    for wrong in ["exec = []", "exec = [\"page\"]", "exec = [\"/bin/x\\u0000y\"]"] {
        assert!(said(wrong).contains("names no program that can be run"), "{wrong}");
    }
    assert!(said("exec = \"/bin/page\"").contains("an array of strings"));
}

#[test]
fn a_webhook_has_headers_and_authorities_of_its_own() {
    let webhook =
        |lines: &str| node(&format!("[[webhook]]\nurl = \"https://a/\"\n{lines}")).alarming.webhooks[0].clone();
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/authority.pem");
    let read = webhook(&format!("headers = {{ Authorization = \"Bearer x\" }}\nca_file = {authority:?}"));
    let Receiver::Http { headers, authorities, .. } = read.to else { panic!("{read:?}") };
    assert_eq!(headers, [("Authorization".to_owned(), "Bearer x".to_owned())]);
    assert_eq!(authorities.len(), 1);
    let said = |lines: &str| said(&format!("[[webhook]]\nurl = \"https://a/\"\n{lines}"));
    assert!(said("headers = { \"a b\" = \"x\" }").contains("no header that a webhook can be given"));
    assert!(said("headers = { Content-Length = \"3\" }").contains("no header that a webhook can be given"));
    let secret = said("headers = { Authorization = \"se\\u0007cret\" }");
    assert!(secret.contains("characters that no header can have") && secret.contains("Authorization"), "{secret}");
    assert!(said("headers = { a = 1 }").contains("strings only"));
    assert!(said("ca_file = \"/nowhere\"").contains("can't be read"));
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/server.key");
    assert!(said(&format!("ca_file = {key:?}")).contains("has no certificate"));
}
