//! What is known of one connection, and the stream that notes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) struct Connection {
    start: Instant,
    /// When a byte last moved, in milliseconds since the start.
    moved_ms: AtomicU64,
    /// Requests that are being answered, until the body is handed over.
    busy: AtomicUsize,
    /// The other end takes nothing at present.
    blocked: AtomicBool,
    given_up: AtomicBool,
    give_up: Notify,
}

impl Connection {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            moved_ms: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            give_up: Notify::new(),
        }
    }

    pub(super) fn note_moved(&self, now: Instant) {
        self.moved_ms.store(now.duration_since(self.start).as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn note_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    pub(super) fn moved(&self) -> Instant {
        self.start + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_stale(&self, idle: Duration, now: Instant) -> bool {
        (!self.is_busy() || self.blocked.load(Ordering::Relaxed)) && now >= self.moved() + idle
    }

    /// When it may be stale; while it is being answered, that is asked again later.
    pub(super) fn looked_at_again(&self, idle: Duration) -> Instant {
        (self.moved() + idle).max(Instant::now() + Duration::from_secs(1))
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.give_up.notify_one();
    }

    pub(super) async fn given_up(&self) {
        self.give_up.notified().await;
    }

    #[cfg(test)]
    pub(super) fn was_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Held while a request is being answered.
pub(super) struct Busy(Arc<Connection>);

impl Busy {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        connection.busy.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }

    /// The body, which holds this for as long as it lasts.
    pub(super) fn until_sent(self, body: Body) -> Sent {
        Sent { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub(super) struct Sent {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes what moves on it.
pub(super) struct Watched<I> {
    io: I,
    connection: Arc<Connection>,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, connection: Arc<Connection>) -> Self {
        Self { io, connection }
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.connection.note_blocked(outcome.is_pending());
        if matches!(outcome, Poll::Ready(Ok(bytes)) if bytes > 0) {
            self.connection.note_moved(Instant::now());
        }
        outcome
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.note_moved(Instant::now());
        }
        outcome
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
