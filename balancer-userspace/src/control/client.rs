//! Asking the controller.

use std::io::Write;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::Refused;
use crate::controller::requests::{Capture, Method, PREFIX, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no controller answers on {}: {cause}\nIs `balancer run` running? `--socket` names another socket.",
        socket.display()
    )]
    Unreachable { socket: PathBuf, cause: String },
    /// The controller's answer is no.
    #[error("{0}")]
    Refused(String),
    #[error("what was captured can't be written: {0}")]
    Output(std::io::Error),
    #[error("the controller's answer can't be read: {0}")]
    Protocol(String),
}

type Answer = (Response<Incoming>, JoinHandle<hyper::Result<()>>);

/// One controller.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub async fn ask<R: Request>(&self, request: &R) -> Result<R::Answer, AskError>
    where
        R::Answer: DeserializeOwned,
    {
        let unreachable = |cause: String| AskError::Unreachable { socket: self.socket.clone(), cause };
        match timeout(R::PATIENCE, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no answer within {} s", R::PATIENCE.as_secs()))),
        }
    }

    /// Writes a pcapng file as it comes; answers its length in bytes.
    pub async fn capture(&self, request: &Capture, out: &mut impl Write) -> Result<u64, AskError> {
        let protocol = |error: String| AskError::Protocol(error);
        let (response, driver) = self.send(request).await?;
        let mut body = response.into_body();
        let mut written = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| protocol(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                out.write_all(&data).and_then(|()| out.flush()).map_err(AskError::Output)?;
                written += data.len() as u64;
            }
        }
        driver.abort();
        Ok(written)
    }

    async fn exchange<R: Request>(&self, request: &R) -> Result<R::Answer, AskError>
    where
        R::Answer: DeserializeOwned,
    {
        let protocol = |error: String| AskError::Protocol(error);
        let (response, driver) = self.send(request).await?;
        let bytes = response.into_body().collect().await.map_err(|error| protocol(error.to_string()))?.to_bytes();
        driver.abort();
        serde_json::from_slice(&bytes).map_err(|error| protocol(error.to_string()))
    }

    /// The head of a good answer, and the task that reads on.
    async fn send<R: Request>(&self, request: &R) -> Result<Answer, AskError> {
        let unreachable = |cause: String| AskError::Unreachable { socket: self.socket.clone(), cause };
        let protocol = |error: String| AskError::Protocol(error);
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let driver = tokio::spawn(connection);
        let (path, body) = written(request).map_err(protocol)?;
        let request = hyper::Request::builder()
            .method(R::METHOD.as_str())
            .uri(path)
            .header(hyper::header::HOST, "balancer")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| protocol(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok((response, driver));
        }
        let bytes = response.into_body().collect().await.map_err(|error| protocol(error.to_string()))?.to_bytes();
        driver.abort();
        match serde_json::from_slice::<Refused>(&bytes) {
            Ok(refused) => Err(AskError::Refused(refused.error)),
            Err(_) => Err(protocol(format!("status {status}"))),
        }
    }
}

/// Path and body: the fields of a GET are in its query.
fn written<R: Request>(request: &R) -> Result<(String, Vec<u8>), String> {
    let path = format!("{PREFIX}{}", R::PATH);
    if R::METHOD == Method::Post {
        let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        return Ok((path, body));
    }
    let query = serde_urlencoded::to_string(request).map_err(|error| error.to_string())?;
    Ok((if query.is_empty() { path } else { format!("{path}?{query}") }, Vec::new()))
}
