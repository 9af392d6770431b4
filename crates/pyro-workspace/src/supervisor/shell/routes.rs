//! The operations of shells on the control socket.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Json, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use pyro_contract::Result;
use pyro_contract::shell::{
    OfShell, OpenShell, ReadShell, ResizeShell, ShellInfo, ShellOutput, ShellWritten, SignalShell,
    TerminalSize, WriteShell,
};
use tokio::time::Instant;

use super::{attach, close, open};
use crate::caller::Caller;
use crate::protocol::{
    Answer, MAX_FRAME, SHELL_ATTACH, SHELL_CLOSE, SHELL_LIST, SHELL_OPEN, SHELL_READ, SHELL_RESIZE,
    SHELL_SIGNAL, SHELL_WRITE,
};
use crate::supervisor::Shared;

type Supervisor = State<Arc<Shared>>;

/// See the module.
pub(in crate::supervisor) fn all() -> Router<Arc<Shared>> {
    Router::new()
        .route(
            SHELL_OPEN,
            post(
                async |State(shared): Supervisor,
                       caller: Caller,
                       Json(request): Json<OpenShell>| {
                    answer(open(&shared, &request, &caller).await)
                },
            ),
        )
        .route(SHELL_LIST, get(async |State(shared): Supervisor| Json(shared.shells.list())))
        .route(
            SHELL_READ,
            post(async |State(shared): Supervisor, Json(request): Json<ReadShell>| {
                answer(read(&shared, &request).await)
            }),
        )
        .route(
            SHELL_WRITE,
            post(async |State(shared): Supervisor, Json(request): Json<WriteShell>| {
                shared.journal.touch();
                answer(write(&shared, &request).await)
            }),
        )
        .route(
            SHELL_RESIZE,
            post(async |State(shared): Supervisor, Json(request): Json<ResizeShell>| {
                answer(resize(&shared, &request).await)
            }),
        )
        .route(
            SHELL_SIGNAL,
            post(async |State(shared): Supervisor, Json(request): Json<SignalShell>| {
                answer(signal(&shared, &request).await)
            }),
        )
        .route(
            SHELL_CLOSE,
            post(async |State(shared): Supervisor, Json(request): Json<OfShell>| {
                answer(close(&shared, &request.shell).await)
            }),
        )
        .route(SHELL_ATTACH, any(open_attach))
}

fn answer<T>(result: Result<T>) -> Json<Answer<T>> {
    Json(match result {
        Ok(done) => Answer::Done(done),
        Err(error) => Answer::Failed(error),
    })
}

async fn open_attach(State(shared): Supervisor, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(move |socket| attach::session(socket, shared))
        .into_response()
}

/// What was shown is on the host, so a workspace that is held still is no hindrance.
async fn read(shared: &Shared, request: &ReadShell) -> Result<ShellOutput> {
    request.validate()?;
    let shell = shared.shells.find(&request.shell)?;
    let in_time = match request.wait_for_idle_ms {
        Some(quiet) => {
            let [quiet, patience] = [quiet, request.timeout_ms].map(Duration::from_millis);
            shell.idle(quiet, patience).await
        }
        None => true,
    };
    Ok(ShellOutput { timed_out: !in_time, ..shell.read(request)? })
}

async fn write(shared: &Shared, request: &WriteShell) -> Result<ShellWritten> {
    let mut bytes = request.data()?;
    let shell = shared.shells.find(&request.shell)?;
    shared.holds.check()?;
    let application = shell.application_cursor();
    for key in &request.keys {
        bytes.extend(key.bytes(application));
    }
    if request.enter {
        bytes.push(b'\r');
    }
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
    shell.write(&bytes, Some(deadline)).await
}

async fn resize(shared: &Shared, request: &ResizeShell) -> Result<ShellInfo> {
    let size = TerminalSize { cols: request.cols, rows: request.rows };
    size.validate()?;
    let shell = shared.shells.find(&request.shell)?;
    shared.holds.check()?;
    shell.resize(size).await?;
    Ok(shell.info())
}

async fn signal(shared: &Shared, request: &SignalShell) -> Result<ShellInfo> {
    let shell = shared.shells.find(&request.shell)?;
    shared.holds.check()?;
    shell.signal(request.signal.number()).await?;
    Ok(shell.info())
}
