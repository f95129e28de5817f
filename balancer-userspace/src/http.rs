//! What others read over TCP: metrics, and the health of the balancer itself.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::controller::handle::{Handle, Refusal};
use crate::metrics;

/// How long the controller may take to show that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
const SCRAPE: Duration = Duration::from_secs(30);

/// Answers requests until `shutdown` ends.
pub async fn serve(listener: TcpListener, handle: Handle, shutdown: impl Future<Output = ()> + Send + 'static) {
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n") })
        .with_state(handle);
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(shutdown).await {
        log::error!("the HTTP listener failed: {error}");
    }
}

async fn scrape(State(handle): State<Handle>) -> Response {
    let snapshot = match timeout(SCRAPE, handle.metrics()).await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(refusal)) => return unavailable(&refusal.to_string()),
        Err(_) => return unavailable("the controller is busy"),
    };
    // Hundreds of thousands of lines are not for the thread that serves others.
    let encode = move || {
        let text = metrics::encode(&snapshot);
        drop(snapshot);
        give_back_memory();
        text
    };
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Ok(Err(error)) => unavailable(&error.to_string()),
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

async fn healthz(State(handle): State<Handle>) -> Response {
    // Any answer, also that it is not ready, shows that the controller lives.
    match timeout(ALIVE, handle.ready()).await {
        Ok(Err(Refusal::Stopping)) => unavailable("stopping"),
        Ok(_) => "ok\n".into_response(),
        Err(_) => unavailable("the controller does not answer"),
    }
}

async fn readyz(State(handle): State<Handle>) -> Response {
    match timeout(ALIVE, handle.ready()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(refusal)) => unavailable(&refusal.to_string()),
        Err(_) => unavailable("the controller does not answer"),
    }
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}
