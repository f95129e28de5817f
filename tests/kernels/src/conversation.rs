//! A connection that stays open: one question after the other, each answered with the backend's name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use harness::netns::Namespace;

const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Conversation {
    stream: TcpStream,
    pub(super) backend: String,
}

impl Conversation {
    pub(super) fn open(client: &Namespace, address: SocketAddr) -> Result<Self> {
        // A socket stays in the namespace it was made in.
        let stream = client.enter(|| TcpStream::connect_timeout(&address, PATIENCE))?.context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut conversation = Self { stream, backend: String::new() };
        conversation.backend = conversation.ask()?;
        Ok(conversation)
    }

    /// The same backend still answers.
    pub(super) fn goes_on(&mut self) -> Result<()> {
        let backend = self.ask()?;
        ensure!(backend == self.backend, "{backend} answers on a connection that was {}'s", self.backend);
        Ok(())
    }

    fn ask(&mut self) -> Result<String> {
        self.stream.write_all(b"GET / HTTP/1.1\r\nhost: lab\r\n\r\n").context("sending")?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let count = self.stream.read(&mut buffer).context("receiving")?;
            if count == 0 {
                bail!("the connection was closed");
            }
            answer.extend(&buffer[..count]);
            if let Some(body) = body(&answer) {
                return Ok(body);
            }
        }
    }
}

/// The body, once it is all there.
fn body(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() == length.trim().parse::<usize>().ok()?).then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_awaited_whole() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nb1";
        assert_eq!(body(answer).as_deref(), Some("b1"));
        assert_eq!(body(&answer[..answer.len() - 1]), None);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
