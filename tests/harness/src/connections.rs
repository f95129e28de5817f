//! Many TCP connections that stay open and talk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::netns::Namespace;

/// What became of them; shared with whoever waits.
#[derive(Debug, Default)]
pub struct Progress {
    pub open: AtomicU64,
    pub exchanges: AtomicU64,
    pub reset: AtomicU64,
    pub stalled: AtomicU64,
    pub refused: AtomicU64,
    /// Milliseconds of the longest exchange.
    pub slowest_ms: AtomicU64,
    pub stop: AtomicBool,
}

impl Progress {
    /// Connections that did not go on as they should.
    pub fn broken(&self) -> u64 {
        self.reset.load(Ordering::Relaxed) + self.stalled.load(Ordering::Relaxed)
    }
}

/// Opens `count` connections to an echo server, `at_once` at a time, each of which sends and awaits the echo about every
/// `pause`, until `progress.stop`. An exchange that takes longer than `patience` is a stall.
pub fn hold(
    namespace: &Namespace,
    address: SocketAddr,
    count: usize,
    pause: Duration,
    patience: Duration,
    progress: &Arc<Progress>,
) -> Result<()> {
    namespace.block_on(|| async move {
        let permits = Arc::new(Semaphore::new(200));
        let mut tasks = Vec::with_capacity(count);
        for number in 0..count {
            let permit = permits.clone().acquire_owned().await?;
            let progress = progress.clone();
            tasks.push(tokio::spawn(async move {
                let connected = timeout(patience, TcpStream::connect(address)).await;
                drop(permit);
                let Ok(Ok(stream)) = connected else {
                    progress.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                progress.open.fetch_add(1, Ordering::Relaxed);
                talk(stream, number, pause, patience, &progress).await;
                progress.open.fetch_sub(1, Ordering::Relaxed);
            }));
        }
        for task in tasks {
            task.await?;
        }
        Ok(())
    })?
}

async fn talk(mut stream: TcpStream, number: usize, pause: Duration, patience: Duration, progress: &Progress) {
    let _ = stream.set_nodelay(true);
    let mut round = 0u64;
    while !progress.stop.load(Ordering::Relaxed) {
        round += 1;
        let start = Instant::now();
        match timeout(patience, exchange(&mut stream, number as u64, round)).await {
            Ok(Ok(())) => {
                progress.exchanges.fetch_add(1, Ordering::Relaxed);
                let took = start.elapsed().as_millis() as u64;
                progress.slowest_ms.fetch_max(took, Ordering::Relaxed);
            }
            Ok(Err(_)) => {
                progress.reset.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(_) => {
                progress.stalled.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        // Spread over time, each in a rhythm of its own.
        let part = (number as u64).wrapping_mul(2_654_435_761).wrapping_add(round * 40_503) % 1000;
        sleep(pause / 2 + pause * part as u32 / 1000).await;
    }
}

async fn exchange(stream: &mut TcpStream, number: u64, round: u64) -> Result<()> {
    let sent = [number.to_be_bytes(), round.to_be_bytes()].concat();
    stream.write_all(&sent).await.context("sending")?;
    let mut echoed = [0; 16];
    stream.read_exact(&mut echoed).await.context("receiving")?;
    ensure!(echoed[..] == sent[..], "another echo");
    Ok(())
}
