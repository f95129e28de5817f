//! A backend of the benchmark: `benchserver NUMBER PORT`. A message has 100 bytes; an answer too, and its first byte is
//! NUMBER. The connection is closed after the answer to a message that begins with `c`. One thread, and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use balancer_bench::path::load::{CLOSE, MESSAGE};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX - 1);

struct Connection {
    stream: TcpStream,
    received: usize,
    close: bool,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let number: u8 = args.next().context("benchserver NUMBER PORT")?.parse()?;
    let port: u16 = args.next().context("benchserver NUMBER PORT")?.parse()?;
    let mut poll = Poll::new()?;
    let mut listener = listen(port)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut events = Events::with_capacity(1024);
    let answer = [number; MESSAGE];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let at = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
                    connections[at] = Some(Connection { stream, received: 0, close: false });
                }
                continue;
            }
            let Token(at) = event.token();
            let Some(connection) = &mut connections[at] else { continue };
            if !serve(connection, &answer) {
                connections[at] = None;
                free.push(at);
            }
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Reads and answers all there is; whether the connection stays.
fn serve(connection: &mut Connection, answer: &[u8]) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match connection.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                if connection.received == 0 {
                    connection.close = buffer[0] == CLOSE;
                }
                connection.received += count;
                while connection.received >= MESSAGE {
                    connection.received -= MESSAGE;
                    if connection.stream.write_all(answer).is_err() || connection.close {
                        return false;
                    }
                }
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
