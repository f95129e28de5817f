//! The control socket's server: JSON over HTTP on a Unix socket.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use axum::{Json, Router};
use nix::unistd::Gid;
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::access::{Directory, Host, Level, caller, permit};
use super::api::{Code, Refused};
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::controller::requests::{Body, Method, PREFIX, Reply, Request, Visit, each};
use crate::listener;
use crate::model::ControlPolicy;

/// Of all descriptors, the last twentieth is for probes and maps.
const KEPT: u64 = 20;
/// Owner and group may talk to the controller, nobody else.
const MODE: u32 = 0o660;

/// Binds the socket, in the place of one that a controller left behind when it died, and gives it to a group.
pub fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener> {
    let attempt = || -> Result<UnixListener> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if path.exists() {
            match BlockingStream::connect(path) {
                Ok(_) => bail!("another controller answers there; stop it first"),
                // A socket that nobody listens on any more.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => fs::remove_file(path)?,
                Err(error) => bail!("something else is there ({error}); remove it or choose another path"),
            }
        }
        // Bound under a mask, so that the socket never has a wider mode than in the end.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777 & !MODE));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let listener = listener?;
        if let Some(group) = group {
            give(path, group)?;
        }
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        Ok(listener)
    };
    attempt().with_context(|| format!("listening on `node.control_socket` = {}", path.display()))
}

fn give(path: &Path, group: &str) -> Result<()> {
    let Some(gid) = Host.group(group) else {
        bail!("there is no group {group:?}, which `control.group` names; make it (`groupadd --system {group}`)")
    };
    nix::unistd::chown(path, None, Some(Gid::from_raw(gid))).with_context(|| {
        format!(
            "giving the socket to the group {group}, which `control.group` names; the process must be in it: \
             `SupplementaryGroups={group}` in the unit"
        )
    })
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Answers requests until `stopped` is true.
pub async fn serve(listener: UnixListener, handle: Handle, policy: Policy, stopped: watch::Receiver<bool>) {
    let shared = Shared { handle, policy };
    listener::serve(listener, router(shared), caller, KEPT, stopped).await;
}

/// Says who may use the socket, as the config in force has it.
pub type Policy = Arc<dyn Fn() -> Arc<ControlPolicy> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    handle: Handle,
    policy: Policy,
}

/// Who is at the other end of the socket, as the kernel says (`SO_PEERCRED`, `SO_PEERGROUPS`).
type Peer = ConnectInfo<Option<Caller>>;

/// A response, or why there is none.
type Answered = Result<Response, No>;

/// Every answer but 200.
struct No(StatusCode, Refused);

impl No {
    fn new(status: StatusCode, error: String) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::WrongMethod,
            StatusCode::CONFLICT => Code::Refused,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            StatusCode::SERVICE_UNAVAILABLE => Code::Stopping,
            status if status.is_client_error() => Code::BadRequest,
            _ => Code::Failed,
        };
        Self(status, Refused { error, code, ..Refused::default() })
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The paths of all requests.
fn router(shared: Shared) -> Router {
    let mut paths = Paths::default();
    each(&mut paths);
    let known: Vec<&str> = paths.0.iter().map(|path| path.name).collect();
    let known = known.join(", ");
    let unknown = move || async move {
        No::new(StatusCode::NOT_FOUND, format!("there is no such path; below {PREFIX} there are: {known}"))
    };
    let routes = paths.0.into_iter().fold(Router::new(), |router, path| {
        let only = format!("this path takes {} only", path.methods.join(" or "));
        let wrong = move || async move { No::new(StatusCode::METHOD_NOT_ALLOWED, only) };
        let route = path.route.fallback(wrong).layer(DefaultBodyLimit::max(path.largest));
        router.route(&format!("{PREFIX}{}", path.name), route)
    });
    routes.fallback(unknown).with_state(shared)
}

/// What is at each path, in the order of the list.
#[derive(Default)]
struct Paths(Vec<AtPath>);

struct AtPath {
    name: &'static str,
    methods: Vec<&'static str>,
    route: MethodRouter<Shared>,
    largest: usize,
}

impl Visit for Paths {
    fn visit<R: Request>(&mut self) {
        let place = self.0.iter().position(|path| path.name == R::PATH).unwrap_or_else(|| {
            self.0.push(AtPath { name: R::PATH, methods: Vec::new(), route: MethodRouter::new(), largest: 0 });
            self.0.len() - 1
        });
        let path = &mut self.0[place];
        let filter = match R::METHOD {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
        };
        path.methods.push(R::METHOD.as_str());
        path.route = std::mem::take(&mut path.route).on(filter, take::<R>);
        path.largest = path.largest.max(R::LARGEST);
    }
}

