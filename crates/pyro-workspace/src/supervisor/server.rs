//! The control socket: who may talk to a workspace is decided by the socket's mode alone.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get, post};
use futures_util::StreamExt as _;
use pyro_contract::workspace::Usage;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::net::UnixListener;

use super::{Ending, Shared, commands, exec, files, follow, shell, sync, tree, update};
use crate::caller::Caller;
use crate::home::WorkspaceDir;
use crate::protocol::{
    EXEC, FILES, FOLLOW, FREEZE, FilesReport, FilesRequest, FreezeReport, HOLD, Hold, HoldReport,
    LiveStatus, MAX_FRAME, SIGNAL, STATUS, STOP, SYNC, StopMode, TREE, UPDATE, USAGE,
};

/// Nobody may hold a machine's disk for longer, whatever it reads.
const LONGEST_FREEZE: Duration = Duration::from_secs(15 * 60);

/// Binds the control socket, mode 0600.
///
/// The address goes through the open directory, because the path of a unix socket may have 107
/// bytes (unix(7)) and that of PYRO_HOME any number.
pub(super) fn bind(dir: &WorkspaceDir) -> Result<UnixListener> {
    let path = dir.socket_file();
    let failed =
        |error: &std::io::Error| Error::io(format!("cannot listen on {}", path.display()), error);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let open = fs::File::open(dir.path()).map_err(|error| failed(&error))?;
    let short = format!("/proc/self/fd/{}/{}", open.as_raw_fd(), WorkspaceDir::SOCKET);
    let listener = UnixListener::bind(&short).map_err(|error| failed(&error))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(&error))?;
    Ok(listener)
}

/// Serves until the listener fails, which it does not in ordinary life.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) -> Error {
    let router = Router::new()
        .route(STATUS, get(status))
        .route(USAGE, get(usage))
        .route(STOP, post(stop))
        .route(HOLD, post(hold))
        .route(EXEC, any(open_exec))
        .route(FREEZE, any(open_freeze))
        .route(SYNC, any(open_sync))
        .route(TREE, any(open_tree))
        .route(FILES, post(ask_files))
        .merge(shell::routes::all())
        .route(FOLLOW, any(follow::open))
        .route(UPDATE, post(update::ask))
        .route(SIGNAL, post(commands::signal))
        .with_state(shared);
    match axum::serve(listener, router).await {
        Err(error) => Error::io("the control socket failed", &error),
        Ok(()) => Error::new(ErrorCode::Internal, "the control socket closed"),
    }
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<LiveStatus> {
    Json(LiveStatus { running_commands: shared.vigil.count() })
}

async fn usage(State(shared): State<Arc<Shared>>) -> Json<Option<Usage>> {
    let machine = shared.machine.usage().await;
    let together = machine.ok().and_then(|usage| Some(usage + pyro_engine::Usage::own().ok()?));
    Json(together.map(|usage| Usage {
        cpu_ms: u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX),
        memory_bytes: usage.memory_bytes,
    }))
}

/// Answers at once; that the workspace is at rest is known by its lock being free.
async fn stop(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(mode): Json<StopMode>,
) -> StatusCode {
    shared.ending.send_replace(Some(Ending::Asked(mode, caller)));
    StatusCode::ACCEPTED
}

async fn hold(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Json(hold): Json<Hold>,
) -> Json<HoldReport> {
    Json(match shared.holds.ask(hold, caller).await {
        Ok(()) => HoldReport::Done,
        Err(error) => HoldReport::Failed(error),
    })
}

async fn open_exec(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| exec::session(socket, shared, caller))
        .into_response()
}

async fn open_sync(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| sync::session(socket, shared, caller))
        .into_response()
}

async fn open_tree(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| tree::session(socket, shared, caller))
        .into_response()
}

async fn ask_files(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<FilesRequest>,
) -> Json<FilesReport> {
    Json(files::answer(&shared, request).await)
}

async fn open_freeze(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| hold_still(socket, shared)).into_response()
}

/// Keeps the disk frozen until the client has read it and hangs up, or dies.
///
/// Each time the client asks whether all this while nothing was written, this answers; the guest
/// can end a freeze by ending the call, and the answer is then no.
async fn hold_still(mut socket: WebSocket, shared: Arc<Shared>) {
    let _reading = shared.freezes.read().await;
    if let Err(error) = shared.holds.check() {
        let _ = socket.send(text(&FreezeReport::Failed(error))).await;
        return;
    }
    let still = tokio::select! {
        still = stand_still(&shared) => still,
        // The client has nothing to say yet; it hung up.
        _ = socket.recv() => return,
    };
    let mut held = match still {
        Ok(held) => held,
        Err(error) => {
            let _ = socket.send(text(&FreezeReport::Failed(error))).await;
            return;
        }
    };
    while socket.send(text(&FreezeReport::Frozen)).await.is_ok() {
        tokio::select! {
            asked = socket.recv() => {
                if !matches!(asked, Some(Ok(Message::Text(_)))) {
                    return;
                }
            }
            () = held.broken() => return,
            () = tokio::time::sleep(LONGEST_FREEZE) => return,
        }
    }
}

/// Why the disk does not change.
enum Still {
    /// The engine holds the whole machine still.
    Machine(#[expect(dead_code, reason = "held, not looked at")] pyro_engine::Stillness),
    /// The agent has frozen the disk, for as long as its call lasts.
    Disk(Box<dyn futures_util::Stream<Item = ()> + Unpin + Send>),
}

impl Still {
    /// Resolves if the guest ends it.
    async fn broken(&mut self) {
        match self {
            Self::Machine(_) => std::future::pending().await,
            Self::Disk(call) => {
                let _ = call.next().await;
            }
        }
    }
}

async fn stand_still(shared: &Shared) -> Result<Still> {
    if let Some(still) = shared.machine.stand_still().await? {
        return Ok(Still::Machine(still));
    }
    let call = shared.agent.freeze().await?.map(drop);
    Ok(Still::Disk(Box::new(call)))
}

/// A text frame of one message.
pub(super) fn text<T: serde::Serialize>(message: &T) -> Message {
    Message::Text(serde_json::to_string(message).unwrap_or_default().into())
}
