//! Asking the controller.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Until packets begin to come.
const PATIENCE_FOR_HEADS: Duration = Duration::from_secs(10);

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
    #[error("permission denied on {}: {advice}", socket.display())]
    Forbidden { socket: PathBuf, advice: String },
    /// The controller's answer is no.
    #[error("{}", .0.error)]
    Refused(Box<Refused>),
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
    /// At most so long, whatever is asked.
    most: Duration,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), most: Duration::MAX }
    }

    pub async fn ask<R: Request>(&self, request: &R) -> Result<R::Answer, AskError>
    where
        R::Answer: DeserializeOwned,
    {
        let patience = R::PATIENCE.min(self.most);
        match timeout(patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(AskError::Silent { socket: self.socket.clone(), patience }),
        }
    }

    /// Writes a pcapng file as it comes; answers its length in bytes.
    pub async fn capture(&self, request: &Capture, out: &mut impl Write) -> Result<u64, AskError> {
        let protocol = |error: String| AskError::Protocol(error);
        let patience = PATIENCE_FOR_HEADS.min(self.most);
        let silent = |_| AskError::Silent { socket: self.socket.clone(), patience };
        let (response, driver) = timeout(patience, self.send(request)).await.map_err(silent)??;
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
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                AskError::Forbidden { socket: self.socket.clone(), advice: advice(group_of(&self.socket)) }
            }
            _ => unreachable(error.to_string()),
        })?;
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
            Ok(refused) => Err(AskError::Refused(Box::new(refused))),
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

/// The name of the group that may talk to the socket; `None` where it can't be seen.
fn group_of(socket: &Path) -> Option<String> {
    let gid = std::fs::metadata(socket).ok()?.gid();
    let name = nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|group| group.name);
    Some(name.unwrap_or_else(|| gid.to_string()))
}

/// How to get in.
pub(crate) fn advice(group: Option<String>) -> String {
    match group.as_deref() {
        None => "its directory can't be entered; run this as root".to_owned(),
        Some("root" | "0") => "only root may use it; run this as root (`sudo`)".to_owned(),
        Some(group) => format!(
            "root and the group {group} may use it.\nJoin the group (`sudo usermod -aG {group} $USER`, then log in \
             again), or run this as root."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::requests::GetStatus;

    #[tokio::test]
    async fn a_controller_that_listens_and_does_not_answer_is_given_up_on() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let client = Client { most: Duration::from_millis(20), ..Client::new(&socket) };
        let error = client.ask(&GetStatus::default()).await.unwrap_err();
        assert!(matches!(error, AskError::Silent { .. }), "{error}");
        assert!(error.to_string().contains("does not answer within"), "{error}");
    }

    #[test]
    fn who_may_not_use_the_socket_is_told_how_to_get_in() {
        let error = |group: Option<&str>| {
            let advice = advice(group.map(str::to_owned));
            AskError::Forbidden { socket: "/run/balancer/control.sock".into(), advice }.to_string()
        };
        assert_eq!(
            error(Some("balancer")),
            "permission denied on /run/balancer/control.sock: root and the group balancer may use it.\n\
             Join the group (`sudo usermod -aG balancer $USER`, then log in again), or run this as root."
        );
        assert!(error(Some("root")).ends_with("only root may use it; run this as root (`sudo`)"));
        assert!(error(None).ends_with("its directory can't be entered; run this as root"));
    }
}
