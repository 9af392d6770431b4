//! The protocol over Streamable HTTP: on loopback unless told otherwise, for whoever has the token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use pyro_contract::{Error, ErrorCode, Result};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::access::Token;
use crate::hangup::Hangup;
use crate::server::Server;

/// Where the protocol is spoken.
const PATH: &str = "/mcp";

/// The longest request taken: as much as a message over stdio.
const MAX_REQUEST: usize = 16 << 20;

/// A session in which nothing was said for so long is forgotten; a silent command may take hours.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(12 * 60 * 60);

/// Connections that are still open after the end was asked for are cut.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How to listen.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Where.
    pub address: SocketAddr,
    /// Listen where others than this host can connect.
    pub allow_remote: bool,
    /// Names by which clients call this host, besides loopback's.
    pub hosts: Vec<String>,
    /// Origins of web pages that may connect, such as `https://app.example.org`. None otherwise.
    pub origins: Vec<String>,
}

/// A socket that is bound.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    options: HttpOptions,
    /// The URL for clients.
    pub url: String,
}

/// Binds, so that the URL is known before anybody is served.
pub async fn listen(options: HttpOptions) -> Result<Listening> {
    if !options.address.ip().is_loopback() && !options.allow_remote {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("{} can be reached from other machines", options.address),
        )
        .with_hint(
            "listen on 127.0.0.1, and let an SSH tunnel or a proxy with TLS lead there; or say \
             --allow-remote, which sends the token over the network as it is",
        ));
    }
    let failed =
        |error: &std::io::Error| Error::io(format!("cannot listen on {}", options.address), error);
    let listener = TcpListener::bind(options.address).await.map_err(|error| {
        failed(&error).with_hint("choose another port, or 0 for any that is free")
    })?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    Ok(Listening { listener, options, url: format!("http://{address}{PATH}") })
}

impl Listening {
    /// Serves until this process is asked to end.
    pub async fn serve(self, server: Server, token: Token) -> Result<()> {
        let ending = CancellationToken::new();
        let handler = server.clone();
        let mut sessions = LocalSessionManager::default();
        sessions.session_config.keep_alive = Some(FORGOTTEN_AFTER);
        let service = StreamableHttpService::new(
            move || Ok(handler.clone()),
            Arc::new(sessions),
            config(&self.options, ending.clone()),
        );
        let router = Router::new()
            .route_service(PATH, service)
            .layer(middleware::from_fn_with_state(token, guard))
            .layer(middleware::from_fn(notice_hangup));
        let asked = ending.clone();
        tokio::spawn(async move {
            asked_to_end().await;
            asked.cancel();
        });
        let served = axum::serve(self.listener, router)
            .with_graceful_shutdown(ending.clone().cancelled_owned());
        let cut = async {
            ending.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let ended = tokio::select! {
            ended = std::future::IntoFuture::into_future(served) => ended,
            () = cut => Ok(()),
        };
        server.idle().await;
        ended.map_err(|error| Error::io("the HTTP server failed", &error))
    }
}

fn config(options: &HttpOptions, ending: CancellationToken) -> StreamableHttpServerConfig {
    let mut hosts: Vec<String> =
        ["localhost", "127.0.0.1", "::1"].iter().map(ToString::to_string).collect();
    match options.address.ip() {
        IpAddr::V4(ip) if !ip.is_unspecified() => hosts.push(ip.to_string()),
        IpAddr::V6(ip) if !ip.is_unspecified() => hosts.push(ip.to_string()),
        _ => {}
    }
    hosts.extend(options.hosts.iter().cloned());
    // A name that was made to lead here by DNS rebinding is in `Host`, and the page that did it in
    // `Origin`: either is refused.
    StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .with_allowed_origins(options.origins.iter().cloned())
        .enforce_origin_validation()
        .with_max_request_body_bytes(MAX_REQUEST)
        .with_cancellation_token(ending)
}

async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Lets nobody in without the token, before anything else of the request is read.
async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    if token.admits(request.headers()) {
        return next.run(request).await;
    }
    let challenge = [
        (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pyro\"")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let words = "Unauthorized: send `Authorization: Bearer TOKEN`, with the token that \
                 `pyro mcp serve` was started with\n";
    (StatusCode::UNAUTHORIZED, challenge, words).into_response()
}

/// Tells a call when the connection that carries it ends before its answer.
///
/// Its client may be gone for good, and a command must not run on for nobody.
async fn notice_hangup(mut request: Request, next: Next) -> Response {
    let gone = CancellationToken::new();
    let unless_answered = gone.clone().drop_guard();
    request.extensions_mut().insert(Hangup(gone));
    let (parts, body) = next.run(request).await.into_parts();
    let pieces = futures_util::stream::unfold(
        (body.into_data_stream(), Some(unless_answered)),
        |(mut pieces, mut guard)| async move {
            let piece = pieces.next().await;
            if piece.is_none()
                && let Some(guard) = guard.take()
            {
                guard.disarm();
            }
            piece.map(|piece| (piece, (pieces, guard)))
        },
    );
    Response::from_parts(parts, Body::from_stream(pieces))
}
