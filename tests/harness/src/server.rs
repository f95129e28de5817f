//! Servers in backend namespaces: processes of their own, `labserver`.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::netns::Namespace;

/// Where this build's programs are.
pub fn binary(name: &str) -> Result<PathBuf> {
    let mut directory = std::env::current_exe().context("finding this program")?;
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let path = directory.join(name);
    anyhow::ensure!(path.exists(), "{} is not built; `cargo xtask test` builds it", path.display());
    Ok(path)
}

/// A server with a name; ended with the value.
pub struct Server {
    process: Child,
}

impl Server {
    /// HTTP on `port`; TCP and UDP echo on `port + 1`.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        Self::spawn(namespace, "labserver", name, port)
    }

    /// The benchmark's server, which answers with its number.
    pub fn start_bench(namespace: &Namespace, number: usize, port: u16) -> Result<Self> {
        Self::spawn(namespace, "benchserver", &number.to_string(), port)
    }

    fn spawn(namespace: &Namespace, program: &str, name: &str, port: u16) -> Result<Self> {
        let mut command = namespace.command(&binary(program)?.display().to_string());
        command.args([name, &port.to_string()]).stdin(Stdio::null());
        let server = Self { process: command.spawn().with_context(|| format!("starting {program}"))? };
        let deadline = Instant::now() + Duration::from_secs(5);
        while namespace.enter(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_err())? {
            if Instant::now() > deadline {
                bail!("{program} {name} does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Number of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
