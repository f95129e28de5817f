//! The control socket's server: JSON over HTTP on a Unix socket.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::api::{Apply, CaptureRequest, Drain, Examine, Explain, Refused, Rehearse, Rollback, SetWeight, StartDrill};
use crate::controller::handle::{Caller, ChangeRequest, Handle, Refusal};
use crate::listener;
use crate::model::{ServiceName, Weight};

const LARGEST_REQUEST: usize = 64 * 1024;
/// A config of many services and lists.
const LARGEST_CONFIG: usize = 64 << 20;
/// Of all descriptors, the last twentieth is for probes and maps.
const KEPT: u64 = 20;
/// Owner and group may talk to the controller, nobody else.
const MODE: u32 = 0o660;

/// Binds the socket, in the place of one that a controller left behind when it died.
pub fn bind(path: &Path) -> Result<UnixListener> {
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
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        Ok(listener)
    };
    attempt().with_context(|| format!("listening on `node.control_socket` = {}", path.display()))
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Answers requests until `stopped` is true.
pub async fn serve(listener: UnixListener, handle: Handle, stopped: watch::Receiver<bool>) {
    listener::serve(listener, router(handle), Peer::of, KEPT, stopped).await;
}

fn router(handle: Handle) -> Router {
    let only = |method: &'static str, route: MethodRouter<Handle>| {
        route.fallback(
            move || async move { No(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {method} only")) },
        )
    };
    Router::new()
        .route("/v1/status", only("GET", get(status)))
        .route("/v1/weight", only("POST", post(weight)))
        .route("/v1/drain", only("POST", post(drain)))
        .route("/v1/undrain", only("POST", post(undrain)))
        .route("/v1/verify", only("GET", get(verify)))
        .route("/v1/drill", only("GET or POST", get(drill).post(start_drill)))
        .route("/v1/explain", only("POST", post(explain)).layer(DefaultBodyLimit::max(LARGEST_CONFIG)))
        .route("/v1/capture", only("POST", post(capture)))
        .route("/v1/doctor", only("POST", post(doctor)))
        .route("/v1/reload", only("POST", post(reload)))
        .route("/v1/apply", only("POST", post(apply)).layer(DefaultBodyLimit::max(LARGEST_CONFIG)))
        .route("/v1/plan", only("POST", post(plan)).layer(DefaultBodyLimit::max(LARGEST_CONFIG)))
        .route("/v1/rehearse", only("POST", post(rehearse)).layer(DefaultBodyLimit::max(LARGEST_CONFIG)))
        .route("/v1/confirm", only("POST", post(confirm)))
        .route("/v1/rollback", only("POST", post(rollback)))
        .route("/v1/history", only("GET", get(history)))
        .route("/v1/history/verify", only("POST", post(verify_history)))
        .route("/v1/generation", only("GET", get(generation)))
        .route("/v1/detach", only("POST", post(detach)))
        .fallback(|| async {
            let paths = "status, verify, drill, weight, drain, undrain, explain, capture, doctor, reload, apply, plan, rehearse, confirm, \
                         rollback, \
                         history, history/verify, generation, detach";
            No(StatusCode::NOT_FOUND, format!("there is no such path; below /v1/ there are: {paths}"))
        })
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .with_state(handle)
}

/// Who is at the other end of the socket, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy)]
struct Peer(Option<Caller>);

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        let peer = stream.peer_cred().ok();
        Self(peer.map(|peer| Caller { uid: peer.uid(), pid: peer.pid() }))
    }
}

type Asker = ConnectInfo<Peer>;

/// A response, or why there is none.
type Answered = Result<Response, No>;

/// Every answer but 200.
struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(Refused { error: self.1 })).into_response()
    }
}

fn answer<T: Serialize>(outcome: Result<T, Refusal>) -> Answered {
    answered(outcome).map(|value| Json(value).into_response())
}

fn answered<T>(outcome: Result<T, Refusal>) -> Result<T, No> {
    outcome.map_err(|refusal| {
        let status = match &refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Invalid(_) => StatusCode::CONFLICT,
            Refusal::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        No(status, refusal.to_string())
    })
}

fn bad_request(message: impl std::fmt::Display) -> No {
    No(StatusCode::BAD_REQUEST, message.to_string())
}

/// A request's body, or why it could not be taken in.
type Body = Result<Bytes, BytesRejection>;

fn body<T: DeserializeOwned>(bytes: Body) -> Result<T, No> {
    let bytes = bytes.map_err(|rejection| No(rejection.status(), rejection.body_text()))?;
    serde_json::from_slice(&bytes).map_err(|error| bad_request(format!("the request's JSON: {error}")))
}

/// Who asks for a change; without knowing that, nothing is changed.
fn caller(ConnectInfo(Peer(caller)): Asker) -> Result<Caller, No> {
    caller.ok_or_else(|| No(StatusCode::FORBIDDEN, "the kernel does not say who is asking".to_owned()))
}

fn asked(caller: Caller, accept: Vec<String>, reason: Option<String>) -> ChangeRequest {
    ChangeRequest { uid: Some(caller.uid), reason, accept, ..ChangeRequest::default() }
}

