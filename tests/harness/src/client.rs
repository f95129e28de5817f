//! Clients: real connections, each from a source port of its own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::netns::Namespace;

/// Longer than a lost SYN takes to be sent again.
const PATIENCE: Duration = Duration::from_secs(4);

/// Who answered how often, and what failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub answered: BTreeMap<String, u64>,
    pub failed: u64,
}

impl Counts {
    pub fn of(&self, name: &str) -> u64 {
        self.answered.get(name).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.answered {
            *self.answered.entry(name.clone()).or_default() += count;
        }
        self.failed += other.failed;
    }

    pub fn total(&self) -> u64 {
        self.answered.values().sum()
    }
}

/// One request on a connection of its own.
pub async fn http(address: SocketAddr, method: &str, path: &str, body: Vec<u8>) -> Result<Bytes> {
    let connect = async { TcpStream::connect(address).await.context("connecting") };
    http_over(connect, method, path, body).await
}

/// One request from this source port; who answered.
pub fn request_from(namespace: &Namespace, address: SocketAddr, port: u16) -> Result<String> {
    namespace.block_on(|| async move {
        let connect = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(any(address, port))?;
            socket.connect(address).await.context("connecting")
        };
        let bytes = http_over(connect, "GET", "/", Vec::new()).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })?
}

async fn http_over(
    connect: impl Future<Output = Result<TcpStream>>,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes> {
    let exchange = async {
        let stream = connect.await?;
        // Thousands of connections would else leave their ports in TIME_WAIT.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header("host", "lab").body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        driver.abort();
        ensure!(status.is_success(), "status {status}");
        Ok(bytes)
    };
    match timeout(PATIENCE + Duration::from_secs(20), exchange).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("no answer"),
    }
}

/// `count` HTTP requests, each on a new connection; `at_once` of them at a time.
pub fn requests(namespace: &Namespace, address: SocketAddr, count: usize, at_once: usize) -> Result<Counts> {
    namespace.block_on(|| async move { many(count, at_once, move |_| http_name(address)).await })
}

async fn http_name(address: SocketAddr) -> Result<String> {
    let bytes = timeout(PATIENCE, http(address, "GET", "/", Vec::new())).await.context("no answer")??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `count` UDP exchanges, each from a port of its own from `first` up: chance would give some ports twice.
pub fn datagrams(
    namespace: &Namespace,
    address: SocketAddr,
    first: u16,
    count: usize,
    at_once: usize,
) -> Result<Counts> {
    namespace.block_on(|| async move { many(count, at_once, move |i| udp_name(address, first + i as u16)).await })
}

/// What each of these ports gets from a UDP echo server for `payload`: the server's name, or nothing.
pub fn who_answers(
    namespace: &Namespace,
    address: SocketAddr,
    ports: impl Iterator<Item = u16> + Send,
    payload: &[u8],
) -> Result<Vec<Option<String>>> {
    namespace.block_on(|| async move {
        let mut names = Vec::new();
        let mut buffer = [0; 4096];
        for port in ports {
            let socket = udp_to(address, port).await?;
            socket.send(payload).await?;
            let answer = timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await;
            let name = |count| String::from_utf8_lossy(&buffer[..count]).split(' ').next().unwrap_or("").to_owned();
            names.push(answer.ok().and_then(Result::ok).map(name));
        }
        Ok(names)
    })?
}

async fn udp_name(address: SocketAddr, port: u16) -> Result<String> {
    let socket = udp_to(address, port).await?;
    let mut buffer = [0; 256];
    for _ in 0..3 {
        socket.send(b"who").await?;
        if let Ok(Ok(count)) = timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            return Ok(text.split(' ').next().unwrap_or("").to_owned());
        }
    }
    bail!("no answer")
}

/// Any address of this host in the family of `address`.
fn any(address: SocketAddr, port: u16) -> SocketAddr {
    if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, port).into() } else { (Ipv6Addr::UNSPECIFIED, port).into() }
}

async fn udp_to(address: SocketAddr, port: u16) -> Result<UdpSocket> {
    // A process that another test starts has the descriptors of this one until it executes its program, so that a port can
    // be taken for a moment after its socket was closed.
    let mut tries = 0;
    let socket = loop {
        match UdpSocket::bind(any(address, port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries < 100 => tries += 1,
            outcome => break outcome?,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // Connected: an answer from any other address than the service's is not received.
    socket.connect(address).await?;
    Ok(socket)
}

async fn many<F: Future<Output = Result<String>> + Send + 'static>(
    count: usize,
    at_once: usize,
    one: impl Fn(usize) -> F,
) -> Counts {
    let permits = Arc::new(Semaphore::new(at_once));
    let mut tasks = Vec::with_capacity(count);
    for i in 0..count {
        let permit = permits.clone().acquire_owned().await;
        let work = one(i);
        tasks.push(tokio::spawn(async move {
            let outcome = work.await;
            drop(permit);
            outcome
        }));
    }
    let mut counts = Counts::default();
    for task in tasks {
        match task.await {
            Ok(Ok(name)) => *counts.answered.entry(name).or_default() += 1,
            _ => counts.failed += 1,
        }
    }
    counts
}

/// Sends and receives `bytes` bytes on one TCP connection to an echo server, and compares them.
pub fn echo_tcp(namespace: &Namespace, address: SocketAddr, bytes: usize) -> Result<()> {
    echo_tcp_within(namespace, address, bytes, Duration::from_secs(60))
}

/// The same, with less patience or more.
pub fn echo_tcp_within(namespace: &Namespace, address: SocketAddr, bytes: usize, patience: Duration) -> Result<()> {
    namespace.block_on(|| async move {
        let exchange = async {
            let stream = TcpStream::connect(address).await.context("connecting")?;
            let (mut reader, mut writer) = stream.into_split();
            let sent: Vec<u8> = (0..bytes).map(|i| (i / 251 + i) as u8).collect();
            let expected = sent.clone();
            let sender = tokio::spawn(async move { writer.write_all(&sent).await.map(|()| writer) });
            let mut received = vec![0; bytes];
            reader.read_exact(&mut received).await.context("receiving")?;
            let _writer = sender.await??;
            ensure!(received == expected, "what came back is not what was sent");
            Ok(())
        };
        timeout(patience, exchange).await.context("no answer")?
    })?
}

/// Exchanges `count` datagrams of `size` bytes on one flow; at most a hundredth may be lost.
pub fn echo_udp(namespace: &Namespace, address: SocketAddr, count: usize, size: usize) -> Result<()> {
    namespace.block_on(|| async move {
        let socket = udp_to(address, 0).await?;
        let payload: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let mut buffer = vec![0; size + 256];
        let mut lost = 0;
        for _ in 0..count {
            socket.send(&payload).await?;
            match timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await {
                Ok(received) => ensure!(buffer[..received?].ends_with(&payload), "another payload came back"),
                Err(_) => lost += 1,
            }
        }
        ensure!(lost * 100 <= count, "{lost} of {count} datagrams were lost");
        Ok(())
    })?
}
