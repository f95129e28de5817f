//! `[verify]`, `[alarm]` and `[[webhook]]`: how what runs is compared with what was planned, and who hears of a gap.

use std::time::Duration;

use super::beside::Beside;
use super::reader::Section;
use super::webhook::{authorities, headers, program};
use crate::model::{Alarming, Receiver, Verify, Webhook, WebhookFormat};

pub(super) const VERIFY_KEYS: &[&str] = &["interval", "self_heal", "self_heal_program"];
pub(super) const ALARM_KEYS: &[&str] = &["runbook"];
pub(super) const WEBHOOK_KEYS: &[&str] = &["url", "format", "timeout", "wait", "repeat", "headers", "ca_file", "exec"];

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

const FORMATS: &[(&str, WebhookFormat)] =
    &[("alertmanager", WebhookFormat::Alertmanager), ("json", WebhookFormat::Json)];

pub(super) fn verify(root: &Section<'_>) -> Verify {
    let section = root.section("verify", "verify", VERIFY_KEYS);
    let section = section.as_ref();
    let interval = section.and_then(|verify| verify.duration_within("interval", SHORTEST_INTERVAL..=LONGEST_INTERVAL));
    let flag = |key: &str, default: bool| section.and_then(|verify| verify.boolean(key)).unwrap_or(default);
    Verify {
        interval: interval.map_or(Verify::DEFAULT.interval, |interval| interval.value),
        self_heal: flag("self_heal", Verify::DEFAULT.self_heal),
        self_heal_program: flag("self_heal_program", Verify::DEFAULT.self_heal_program),
    }
}

/// `beside`: files that it names.
pub(super) fn alarming(root: &Section<'_>, beside: Beside<'_>) -> Alarming {
    let section = root.section("alarm", "alarm", ALARM_KEYS);
    let runbook = section.as_ref().and_then(|alarm| alarm.text("runbook")).map(|text| text.value.to_owned());
    let webhooks = root.sections("webhook", "webhook", WEBHOOK_KEYS);
    Alarming {
        runbook: runbook.unwrap_or_else(|| Alarming::RUNBOOK.to_owned()),
        webhooks: webhooks.iter().filter_map(|section| webhook(section, beside)).collect(),
    }
}

fn webhook(section: &Section<'_>, beside: Beside<'_>) -> Option<Webhook> {
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    let is_program = section.has("exec");
    let usual = if is_program { WebhookFormat::Json } else { WebhookFormat::Alertmanager };
    let format = section.choice("format", FORMATS, &[]).map_or(usual, |format| format.value);
    let timeout = section.duration_within("timeout", seconds(1, 60)).map_or(Duration::from_secs(5), |d| d.value);
    let wait = section.duration_within("wait", seconds(0, 300)).map_or(Duration::from_secs(1), |d| d.value);
    let repeat = section.duration_within("repeat", seconds(10, 86_400)).map_or(Duration::from_secs(60), |d| d.value);
    let to = if is_program { program(section).map(Receiver::Program) } else { http(section, beside) };
    Some(Webhook { to: to?, format, timeout, wait, repeat })
}

fn http(section: &Section<'_>, beside: Beside<'_>) -> Option<Receiver> {
    let (headers, authorities) = (headers(section), authorities(section, beside));
    let url = section.required("url", "\"http://127.0.0.1:9093/api/v2/alerts\"", |key| section.text(key))?;
    if !(url.value.starts_with("http://") || url.value.starts_with("https://"))
        || url.value.parse::<hyper::Uri>().is_err()
    {
        section.wrong(
            url.span,
            format!("{:?} is not a URL that alarms can be sent to", url.value),
            "write one with http:// or https://, such as \"http://127.0.0.1:9093/api/v2/alerts\"",
        );
        return None;
    }
    Some(Receiver::Http { url: url.value.to_owned(), headers, authorities })
}