/// Every change is in the log with who asked for it, whether or not it was made.
fn logged<T>(caller: Caller, what: &str, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
    let pid = caller.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    match &outcome {
        Ok(_) => log::info!("uid {} (pid {pid}): {what}: done", caller.uid),
        Err(refusal) => log::warn!("uid {} (pid {pid}): {what}: {refusal}", caller.uid),
    }
    outcome
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    service: Option<String>,
}

async fn status(State(handle): State<Handle>, query: Result<Query<StatusQuery>, QueryRejection>) -> Answered {
    answer(handle.status(service(query)?).await)
}

/// The service that is asked for, if one is.
fn service(query: Result<Query<StatusQuery>, QueryRejection>) -> Result<Option<ServiceName>, No> {
    let Query(query) = query.map_err(bad_request)?;
    query.service.map(|name| name.parse::<ServiceName>()).transpose().map_err(bad_request)
}

async fn verify(State(handle): State<Handle>, query: Result<Query<StatusQuery>, QueryRejection>) -> Answered {
    answer(handle.verify(service(query)?).await)
}

async fn weight(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let SetWeight { id, weight, accept, reason } = body(bytes)?;
    let checked = |weight| {
        Weight::new(weight).ok_or_else(|| bad_request(format!("weight {weight} is out of range; 0 to {}", Weight::MAX)))
    };
    let new = weight.map(checked).transpose()?;
    let what = weight.map_or_else(|| format!("reset the weight of {id}"), |w| format!("set the weight of {id} to {w}"));
    let asked = asked(caller, accept, reason);
    answer(logged(caller, &what, handle.weight(id, new, asked).await))
}

async fn drain(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let Drain { id, accept, reason } = body(bytes)?;
    let asked = asked(caller, accept, reason);
    answer(logged(caller, &format!("drain {id}"), handle.drain(id, true, asked).await))
}

async fn undrain(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let Drain { id, accept, reason } = body(bytes)?;
    let asked = asked(caller, accept, reason);
    answer(logged(caller, &format!("undrain {id}"), handle.drain(id, false, asked).await))
}

async fn start_drill(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let StartDrill { fault } = body(bytes)?;
    answer(logged(caller, &format!("drill {fault}"), handle.start_drill(fault).await))
}

async fn drill(State(handle): State<Handle>) -> Answered {
    answer(handle.drill().await)
}

async fn explain(State(handle): State<Handle>, bytes: Body) -> Answered {
    let asked: Explain = body(bytes)?;
    answer(handle.explain(asked).await)
}

/// The capture ends when whoever asked closes the connection.
async fn capture(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let request: CaptureRequest = body(bytes)?;
    let parts = logged(caller, "capture packets", handle.capture(request).await);
    let parts = answered(parts)?;
    let stream = futures::stream::unfold(parts, |mut parts| async move {
        parts.recv().await.map(|part| (Ok::<_, std::convert::Infallible>(part), parts))
    });
    Ok(([(CONTENT_TYPE, "application/x-pcapng")], axum::body::Body::from_stream(stream)).into_response())
}

/// Probes end where whoever asked closes the connection.
async fn doctor(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let request: Examine = body(bytes)?;
    answer(logged(caller, "examine host and backends", handle.doctor(request).await))
}

async fn reload(State(handle): State<Handle>, peer: Asker) -> Answered {
    let caller = caller(peer)?;
    answer(logged(caller, "reload the config", handle.reload(Some(caller)).await))
}

async fn apply(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let request: Apply = body(bytes)?;
    let what = format!("{} {}", if request.dry_run { "try" } else { "apply" }, request.file);
    answer(logged(caller, &what, handle.apply(request, caller).await))
}

async fn plan(State(handle): State<Handle>, bytes: Body) -> Answered {
    answer(handle.plan(body(bytes)?).await)
}

async fn rehearse(State(handle): State<Handle>, bytes: Body) -> Answered {
    let request: Rehearse = body(bytes)?;
    answer(handle.rehearse(request).await)
}

async fn confirm(State(handle): State<Handle>, peer: Asker) -> Answered {
    let caller = caller(peer)?;
    answer(logged(caller, "confirm the guarded change", handle.confirm(caller).await))
}

async fn rollback(State(handle): State<Handle>, peer: Asker, bytes: Body) -> Answered {
    let caller = caller(peer)?;
    let request: Rollback = body(bytes)?;
    let what = request.generation.map_or_else(|| "rollback".to_owned(), |number| format!("rollback to {number}"));
    answer(logged(caller, &what, handle.rollback(request, caller).await))
}

async fn history(State(handle): State<Handle>) -> Answered {
    answer(handle.history().await)
}

async fn verify_history(State(handle): State<Handle>) -> Answered {
    answer(handle.verify_history().await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationQuery {
    number: u64,
}

async fn generation(State(handle): State<Handle>, query: Result<Query<GenerationQuery>, QueryRejection>) -> Answered {
    let Query(query) = query.map_err(bad_request)?;
    answer(handle.generation(query.number).await)
}

async fn detach(State(handle): State<Handle>, peer: Asker) -> Answered {
    let caller = caller(peer)?;
    answer(logged(caller, "detach the data plane", handle.detach(caller).await))
}
