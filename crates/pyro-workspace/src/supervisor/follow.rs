//! Telling whoever follows the journal that there is something new in it.
//!
//! What is new he reads for himself, from where he was; so followers cost the supervisor nothing,
//! however slow they are.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};

use super::Shared;

pub(super) async fn open(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| ring(socket, shared)).into_response()
}

/// Once at the beginning, for what came before; and then whenever something was written since.
async fn ring(mut socket: WebSocket, shared: Arc<Shared>) {
    let mut changes = shared.journal.listen();
    loop {
        changes.mark_unchanged();
        if socket.send(Message::Text("changed".into())).await.is_err() {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            // He has nothing to say; he hung up.
            _ = socket.recv() => return,
        }
    }
}
