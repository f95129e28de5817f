//! What others read over TCP: metrics, and the health of the balancer itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::controller::handle::{Handle, Refusal};
use crate::{listener, metrics};

/// How long the controller may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
const SCRAPE: Duration = Duration::from_secs(30);
/// For so long all who ask for metrics share one encoded answer.
const SHARED: Duration = Duration::from_secs(1);
/// Of all descriptors, the last tenth is for probes, the control socket and maps.
const KEPT: u64 = 10;

/// What requests are answered from.
#[derive(Clone)]
struct Answering {
    handle: Handle,
    scrapes: Scrapes,
}

/// The last answer to a scrape, and when it was made; locked while one is being made, so that whoever comes meanwhile gets it.
#[derive(Clone, Default)]
struct Scrapes(Arc<Mutex<Option<(Instant, Bytes)>>>);

impl Scrapes {
    async fn get(&self, make: impl Future<Output = Result<Bytes, String>>) -> Result<Bytes, String> {
        let mut last = self.0.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < SHARED
        {
            return Ok(text.clone());
        }
        let text = make.await?;
        *last = Some((Instant::now(), text.clone()));
        tokio::spawn(self.clone().forget());
        Ok(text)
    }

    /// An answer to a large config's scrape is not kept for longer than it is shared.
    async fn forget(self) {
        sleep(SHARED).await;
        let mut last = self.0.lock().await;
        if last.as_ref().is_some_and(|(at, _)| at.elapsed() >= SHARED) {
            *last = None;
        }
    }
}

/// Answers requests until `stopped` is true.
pub async fn serve(listener: TcpListener, handle: Handle, stopped: watch::Receiver<bool>) {
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
        .with_state(Answering { handle, scrapes: Scrapes::default() });
    listener::serve(listener, app, |_| (), KEPT, stopped).await;
}

async fn scrape(State(answering): State<Answering>) -> Response {
    match answering.scrapes.get(encoded(&answering.handle)).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(reason) => unavailable(&reason),
    }
}

async fn encoded(handle: &Handle) -> Result<Bytes, String> {
    let snapshot = match timeout(SCRAPE, handle.metrics()).await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(refusal)) => return Err(refusal.to_string()),
        Err(_) => return Err("the controller is busy".to_owned()),
    };
    // Hundreds of thousands of lines are not for the thread that serves others.
    let encode = move || {
        let text = metrics::encode(&snapshot);
        drop(snapshot);
        give_back_memory();
        text
    };
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(text)) => Ok(text.into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A scrape of a large config needs hundreds of megabytes for a moment; the allocator would keep them.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's own function; it may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

async fn healthz(State(Answering { handle, .. }): State<Answering>) -> Response {
    // Any answer, also that it is not ready, shows that the controller lives.
    match timeout(ALIVE, handle.ready()).await {
        Ok(Err(Refusal::Stopping)) => unavailable("stopping"),
        Ok(_) => "ok\n".into_response(),
        Err(_) => unavailable("the controller does not answer"),
    }
}

async fn readyz(State(Answering { handle, .. }): State<Answering>) -> Response {
    match timeout(ALIVE, handle.ready()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(refusal)) => unavailable(&refusal.to_string()),
        Err(_) => unavailable("the controller does not answer"),
    }
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn scrapes_within_a_second_share_one_answer_and_a_failed_one_is_shared_with_nobody() {
        let scrapes = Scrapes::default();
        assert_eq!(scrapes.get(async { Err("busy".to_owned()) }).await, Err("busy".to_owned()));
        let one = |text: &'static str| async move { Ok(Bytes::from(text)) };
        assert_eq!(scrapes.get(one("first")).await, Ok(Bytes::from("first")));
        let (second, third) = tokio::join!(scrapes.get(one("second")), scrapes.get(one("third")));
        assert_eq!((second, third), (Ok(Bytes::from("first")), Ok(Bytes::from("first"))));
        sleep(SHARED + Duration::from_millis(100)).await;
        assert!(scrapes.0.lock().await.is_none(), "it is kept");
        assert_eq!(scrapes.get(one("later")).await, Ok(Bytes::from("later")));
    }
}
