//! How a probe's connection ends: by FIN and not by RST, which servers log as an error of their client.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What of an answer's body is read, so that the kernel does not answer unread bytes with RST. A longer body is cut off.
const MOST: usize = 64 * 1024;
/// How long a server has to close its side.
const PATIENCE: Duration = Duration::from_millis(200);

/// Reads what is left of the answer until the server closes, then closes. A server that closes first, as HTTP servers do
/// when asked to, keeps the TIME_WAIT. After a tcp check it is this host's: 60 s of about 250 bytes for each probe, of which
/// the kernel keeps `net.ipv4.tcp_max_tw_buckets` at most, and no port is lost, as each backend has ports of its own.
pub(super) async fn part(mut stream: TcpStream, asked: bool) {
    let goodbye = async {
        if !asked {
            let _ = stream.shutdown().await;
        }
        let mut buffer = [0; 4096];
        let mut left = MOST;
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    // Who does not close in time is left with our FIN.
    let _ = timeout(PATIENCE, goodbye).await;
}
