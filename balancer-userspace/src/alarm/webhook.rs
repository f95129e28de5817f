//! Sending to webhooks and programs, each on a thread of its own: a receiver that hangs holds nobody up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Alarm;
use super::message::Sender;
use super::outbox::Outbox;
use super::program;
use crate::model::{Alarming, Receiver as To, Webhook};

/// Changes of alarms that wait for a thread; it takes them as they come, but for the time of one request.
const WAITING: usize = 256;
/// Attempts in a row that fail before an alarm says so.
const FAILURES: u32 = 3;

/// What a thread tells of its receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Of the webhook.
    pub name: String,
    /// Alarms of the request that arrived, or why none did.
    pub outcome: Result<Vec<Alarm>, String>,
    /// It was tried in vain for long enough.
    pub unreached: bool,
}

/// What a thread is told: alarms that changed, and the hash of the history's newest record.
type Change = (Vec<Alarm>, String);

/// All webhooks of a config.
pub struct Webhooks {
    threads: Vec<Thread>,
    alarming: Alarming,
}

struct Thread {
    name: String,
    /// The thread ends once this is gone, after the request that it is at.
    changes: SyncSender<Change>,
}

impl Webhooks {
    /// Starts a thread a webhook; `told` hears how each request ended.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start(alarming: &Alarming, node: &str, told: impl Fn(Delivery) + Clone + Send + 'static) -> Result<Self> {
        let sender = Sender { node: node.to_owned(), runbook: alarming.runbook.clone() };
        let thread = |webhook: &Webhook| -> Result<Thread> {
            let (changes, received) = sync_channel(WAITING);
            let (webhook, sender, told) = (webhook.clone(), sender.clone(), told.clone());
            let name = webhook.name().to_owned();
            std::thread::Builder::new()
                .name("webhook".to_owned())
                .spawn(move || deliver(&webhook, &sender, &received, &told))
                .context("starting a thread for a webhook")?;
            Ok(Thread { name, changes })
        };
        let threads = alarming.webhooks.iter().map(thread).collect::<Result<_>>()?;
        Ok(Self { threads, alarming: alarming.clone() })
    }

    /// Whether these are the webhooks of a config.
    pub fn are(&self, alarming: &Alarming) -> bool {
        self.alarming == *alarming
    }

    /// Hands on what came and what went. Whose thread is stuck beyond the bound misses it; it hears of what lasts later.
    pub fn tell(&self, changed: &[Alarm], history_head: &str) {
        for thread in self.threads.iter().filter(|_| !changed.is_empty()) {
            if let Err(TrySendError::Full(_)) = thread.changes.try_send((changed.to_vec(), history_head.to_owned())) {
                log::error!("{} alarms are lost for {}: it takes none", changed.len(), thread.name);
            }
        }
    }
}

fn deliver(webhook: &Webhook, sender: &Sender, changes: &Receiver<Change>, told: &impl Fn(Delivery)) {
    let post = poster(webhook);
    let mut outbox = Outbox::new(webhook.wait, webhook.repeat);
    let mut head = String::new();
    loop {
        let pause = outbox.due().map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
        match changes.recv_timeout(pause) {
            Ok((changed, newest)) => {
                outbox.note(&changed, Instant::now());
                head = newest;
                while let Ok((more, newest)) = changes.try_recv() {
                    outbox.note(&more, Instant::now());
                    head = newest;
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let batch = outbox.batch(Instant::now());
        if batch.is_empty() {
            continue;
        }
        // Alertmanager takes an alert for resolved that it hears no more of; a few requests may be lost.
        let body = sender.body(webhook.format, &batch, &head, SystemTime::now(), webhook.repeat * 4);
        let outcome = post(&body);
        match &outcome {
            Ok(()) => outbox.sent(&batch, Instant::now()),
            Err(_) => outbox.failed(Instant::now()),
        }
        let unreached = outbox.failures() >= FAILURES;
        told(Delivery { name: webhook.name().to_owned(), outcome: outcome.map(|()| batch), unreached });
    }
}

/// Brings one message to the receiver.
type Poster = Box<dyn Fn(&str) -> Result<(), String>>;

fn poster(webhook: &Webhook) -> Poster {
    let limit = webhook.timeout;
    match webhook.to.clone() {
        To::Program(command) => Box::new(move |body| program::run(&command, body, limit)),
        To::Http { url, headers, authorities } => {
            let agent = agent(limit, &authorities);
            Box::new(move |body| post(&agent, &url, &headers, body))
        }
    }
}

/// Redirects are not followed: what alarms say goes where the config says, and nowhere else.
fn agent(timeout: Duration, authorities: &[Vec<u8>]) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder().timeout_global(Some(timeout)).max_redirects(0);
    if !authorities.is_empty() {
        let authorities = authorities.iter().map(|der| Certificate::from_der(der).to_owned());
        let tls = TlsConfig::builder().root_certs(RootCerts::from(authorities)).build();
        config = config.tls_config(tls);
    }
    ureq::Agent::new_with_config(config.build())
}

fn post(agent: &ureq::Agent, url: &str, headers: &[(String, String)], body: &str) -> Result<(), String> {
    let mut request = agent.post(url).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send(body).map_err(|error| error.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
    Err(match location {
        Some(to) => {
            // What follows may hold a secret.
            let to = to.split(['?', '#']).next().unwrap_or_default();
            format!("it answers {status}, a redirect to {to}, which is not followed; `url` must name where alarms go")
        }
        None => format!("it answers {status}"),
    })
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
