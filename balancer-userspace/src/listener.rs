//! A listener with bounds: how many connections at a time, how long one may send or take nothing, and how many descriptors
//! stay for probes, sockets and maps. Where there are too many connections, the one that is idle for longest makes room.

use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use self::connection::{Busy, Connection, Watched};
use crate::descriptors;

mod connection;

/// Connections of one listener at a time.
const MOST: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection lasts on which no byte moves while nothing is being answered, or nobody takes the answer.
const IDLE: Duration = Duration::from_secs(30);

/// Answers requests until `stopped` is true. `peer` says who is at the other end, which handlers get as [`ConnectInfo`].
/// The part `kept` of all descriptors is left to others: connections that would take them are closed.
pub async fn serve<L, P>(
    mut listener: L,
    app: Router,
    peer: impl Fn(&L::Io) -> P,
    kept: u64,
    mut stopped: watch::Receiver<bool>,
) where
    L: Listener,
    L::Io: AsRawFd,
    P: Clone + Send + Sync + 'static,
{
    let crowd = Crowd::default();
    let mut answering = JoinSet::new();
    let stop = stopped.clone();
    let mut stop_accepting = pin!(async move { drop(stopped.wait_for(|stop| *stop).await) });
    loop {
        let io = tokio::select! {
            (io, _) = listener.accept() => io,
            Some(_) = answering.join_next() => continue,
            () = &mut stop_accepting => break,
        };
        // The kernel gives the lowest number that is free, so this one tells how many are in use.
        if io.as_raw_fd() as u64 >= descriptors::limit().saturating_sub(descriptors::limit() / kept) {
            continue;
        }
        let Some(connection) = crowd.admit(Instant::now()) else { continue };
        let peer = ConnectInfo(peer(&io));
        answering.spawn(answer(io, connection, app.clone(), peer, crowd.clone(), stop.clone()));
    }
    drop(listener);
    while answering.join_next().await.is_some() {}
}

async fn answer<I, P>(
    io: I,
    connection: Arc<Connection>,
    app: Router,
    peer: ConnectInfo<P>,
    crowd: Crowd,
    mut stopped: watch::Receiver<bool>,
) where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    P: Clone + Send + Sync + 'static,
{
    let of_requests = connection.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (busy, mut app) = (Busy::new(&of_requests), app.clone());
        async move {
            let response = app.call(request).await;
            response.map(|response| response.map(|body| busy.until_sent(body)))
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(Watched::new(io, connection.clone())), service);
    let mut http = pin!(http);
    let mut stopping = pin!(async move { drop(stopped.wait_for(|stop| *stop).await) });
    let mut ending = false;
    loop {
        tokio::select! {
            // Peers that break off are not worth a word.
            _ = &mut http => break,
            () = &mut stopping, if !ending => {
                ending = true;
                http.as_mut().graceful_shutdown();
            }
            () = connection.given_up() => break,
            () = sleep_until(connection.looked_at_again(IDLE)) => {
                if connection.is_stale(IDLE, Instant::now()) {
                    break;
                }
            }
        }
    }
    crowd.leave(&connection);
}

/// The connections of a listener.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<Vec<Arc<Connection>>>>);

impl Crowd {
    /// A place for one more; the connection that is idle for longest makes room. None where all are being answered.
    fn admit(&self, now: Instant) -> Option<Arc<Connection>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            let idle = all.iter().enumerate().filter(|(_, connection)| !connection.is_busy());
            let (at, _) = idle.min_by_key(|(_, connection)| connection.moved())?;
            all.remove(at).give_up();
        }
        let new = Arc::new(Connection::new(now));
        all.push(new.clone());
        Some(new)
    }

    fn leave(&self, gone: &Arc<Connection>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|connection| !Arc::ptr_eq(connection, gone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_is_idle_for_longest_makes_room_and_one_that_is_answered_never_does() {
        let (crowd, start) = (Crowd::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let admitted: Vec<_> = (0..MOST as u64).map(|i| crowd.admit(at(10 * i)).expect("there is room")).collect();
        let busy = Busy::new(&admitted[0]);
        admitted[1].note_moved(at(10_000));
        assert!(crowd.admit(at(10_000)).is_some());
        let gone: Vec<usize> = (0..MOST).filter(|i| admitted[*i].was_given_up()).collect();
        assert_eq!(gone, [2]);
        let all: Vec<_> = crowd.0.lock().unwrap().iter().map(Busy::new).collect();
        assert!(crowd.admit(at(10_000)).is_none(), "all are being answered");
        drop((busy, all));
        assert!(crowd.admit(at(10_000)).is_some());
    }

    #[test]
    fn a_connection_is_stale_where_nothing_moves_but_not_while_it_is_being_answered() {
        let start = Instant::now();
        let connection = Arc::new(Connection::new(start));
        assert!(!connection.is_stale(IDLE, start));
        assert!(connection.is_stale(IDLE, start + IDLE));
        let busy = Busy::new(&connection);
        assert!(!connection.is_stale(IDLE, start + IDLE));
        connection.note_blocked(true);
        assert!(connection.is_stale(IDLE, start + IDLE), "nobody takes the answer");
        connection.note_blocked(false);
        drop(busy);
        connection.note_moved(start + IDLE);
        assert!(!connection.is_stale(IDLE, start + IDLE));
    }
}
