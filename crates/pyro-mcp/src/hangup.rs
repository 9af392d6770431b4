//! Calls that nobody waits for any more.

use axum::http::request::Parts;
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use tokio_util::sync::CancellationToken;

/// Put into an HTTP request by the server: triggered when the connection that carries it ends before
/// the answer.
#[derive(Debug, Clone)]
pub(crate) struct Hangup(pub(crate) CancellationToken);

/// Resolves once the client cancels the call, or is gone.
pub(crate) async fn given_up(context: &RequestContext<RoleServer>) {
    let hangup =
        context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Hangup>());
    match hangup {
        Some(Hangup(gone)) => tokio::select! {
            () = context.ct.cancelled() => {}
            () = gone.cancelled() => {}
        },
        None => context.ct.cancelled().await,
    }
}
