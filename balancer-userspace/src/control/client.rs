//! Asking the controller.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::api::{
    Apply, CaptureRequest, Changed, Detached, Drain, Drill, Examine, Examined, Explain, Explanation, Generation,
    History, Plan, Refused, Rehearse, Rehearsed, Reloaded, Rollback, SetWeight, StartDrill, Status, Verification,
    Verified,
};
use crate::model::ServiceName;

/// What is only read is answered at once.
const PATIENCE_TO_READ: Duration = Duration::from_secs(10);
/// A change of a large config takes seconds, and so does a comparison with the kernel.
const PATIENCE: Duration = Duration::from_secs(60);
/// Weeks of traffic on thousands of backends, without each of them, take minutes.
const PATIENCE_TO_REHEARSE: Duration = Duration::from_secs(1800);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no controller answers on {}: {cause}\nIs `balancer run` running? `--socket` names another socket.",
        socket.display()
    )]
    Unreachable { socket: PathBuf, cause: String },
    /// Somebody listens, and does not answer.
    #[error(
        "the controller on {} does not answer within {} s: it is stopped, or busy with a large change. Packets are forwarded \
         all the same. `systemctl status balancer` says which, `systemctl restart balancer` starts it again.",
        socket.display(), patience.as_secs()
    )]
    Silent { socket: PathBuf, patience: Duration },
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
    patience_to_read: Duration,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), patience_to_read: PATIENCE_TO_READ }
    }

    pub async fn status(&self, service: Option<&ServiceName>) -> Result<Status, AskError> {
        let query = service.map_or_else(String::new, |name| format!("?service={name}"));
        self.ask(Method::GET, &format!("/v1/status{query}"), &()).await
    }

    pub async fn verify(&self, service: Option<&ServiceName>) -> Result<Verification, AskError> {
        let query = service.map_or_else(String::new, |name| format!("?service={name}"));
        self.ask_within(PATIENCE, Method::GET, &format!("/v1/verify{query}"), &()).await
    }

    pub async fn weight(&self, request: &SetWeight) -> Result<Changed, AskError> {
        self.ask(Method::POST, "/v1/weight", request).await
    }

    pub async fn drain(&self, request: &Drain) -> Result<Changed, AskError> {
        self.ask(Method::POST, "/v1/drain", request).await
    }

    pub async fn undrain(&self, request: &Drain) -> Result<Changed, AskError> {
        self.ask(Method::POST, "/v1/undrain", request).await
    }

    pub async fn start_drill(&self, request: &StartDrill) -> Result<Drill, AskError> {
        self.ask(Method::POST, "/v1/drill", request).await
    }

    pub async fn drill(&self) -> Result<Drill, AskError> {
        self.ask(Method::GET, "/v1/drill", &()).await
    }

    pub async fn explain(&self, asked: &Explain) -> Result<Explanation, AskError> {
        self.ask(Method::POST, "/v1/explain", asked).await
    }

    pub async fn doctor(&self, request: &Examine) -> Result<Examined, AskError> {
        self.ask(Method::POST, "/v1/doctor", request).await
    }

    pub async fn reload(&self) -> Result<Reloaded, AskError> {
        self.ask(Method::POST, "/v1/reload", &()).await
    }

    pub async fn apply(&self, request: &Apply) -> Result<Reloaded, AskError> {
        self.ask(Method::POST, "/v1/apply", request).await
    }

    pub async fn plan(&self, request: &Apply) -> Result<Plan, AskError> {
        self.ask(Method::POST, "/v1/plan", request).await
    }

    pub async fn rehearse(&self, request: &Rehearse) -> Result<Rehearsed, AskError> {
        self.ask_within(PATIENCE_TO_REHEARSE, Method::POST, "/v1/rehearse", request).await
    }

    pub async fn rollback(&self, request: &Rollback) -> Result<Reloaded, AskError> {
        self.ask(Method::POST, "/v1/rollback", request).await
    }

    pub async fn confirm(&self) -> Result<Reloaded, AskError> {
        self.ask(Method::POST, "/v1/confirm", &()).await
    }

    pub async fn history(&self) -> Result<History, AskError> {
        self.ask(Method::GET, "/v1/history", &()).await
    }

    pub async fn verify_history(&self) -> Result<Verified, AskError> {
        self.ask(Method::POST, "/v1/history/verify", &()).await
    }

    pub async fn generation(&self, number: u64) -> Result<Generation, AskError> {
        self.ask(Method::GET, &format!("/v1/generation?number={number}"), &()).await
    }

    pub async fn detach(&self) -> Result<Detached, AskError> {
        self.ask(Method::POST, "/v1/detach", &()).await
    }

    /// Writes a pcapng file as it comes; answers its length in bytes.
    pub async fn capture(&self, request: &CaptureRequest, out: &mut impl Write) -> Result<u64, AskError> {
        let protocol = |error: String| AskError::Protocol(error);
        let answer = timeout(self.patience_to_read, self.send(Method::POST, "/v1/capture", request)).await;
        let silent = |_| AskError::Silent { socket: self.socket.clone(), patience: self.patience_to_read };
        let (response, driver) = answer.map_err(silent)??;
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

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, AskError> {
        let patience = if method == Method::GET { self.patience_to_read } else { PATIENCE };
        self.ask_within(patience, method, path, body).await
    }

    async fn ask_within<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AskError> {
        match timeout(patience, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Silent { socket: self.socket.clone(), patience }),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AskError> {
        let protocol = |error: String| AskError::Protocol(error);
        let (response, driver) = self.send(method, path, body).await?;
        let bytes = response.into_body().collect().await.map_err(|error| protocol(error.to_string()))?.to_bytes();
        driver.abort();
        serde_json::from_slice(&bytes).map_err(|error| protocol(error.to_string()))
    }

    /// The head of a good answer, and the task that reads on.
    async fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Answer, AskError> {
        let unreachable = |cause: String| AskError::Unreachable { socket: self.socket.clone(), cause };
        let protocol = |error: String| AskError::Protocol(error);
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let driver = tokio::spawn(connection);
        let body = serde_json::to_vec(body).map_err(|error| protocol(error.to_string()))?;
        let request = Request::builder()
            .method(method)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_controller_that_listens_and_does_not_answer_is_given_up_on() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let client = Client { patience_to_read: Duration::from_millis(20), ..Client::new(&socket) };
        let error = client.status(None).await.unwrap_err();
        assert!(matches!(error, AskError::Silent { .. }), "{error}");
        assert!(error.to_string().contains("does not answer within"), "{error}");
    }
}
