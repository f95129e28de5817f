//! One probe.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::farewell;
use crate::model::{CheckKind, HealthCheck};

/// The head of an answer may have this many bytes and fields.
const HEAD: usize = 16 * 1024;
const FIELDS: usize = 100;

/// How a probe ended, and the connection that is still to be closed.
pub(super) struct Asked {
    /// The error says what was tried, where, and what happened.
    pub(super) outcome: Result<()>,
    stream: Option<TcpStream>,
    /// The server was asked to close.
    closes: bool,
}

impl Asked {
    /// Ends the connection as servers expect it of a client.
    pub(super) async fn part(self) {
        if let Some(stream) = self.stream {
            farewell::part(stream, self.closes).await;
        }
    }
}

/// Asks once.
pub(super) async fn probe(address: SocketAddr, check: &HealthCheck) -> Asked {
    let mut stream = None;
    let attempt = async {
        if check.kind == CheckKind::None {
            return Ok(());
        }
        let connected = TcpStream::connect(address).await.with_context(|| format!("tcp connect to {address}"))?;
        let stream = stream.insert(connected);
        match &check.kind {
            CheckKind::Http { path, host } => http(stream, address, path, host.as_deref()).await,
            CheckKind::None | CheckKind::Tcp => Ok(()),
        }
    };
    let outcome = timeout(check.timeout, attempt).await;
    let outcome = outcome.unwrap_or_else(|_| {
        let patience = humantime::format_duration(check.timeout);
        Err(anyhow::anyhow!("{} {address}: no answer within {patience}", name(&check.kind)))
    });
    Asked { outcome, stream, closes: matches!(check.kind, CheckKind::Http { .. }) }
}

fn name(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::None => "no check of",
        CheckKind::Tcp => "tcp connect to",
        CheckKind::Http { .. } => "http GET from",
    }
}

/// Success is a status of 200 to 299, also where the server answers before it has read the request.
async fn http(stream: &mut TcpStream, address: SocketAddr, path: &str, host: Option<&str>) -> Result<()> {
    let what = || format!("http GET {path} from {address}");
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: balancer/{}\r\nconnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    // A server that has answered and closed already takes no request; its answer is there to be read.
    let sent = stream.write_all(request.as_bytes()).await;
    let status = match head(stream).await {
        Ok(status) => status,
        Err(error) => {
            sent.with_context(what)?;
            return Err(error.context(what()));
        }
    };
    if !(200..300).contains(&status) {
        bail!("{}: status {status}", what());
    }
    Ok(())
}

/// The status of the final answer; those of 100 to 199 come before it.
async fn head(stream: &mut TcpStream) -> Result<u16> {
    let mut read = Vec::with_capacity(1024);
    loop {
        while let Some((status, length)) = parse(&read)? {
            if !(100..200).contains(&status) {
                return Ok(status);
            }
            read.drain(..length);
        }
        if read.len() >= HEAD {
            bail!("the head of the answer is longer than {HEAD} bytes");
        }
        if stream.read_buf(&mut read).await.context("reading the answer")? == 0 {
            bail!("closed without a whole answer");
        }
    }
}

/// Status and length of a head that is there whole.
fn parse(read: &[u8]) -> Result<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let parsed = answer.parse(read).context("the answer is not HTTP/1")?;
    Ok(match (parsed, answer.code) {
        (httparse::Status::Complete(length), Some(status)) => Some((status, length)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_told_apart() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nbody").unwrap(), Some((200, 19)));
        assert_eq!(parse(b"HTTP/1.0 503 No\r\na: b\r\n\r\n").unwrap(), Some((503, 25)));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\na: b\r\n").unwrap(), None);
        assert_eq!(parse(b"").unwrap(), None);
        assert!(parse(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert!(parse(many.as_bytes()).is_err());
    }
}
