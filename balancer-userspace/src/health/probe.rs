//! One probe.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::{CheckKind, HealthCheck};

/// Asks once; the error says what was tried, where, and what happened.
pub(super) async fn probe(address: SocketAddr, check: &HealthCheck) -> Result<()> {
    let attempt = async {
        match &check.kind {
            CheckKind::None => Ok(()),
            CheckKind::Tcp => connect(address).await.map(drop),
            CheckKind::Http { path, host } => http(address, path, host.as_deref()).await,
        }
    };
    match timeout(check.timeout, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("{} {address}: no answer within {}", name(&check.kind), pretty(check.timeout)),
    }
}

fn name(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::None => "no check of",
        CheckKind::Tcp => "tcp connect to",
        CheckKind::Http { .. } => "http GET from",
    }
}

fn pretty(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("tcp connect to {address}"))?;
    // Closed by a reset: thousands of probes would else leave thousands of sockets in TIME_WAIT.
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(stream)
}

/// Success is a status of 200 to 299; the body is not read.
async fn http(address: SocketAddr, path: &str, host: Option<&str>) -> Result<()> {
    let stream = connect(address).await?;
    let what = || format!("http GET {path} from {address}");
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        .handshake(TokioIo::new(stream))
        .await
        .with_context(what)?;
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("balancer/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .with_context(what)?;
    // The connection makes progress only while it is polled; it may well end with the answer already given.
    let mut answer = pin!(sender.send_request(request));
    let status: StatusCode = tokio::select! {
        answer = &mut answer => answer.with_context(what)?.status(),
        ended = connection => {
            ended.with_context(what)?;
            answer.await.with_context(|| format!("{}: closed without an answer", what()))?.status()
        }
    };
    if !status.is_success() {
        bail!("{}: status {status}", what());
    }
    Ok(())
}
