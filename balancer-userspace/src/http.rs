//! What others read over TCP: metrics, and the health of the balancer itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::controller::answer::published::Reader;
use crate::controller::handle::{Handle, Refusal};
use crate::metrics;
use crate::model::ServiceName;

/// How long the controller may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(1);

/// Answers requests until `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    reader: Reader,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/metrics/service/{name}", get(scrape_service))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "there are /metrics, /metrics/service/NAME, /healthz and /readyz\n")
        })
        .with_state(Sources { handle, reader: Arc::new(reader) });
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(shutdown).await {
        log::error!("the HTTP listener failed: {error}");
    }
}

#[derive(Clone)]
struct Sources {
    handle: Handle,
    reader: Arc<Reader>,
}

#[derive(serde::Deserialize)]
struct Only {
    service: Option<ServiceName>,
}

async fn scrape(State(sources): State<Sources>, Query(only): Query<Only>) -> Response {
    page(sources.reader, only.service).await
}

async fn scrape_service(State(sources): State<Sources>, UrlPath(service): UrlPath<ServiceName>) -> Response {
    page(sources.reader, Some(service)).await
}

/// Of all services, or of one.
async fn page(reader: Arc<Reader>, only: Option<ServiceName>) -> Response {
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
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Ok(Err(Refusal::NotFound(why))) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
        Ok(Err(refusal)) => unavailable(&refusal.to_string()),
        Err(error) => unavailable(&error.to_string()),
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

async fn healthz(State(Sources { handle, .. }): State<Sources>) -> Response {
    // Any answer, also that it is not ready, shows that the controller lives.
    match timeout(ALIVE, handle.ready()).await {
        Ok(Ok(()) | Err(Refusal::Failed(_) | Refusal::Invalid(_) | Refusal::NotFound(_))) => "ok\n".into_response(),
        Ok(Err(Refusal::Stopping)) => unavailable("stopping"),
        Err(_) => unavailable("the controller does not answer"),
    }
}

async fn readyz(State(Sources { handle, .. }): State<Sources>) -> Response {
    match timeout(ALIVE, handle.ready()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(refusal)) => unavailable(&refusal.to_string()),
        Err(_) => unavailable("the controller does not answer"),
    }
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}
