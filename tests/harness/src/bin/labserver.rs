//! A backend's server: `labserver NAME PORT`. HTTP on PORT (`/` says the name, `/bytes/N` sends N bytes, `POST /sink`
//! answers with the body's length and sum, `/healthz` is 200 until `POST /fail`), TCP and UDP echo on PORT + 1.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

struct State {
    name: String,
    failing: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("labserver NAME PORT")?;
    let port: u16 = args.next().context("labserver NAME PORT")?.parse()?;
    let state = Arc::new(State { name, failing: AtomicBool::new(false) });
    tokio::spawn(echo_tcp(listen(port + 1)?));
    tokio::spawn(echo_udp(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port + 1)).await?, state.clone()));
    let listener = listen(port)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, state.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into())?)
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let (status, body) = match (request.method(), path.as_str()) {
        (&Method::GET, "/") => (StatusCode::OK, Bytes::from(state.name.clone())),
        (&Method::GET, "/healthz") if state.failing.load(Ordering::Relaxed) => {
            (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"failing"))
        }
        (&Method::GET, "/healthz") => (StatusCode::OK, Bytes::from_static(b"ok")),
        (&Method::POST, "/fail" | "/recover") => {
            state.failing.store(path == "/fail", Ordering::Relaxed);
            (StatusCode::OK, Bytes::new())
        }
        (&Method::POST, "/sink") => {
            let bytes = request.into_body().collect().await?.to_bytes();
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            (StatusCode::OK, Bytes::from(format!("{} {sum}", bytes.len())))
        }
        _ => match path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok()) {
            Some(count) => (StatusCode::OK, (0..count).map(|i| i as u8).collect::<Vec<u8>>().into()),
            None => (StatusCode::NOT_FOUND, Bytes::new()),
        },
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

async fn echo_tcp(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Answers from the address that was asked: the socket is bound to any, so the kernel is told by control message.
async fn echo_udp(socket: UdpSocket, state: Arc<State>) {
    use std::os::fd::AsRawFd;
    let fd = socket.as_raw_fd();
    for (level, option) in [(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO), (libc::IPPROTO_IP, libc::IP_PKTINFO)] {
        let on: libc::c_int = 1;
        // SAFETY: a plain socket option of this size.
        unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), 4) };
    }
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        let _ = socket.try_io(tokio::io::Interest::READABLE, || reply(fd, &state.name));
    }
}

/// Receives one datagram and sends the name and the datagram back, with the control message it came with, which makes
/// the address it was sent to the source.
fn reply(fd: i32, name: &str) -> std::io::Result<()> {
    let mut payload = [0u8; 65_536];
    let mut control = [0u64; 32];
    // SAFETY: all zero is a valid `sockaddr_storage`.
    let mut from: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: all zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in `message` is to a live buffer of the length given.
    let count = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(count) = usize::try_from(count) else { return Err(std::io::Error::last_os_error()) };
    let mut answer = [name.as_bytes(), b" "].concat();
    answer.extend(&payload[..count]);
    part = libc::iovec { iov_base: answer.as_mut_ptr().cast(), iov_len: answer.len() };
    message.msg_iov = &raw mut part;
    // The kernel wants no interface chosen for it; only the address is kept.
    forget_interface(&mut control);
    // SAFETY: as above.
    unsafe { libc::sendmsg(fd, &raw const message, 0) };
    Ok(())
}

/// Puts 0 into the interface index of an `in6_pktinfo`, the first control message of a dual-stack socket.
fn forget_interface(control: &mut [u64; 32]) {
    let header = size_of::<libc::cmsghdr>();
    let start = control.as_mut_ptr().cast::<u8>();
    // SAFETY: the buffer is longer than a header and an `in6_pktinfo`, whose index follows 16 bytes of address.
    unsafe { start.add(header + 16).cast::<u32>().write_unaligned(0) };
}
