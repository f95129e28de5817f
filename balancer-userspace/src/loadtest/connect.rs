//! One connection: opened, asked if there is something to ask, and closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::schedule::LATEST;
use super::tally::{Failure, Outcome};

/// What each connection does.
#[derive(Debug, Clone)]
pub struct Connection {
    pub target: SocketAddr,
    /// Longest time from its opening to the end of the answer.
    pub timeout: Duration,
    pub exchange: Exchange,
}

#[derive(Debug, Clone)]
pub enum Exchange {
    /// Nothing is sent.
    None,
    /// What is sent; the first bytes that come back are the answer.
    Text(Bytes),
    /// A whole HTTP/1.1 request after which the server closes; a status from 400 on is a failure.
    Http(Bytes),
}

impl Exchange {
    pub fn http(path: &str, target: SocketAddr) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: balancer/{version}\r\nConnection: close\r\n\r\n"
        );
        Self::Http(head.into())
    }
}

impl Connection {
    /// Goes through one connection that was due at `due`, from `source` if that is given; `None` where the runtime comes
    /// to it too late.
    pub(super) async fn run(&self, source: Option<IpAddr>, due: Instant) -> Option<Outcome> {
        let begun = due.elapsed();
        if begun > LATEST {
            return None;
        }
        let mut outcome = Outcome { begun, connected: None, answered: None, source: None, failure: None };
        let limited = timeout(self.timeout, self.talk(source, due, &mut outcome)).await;
        outcome.failure = limited.unwrap_or(Err(Failure::TimedOut)).err();
        Some(outcome)
    }

    async fn talk(&self, source: Option<IpAddr>, due: Instant, outcome: &mut Outcome) -> Result<(), Failure> {
        let stream = self.socket(source)?.connect(self.target).await?;
        outcome.connected = Some(due.elapsed());
        outcome.source = stream.local_addr().ok();
        let (request, until_close) = match &self.exchange {
            Exchange::None => return Ok(()),
            Exchange::Text(request) => (request, false),
            Exchange::Http(request) => (request, true),
        };
        send(&stream, request).await?;
        let mut head = [0; HEAD];
        let mut length = 0;
        loop {
            stream.readable().await?;
            match receive(&stream, &mut head[length..]) {
                Ok(0) => break,
                Ok(count) => {
                    outcome.answered.get_or_insert_with(|| due.elapsed());
                    length = (length + count).min(HEAD);
                    if !until_close {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if until_close && length > 0 { good_status(&head[..length]) } else { Err(other("closed without an answer")) }
    }

    fn socket(&self, source: Option<IpAddr>) -> io::Result<TcpSocket> {
        let socket = if self.target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_nodelay(true)?;
        if let Some(source) = source {
            // The port is chosen when the destination is known, so that connections to others don't count against it.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::new(source, 0))?;
        }
        Ok(socket)
    }
}

/// Bytes of an answer that are looked at: `HTTP/1.1 200`.
const HEAD: usize = 12;

/// Writes all of it. No buffer is held while waiting: a thousand connections wait.
async fn send(stream: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there, keeps its beginning, and says how long it was.
fn receive(stream: &TcpStream, head: &mut [u8]) -> io::Result<usize> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.try_read(&mut buffer)?;
    let kept = count.min(head.len());
    head[..kept].copy_from_slice(&buffer[..kept]);
    Ok(count)
}

fn good_status(head: &[u8]) -> Result<(), Failure> {
    let text = std::str::from_utf8(head).unwrap_or_default();
    let status: Option<u16> = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)?.parse().ok());
    match status {
        Some(100..400) => Ok(()),
        Some(status) => Err(other(&format!("HTTP status {status}"))),
        None => Err(other("no HTTP answer")),
    }
}

fn other(text: &str) -> Failure {
    Failure::Other(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_status_is_a_success() {
        assert_eq!(good_status(b"HTTP/1.1 200"), Ok(()));
        assert_eq!(good_status(b"HTTP/1.0 302"), Ok(()));
        assert_eq!(good_status(b"HTTP/1.1 503"), Err(other("HTTP status 503")));
        for broken in [&b"HTTP/1.1 "[..], b"SSH-2.0-Open", b"HTTP/1.1 \xff00", b""] {
            assert_eq!(good_status(broken), Err(other("no HTTP answer")));
        }
    }

    #[tokio::test]
    async fn latencies_count_from_when_a_connection_was_due() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let connection = Connection { target, timeout: Duration::from_secs(5), exchange: Exchange::None };
        let due = |ago: u64| Instant::now() - Duration::from_millis(ago);
        let outcome = connection.run(None, due(500)).await.unwrap();
        assert!(outcome.begun >= Duration::from_millis(500), "{outcome:?}");
        assert!(outcome.connected.is_some_and(|connected| connected >= outcome.begun), "{outcome:?}");
        // Too late to say anything about the server.
        assert_eq!(connection.run(None, due(1500)).await, None);
        let silent =
            Connection { timeout: Duration::from_millis(100), exchange: Exchange::http("/", target), ..connection };
        let outcome = silent.run(None, due(0)).await.unwrap();
        assert_eq!((outcome.answered, outcome.failure), (None, Some(Failure::TimedOut)));
        assert!(outcome.connected.is_some());
    }
}
