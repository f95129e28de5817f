//! What others read over TCP: metrics, and the health of the balancer itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::controller::handle::{Handle, Refusal};
use crate::controller::published::Reader;
use crate::model::ServiceName;
use crate::{listener, metrics};

/// How long the controller may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
/// For so long all who ask for metrics share one encoded answer.
const SHARED: Duration = Duration::from_secs(1);
/// Of all descriptors, the last tenth is for probes, the control socket and maps.
const KEPT: u64 = 10;

/// What requests are answered from.
#[derive(Clone)]
struct Answering {
    handle: Handle,
    reader: Arc<Reader>,
    scrapes: Scrapes,
}

/// The last answer to a scrape, and when it was made; locked while one is being made, so that whoever comes meanwhile gets it.
#[derive(Clone, Default)]
struct Scrapes(Arc<Mutex<Option<(Instant, Bytes)>>>);

impl Scrapes {
    async fn get(&self, make: impl Future<Output = Result<Bytes, Refusal>>) -> Result<Bytes, Refusal> {
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
pub async fn serve(listener: TcpListener, handle: Handle, reader: Reader, stopped: watch::Receiver<bool>) {
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/metrics/service/{name}", get(scrape_service))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "there are /metrics, /metrics/service/NAME, /healthz and /readyz\n")
        })
        .with_state(Answering { handle, reader: Arc::new(reader), scrapes: Scrapes::default() });
    listener::serve(listener, app, |_| (), KEPT, stopped).await;
}

#[derive(serde::Deserialize)]
struct Only {
    service: Option<ServiceName>,
}

async fn scrape(State(answering): State<Answering>, Query(only): Query<Only>) -> Response {
    match only.service {
        Some(service) => page(encoded(answering.reader, Some(service)).await),
        None => page(answering.scrapes.get(encoded(answering.reader, None)).await),
    }
}

async fn scrape_service(State(answering): State<Answering>, UrlPath(service): UrlPath<ServiceName>) -> Response {
    page(encoded(answering.reader, Some(service)).await)
}

fn page(encoded: Result<Bytes, Refusal>) -> Response {
    match encoded {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(Refusal::NotFound(why)) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
        Err(refusal) => unavailable(&refusal.to_string()),
    }
}

/// Of all services, or of one.
async fn encoded(reader: Arc<Reader>, only: Option<ServiceName>) -> Result<Bytes, Refusal> {
    // Hundreds of thousands of lines are not for the thread that serves others.
    let encode = move || {
        let text = reader.snapshot(only.as_ref()).and_then(|snapshot| {
            metrics::encode(&snapshot).map_err(|error| Refusal::Failed(format!("the page can't be written: {error}")))
        });
        if only.is_none() {
            give_back_memory();
        }
        text
    };
    match tokio::task::spawn_blocking(encode).await {
        Ok(text) => text.map(Into::into),
        Err(error) => Err(Refusal::Failed(error.to_string())),
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
        let busy = || Refusal::Failed("busy".to_owned());
        assert_eq!(scrapes.get(async { Err(busy()) }).await, Err(busy()));
        let one = |text: &'static str| async move { Ok(Bytes::from(text)) };
        assert_eq!(scrapes.get(one("first")).await, Ok(Bytes::from("first")));
        let (second, third) = tokio::join!(scrapes.get(one("second")), scrapes.get(one("third")));
        assert_eq!((second, third), (Ok(Bytes::from("first")), Ok(Bytes::from("first"))));
        sleep(SHARED + Duration::from_millis(100)).await;
        assert!(scrapes.0.lock().await.is_none(), "it is kept");
        assert_eq!(scrapes.get(one("later")).await, Ok(Bytes::from("later")));
    }
}
