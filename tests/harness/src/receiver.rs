//! A receiver of webhooks: keeps what it is sent, and fails when it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::netns::Namespace;

/// One request.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub body: Value,
    pub at: Instant,
}

pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    failing: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens on a loopback port of the namespace for as long as the process lives.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.enter(|| TcpListener::bind("127.0.0.1:0"))??;
        let address = listener.local_addr()?;
        let (received, failing) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let refused = Arc::new(AtomicU64::new(0));
        let (to, fails, counted) = (received.clone(), failing.clone(), refused.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let failing = fails.load(Ordering::Relaxed);
                if answer(stream, &to, failing).is_ok() && failing {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { address, received, failing, refused })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on every request is answered with an error, or not any more.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Waits until so many requests were answered with an error.
    pub fn wait_until_refused(&self, count: u64, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.refused.load(Ordering::Relaxed) < count {
            ensure!(Instant::now() < deadline, "{} requests within {limit:?}", self.refused.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Requests that were answered well.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().map(|received| received.clone()).unwrap_or_default()
    }

    /// Waits for a request that is as wanted.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Received) -> bool) -> Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            let received = self.received();
            if let Some(found) = received.iter().find(|received| wanted(received)) {
                return Ok(found.clone());
            }
            if Instant::now() > deadline {
                bail!("no {what} within {limit:?}, but {received:#?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn answer(stream: TcpStream, received: &Mutex<Vec<Received>>, failing: bool) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).context("no path")?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let status = if failing { "503 Service Unavailable" } else { "200 OK" };
    // Kept before it is answered: who has the answer finds it here.
    if !failing {
        let received_now = Received { path, body: serde_json::from_slice(&body)?, at: Instant::now() };
        received.lock().map_err(|_| anyhow::anyhow!("a test failed"))?.push(received_now);
    }
    write!(&stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(())
}
