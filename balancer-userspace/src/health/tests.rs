//! Checks against real servers on loopback, well and badly behaved.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::probe::probe;
use super::{Health, Monitor, Report, Target};
use crate::model::{CheckKind, HealthCheck, Jitter};

fn check(kind: CheckKind) -> HealthCheck {
    HealthCheck {
        kind,
        port: None,
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(150),
        rise: 2,
        fall: 2,
        jitter: Jitter::DEFAULT,
    }
}

fn http() -> HealthCheck {
    check(CheckKind::Http { path: "/healthz".to_owned(), host: None })
}

/// A server that reads a request and answers with these bytes, over and over where `endless`.
async fn server(answer: &'static [u8], endless: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                while stream.write_all(answer).await.is_ok() && endless {}
            });
        }
    });
    address
}

/// What a probe says: `ok`, or its error.
async fn said(address: SocketAddr, check: &HealthCheck) -> String {
    probe(address, check).await.outcome.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
}

#[tokio::test]
async fn answers_are_told_apart() {
    for (answer, endless, wanted) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"[..], false, "ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", false, "ok"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", false, "status 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", false, "status 302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", false, "not HTTP/1"),
        (b"", false, "closed"),
        (b"x", true, "not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\n\r\n-", true, "ok"),
        (b"HTTP/1.1 200 OK\r\nx: ", false, "closed"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false, "ok"),
    ] {
        let address = server(answer, endless).await;
        let said = said(address, &http()).await;
        assert!(said.contains(wanted), "{}: {said:?}", String::from_utf8_lossy(answer));
    }
}

/// A server that answers whoever connects, without reading, and closes.
async fn hasty_server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_read_counts() {
    let well = hasty_server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let ill = hasty_server(b"HTTP/1.1 503 Oops\r\ncontent-length: 0\r\n\r\n").await;
    for _ in 0..300 {
        assert_eq!(said(well, &http()).await, "ok");
        assert!(said(ill, &http()).await.contains("status 503"));
    }
}

/// How the server's side of a probe ends: the bytes that came, or the error.
async fn ends(check: &HealthCheck, answer: &'static [u8]) -> std::io::Result<usize> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(answer).await?;
        // Long enough for the probe to decide: what it leaves unread would make its end a reset.
        sleep(Duration::from_millis(20)).await;
        stream.shutdown().await?;
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await
    };
    let client = async { probe(address, check).await.part().await };
    tokio::join!(server, client).0
}

#[tokio::test]
async fn a_probe_ends_with_fin_and_not_with_reset() {
    let body: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\nsome of the body";
    assert!(ends(&http(), body).await.unwrap() > 0);
    assert!(ends(&http(), b"HTTP/1.1 503 No\r\n\r\nlong story").await.unwrap() > 0);
    assert_eq!(ends(&check(CheckKind::Tcp), b"220 mail ready\r\n").await.unwrap(), 0);
}

#[tokio::test]
async fn probes_of_an_address_that_this_host_does_not_reach_say_nothing() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (sender, mut reports) = mpsc::channel(4);
    let mut monitor = Monitor::new(sender);
    monitor.set_unseen([(refusing.ip(), "eth0 is down".to_owned())].into());
    let (target, _) = target("a", refusing, check(CheckKind::Tcp));
    monitor.watch(vec![(target, Health::Up)]);
    let mut blind = 0;
    collect(&mut reports, |report| {
        assert_eq!((report.health, report.failures, report.blind.as_deref()), (Health::Up, 0, Some("eth0 is down")));
        blind += 1;
        blind == 4
    })
    .await;
    monitor.set_unseen(HashMap::new());
    collect(&mut reports, |report| report.health == Health::Down && report.blind.is_none()).await;
}

#[tokio::test]
async fn silence_and_refusal_are_failures_that_name_the_place() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    assert_eq!(said(address, &check(CheckKind::Tcp)).await, "ok", "the kernel accepts for it");
    let start = Instant::now();
    let waited = said(address, &http()).await;
    assert!(waited.contains(&address.to_string()) && waited.contains("no answer within 150ms"), "{waited}");
    assert!(start.elapsed() < Duration::from_millis(600));
    drop(silent);
    assert!(said(address, &check(CheckKind::Tcp)).await.contains("refused"));
}

/// Reports until `enough` of them were taken in.
async fn collect(reports: &mut mpsc::Receiver<Report>, mut enough: impl FnMut(&Report) -> bool) {
    let all = async {
        while let Some(report) = reports.recv().await {
            if enough(&report) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(10), all).await.expect("reports come");
}

fn target(name: &str, address: SocketAddr, check: HealthCheck) -> (Target, Health) {
    (Target { id: format!("s/{name}").parse().unwrap(), address, check }, Health::Unknown)
}

#[tokio::test]
async fn targets_that_hang_do_not_delay_the_others() {
    let good = server(b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = silent.local_addr().unwrap();
    let slow = HealthCheck { timeout: Duration::from_secs(5), interval: Duration::from_secs(5), ..http() };
    let targets = (0..1000).map(|i| target(&format!("b{i}"), if i % 2 == 0 { good } else { hanging }, slow.clone()));
    let (sender, mut reports) = mpsc::channel(64);
    let mut monitor = Monitor::new(sender);
    let start = Instant::now();
    monitor.watch(targets.collect());
    let mut up = 0;
    collect(&mut reports, |report| {
        up += usize::from(report.health == Health::Up);
        up == 500
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_replaced_set_keeps_what_stays_and_stops_what_goes() {
    let good = server(b"HTTP/1.1 200 OK\r\n\r\n", false).await;
    let other = server(b"HTTP/1.1 500 No\r\n\r\n", false).await;
    let (sender, mut reports) = mpsc::channel(64);
    let mut monitor = Monitor::new(sender);
    monitor.watch(vec![target("stays", good, http()), target("goes", good, http())]);
    let mut seen: HashMap<String, u32> = HashMap::new();
    collect(&mut reports, |report| {
        *seen.entry(report.id.to_string()).or_default() += 1;
        seen.len() == 2
    })
    .await;
    monitor.watch(vec![target("stays", good, http()), target("comes", other, http())]);
    while reports.try_recv().is_ok() {}
    sleep(Duration::from_millis(500)).await;
    let (mut stays, mut comes) = (0, 0);
    collect(&mut reports, |report| {
        assert_ne!(report.id.to_string(), "s/goes");
        stays += u32::from(report.id.to_string() == "s/stays" && !report.changed && report.health == Health::Up);
        comes += u32::from(report.id.to_string() == "s/comes" && report.health == Health::Down);
        stays > 1 && comes > 0
    })
    .await;
}

#[tokio::test]
async fn an_unchecked_target_is_up_at_once() {
    let (sender, mut reports) = mpsc::channel(4);
    let mut monitor = Monitor::new(sender);
    monitor.watch(vec![target("a", ([127, 0, 0, 1], 1).into(), check(CheckKind::None))]);
    collect(&mut reports, |report| report.health == Health::Up).await;
}