/// Takes a request in, and answers it.
async fn take<R: Request>(State(shared): State<Shared>, peer: Peer, uri: Uri, bytes: Received) -> Answered {
    let caller = permitted::<R>(peer, &(shared.policy)())?;
    let request: R = read(&uri, bytes)?;
    request.check().map_err(bad_request)?;
    let said = request.said();
    let outcome = request.answer(shared.handle, caller.clone()).await;
    if let Some(said) = said {
        log_who_asked(&caller, &said, outcome.as_ref().err());
    }
    respond(outcome.map_err(refused)?)
}

/// A request's body, or why it could not be taken in.
type Received = Result<Bytes, BytesRejection>;

fn read<R: Request>(uri: &Uri, bytes: Received) -> Result<R, No> {
    if R::METHOD == Method::Get {
        let Query(request) = Query::try_from_uri(uri).map_err(bad_request)?;
        return Ok(request);
    }
    let bytes = bytes.map_err(|rejection| No::new(rejection.status(), rejection.body_text()))?;
    // Where nothing is to be said, anything may be: also `null`, or nothing.
    let body: &[u8] = if R::FIELDS.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(body).map_err(|error| bad_request(format!("the request's JSON: {error}")))
}

fn respond(answer: impl Reply) -> Answered {
    match answer.body() {
        Body::Json(Ok(bytes)) => Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response()),
        Body::Json(Err(error)) => Err(No::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        Body::Packets(parts) => {
            let stream = futures::stream::unfold(parts, |mut parts| async move {
                parts.recv().await.map(|part| (Ok::<_, std::convert::Infallible>(part), parts))
            });
            Ok(([(CONTENT_TYPE, "application/x-pcapng")], axum::body::Body::from_stream(stream)).into_response())
        }
    }
}

fn refused(refusal: Refusal) -> No {
    let status = match &refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Invalid(_) | Refusal::Config(_) => StatusCode::CONFLICT,
        Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut no = No::new(status, refusal.to_string());
    if let Refusal::Config(unfit) = refusal {
        let (worst, more) = unfit.found.worst();
        no.1.findings = worst.into_iter().map(Into::into).collect();
        no.1.more_findings = more;
    }
    no
}

fn bad_request(message: impl std::fmt::Display) -> No {
    No::new(StatusCode::BAD_REQUEST, message.to_string())
}

/// Who asks, where the config lets them; nobody unknown is answered.
fn permitted<R: Request>(ConnectInfo(caller): Peer, policy: &ControlPolicy) -> Result<Caller, No> {
    let denied = |why: String| No::new(StatusCode::FORBIDDEN, why);
    let caller = caller.ok_or_else(|| denied("the kernel does not say who is asking".to_owned()))?;
    let level = if R::CHANGES { Level::Change } else { Level::Read };
    let own = nix::unistd::geteuid().as_raw();
    permit(policy, &caller, level, own, &Host).map_err(|why| {
        if R::CHANGES {
            log::warn!("uid {}: {}: permission denied", caller.uid, R::PATH);
        }
        denied(why)
    })?;
    Ok(caller)
}

/// Every change is in the log with who asked for it, whether or not it was made.
fn log_who_asked(caller: &Caller, what: &str, refusal: Option<&Refusal>) {
    let pid = caller.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    match refusal {
        None => log::info!(asked_by_uid = caller.uid, command = what; "uid {} (pid {pid}): {what}: done", caller.uid),
        Some(refusal) => {
            log::warn!(asked_by_uid = caller.uid, command = what; "uid {} (pid {pid}): {what}: {refusal}", caller.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::*;

    /// What the server says to a request that never gets as far as the controller.
    fn said(request: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("control.sock");
            let listener = bind(&socket, None).unwrap();
            let (jobs, _received) = mpsc::channel(1);
            let (_stop, stopped) = watch::channel(false);
            let server = tokio::spawn(serve(listener, Handle::new(jobs), Arc::new(Arc::default), stopped));
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            server.abort();
            answer
        })
    }

    #[test]
    fn an_unknown_path_lists_the_paths() {
        let answer = said("GET /v1/nothing");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        let listed = "below /v1/ there are: status, verify, explain, doctor, capture, weight, drain, undrain, plan, rehearse, \
                      apply, reload, confirm, rollback, history, history/verify, generation, drill, detach\",\"code\":\"not_found\"}";
        assert!(answer.ends_with(listed), "{answer}");
    }

    #[test]
    fn a_wrong_method_says_which() {
        for (request, only) in [
            ("GET /v1/weight", "this path takes POST only"),
            ("POST /v1/status", "this path takes GET only"),
            ("DELETE /v1/drill", "this path takes POST or GET only"),
            ("GET /v1/history/verify", "this path takes POST only"),
        ] {
            let answer = said(request);
            assert!(answer.starts_with("HTTP/1.1 405") && answer.contains(only), "{request}: {answer}");
        }
    }

    #[test]
    fn what_a_request_lacks_is_said() {
        let answer = said("GET /v1/generation");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("number"), "{answer}");
        let answer = said("POST /v1/rollback");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("the request's JSON"), "{answer}");
    }
}
