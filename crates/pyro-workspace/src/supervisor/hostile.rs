//! Agents that lie: each costs the host bounded memory and ends in a result or a clear error.
//!
//! They are HTTP/2 servers made by hand, or less than that, because an agent made with the
//! protocol's own code could not say most of this.

use std::convert::Infallible;
use std::fs;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, future, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use pyro_contract::exec::{ExecOutcome, ExecRequest};
use pyro_contract::limits::WorkspaceLimits;
use pyro_contract::name::WorkspaceId;
use pyro_contract::workspace::Shape;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_engine::{AgentStream, Exit, Machine, Usage};
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{ExecExit, ExecOutput, ExecStarted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{RwLock, watch};

use super::{Endings, Shared, commands, hold, server, shell, update, vigil};
use crate::agent::Agent;
use crate::client::{self, ExecEvent};
use crate::home::{Home, WorkspaceDir};
use crate::journal::{self, Journal, JournalBounds, Wanted};

/// All of one lie, with what the supervisor allows a machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct NoMachine;

type EngineResult<T> = std::result::Result<T, pyro_engine::EngineError>;

#[async_trait::async_trait]
impl Machine for NoMachine {
    async fn insert_baseline(&self, _: &std::path::Path) -> EngineResult<()> {
        Ok(())
    }
    async fn connect(&self) -> EngineResult<Box<dyn AgentStream>> {
        Ok(Box::new(tokio::io::duplex(1).0))
    }
    fn process(&self) -> Option<(u32, u64)> {
        None
    }
    fn console_tail(&self) -> String {
        String::new()
    }
    async fn exited(&self) -> Exit {
        future::pending().await
    }
    async fn kill(&self, _: Duration) {}
    async fn pause(&self) -> EngineResult<()> {
        Ok(())
    }
    async fn resume(&self) -> EngineResult<()> {
        Ok(())
    }
    async fn capture(
        &self,
        _: pyro_engine::Scope,
        _: &std::path::Path,
    ) -> EngineResult<pyro_engine::Captured> {
        future::pending().await
    }
    async fn usage(&self) -> EngineResult<Usage> {
        Ok(Usage::default())
    }
}

/// A supervisor whose machine has somebody at the other end of its stream.
struct Lab {
    dir: WorkspaceDir,
    _temp: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Lab {
    fn new(agent: impl FnOnce(DuplexStream)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let (dir, _lock) = home.new_workspace(&WorkspaceId::random()).unwrap().publish().unwrap();
        fs::File::create(dir.activity_file()).unwrap();
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        agent(theirs);
        let bounds = JournalBounds { command_mib: 1, workspace_mib: 2 };
        let shared = Arc::new(Shared {
            agent: Agent::over(Box::new(ours)),
            machine: Arc::new(NoMachine),
            journal: Journal::open(&dir.journal_file(), dir.activity_file(), bounds).unwrap(),
            env: Vec::new(),
            shape: Shape::default(),
            limits: WorkspaceLimits::default(),
            commands: commands::Running::default(),
            vigil: vigil::Vigil::default(),
            ending: Endings::new(None),
            deadline: watch::Sender::new(None),
            updates: update::Asking::default(),
            holds: hold::Asking::default(),
            freezes: RwLock::new(()),
            sessions: RwLock::new(()),
            syncs: tokio::sync::Mutex::new(()),
            shells: shell::Shells::new(&dir),
            obituary: watch::Sender::new(None),
        });
        let listener = server::bind(&dir).unwrap();
        let serving = tokio::spawn(async move {
            let kept = Arc::clone(&shared);
            tokio::select! {
                _ = server::serve(listener, shared) => {}
                () = vigil::keep(&kept) => {}
            }
        });
        Self { dir, _temp: temp, serving }
    }

    /// An agent that answers every command with these frames, and when it is asked whether it is
    /// there, that it is.
    fn saying(frames: impl Fn() -> BoxStream<'static, Bytes> + Send + Sync + 'static) -> Self {
        Self::answering(frames, true)
    }

    fn answering(
        frames: impl Fn() -> BoxStream<'static, Bytes> + Send + Sync + 'static,
        pings: bool,
    ) -> Self {
        let frames = Arc::new(frames);
        Self::new(move |stream| {
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let frames = Arc::clone(&frames);
                    async move { answer(request, &*frames, pings).await }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        })
    }

    /// An agent that is none: it sends these bytes, then reads for ever.
    fn raw(bytes: Vec<u8>) -> Self {
        Self::new(move |mut stream| {
            tokio::spawn(async move {
                let _ = stream.write_all(&bytes).await;
                let mut heard = [0; 4096];
                while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {}
            });
        })
    }

    async fn run(&self, timeout_seconds: Option<u64>) -> Result<ExecOutcome> {
        let request = ExecRequest { timeout_seconds, ..ExecRequest::new(["true"]) };
        let ran = async {
            let mut session = client::exec(&self.dir, &request, None).await?;
            while let Some(event) = session.output.next().await? {
                if let ExecEvent::Exit(outcome) = event {
                    return Ok(outcome);
                }
            }
            Err(Error::new(ErrorCode::Internal, "the session ended without an end"))
        };
        let ended = tokio::time::timeout(PATIENCE, ran).await;
        let ended = ended.expect("a lying agent kept its client waiting");
        // However it ended, the books are closed.
        let all = journal::commands(&self.dir.journal_file(), Wanted::default(), true).unwrap();
        assert!(all.iter().all(|command| !command.running), "{all:?}");
        ended
    }

    #[track_caller]
    fn refused(&self, ended: Result<ExecOutcome>) {
        let error = ended.unwrap_err();
        let codes = [ErrorCode::GuestMisbehaved, ErrorCode::MachineFailed, ErrorCode::TooLarge];
        assert!(codes.contains(&error.code), "{error:?}");
        let whole = format!("{error:?}");
        assert!(whole.len() < 2000 && !whole.chars().any(char::is_control), "{whole}");
        assert!(error.hint.is_some(), "{error:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    frames: &(dyn Fn() -> BoxStream<'static, Bytes> + Send + Sync),
    pings: bool,
) -> std::result::Result<
    Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>,
    Infallible,
> {
    let said = match request.uri().path() {
        path if path.ends_with("/Exec") => frames(),
        path if path.ends_with("/Ping") && pings => stream::iter([prefixed(0, &[])]).boxed(),
        // Silent to everything else.
        _ => future::pending().await,
    };
    let mut body = pin!(request.into_body());
    let _ = body.as_mut().frame().await;
    let data = said.map(|bytes| Ok(Frame::data(bytes)));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
    let all = data.chain(stream::iter([Ok(Frame::trailers(trailers))]));
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(all).boxed_unsync());
    Ok(response.unwrap())
}

/// A message behind its gRPC prefix.
fn frame(output: Output) -> Bytes {
    let message = ExecOutput { output: Some(output) }.encode_to_vec();
    prefixed(u32::try_from(message.len()).unwrap(), &message)
}

fn prefixed(length: u32, message: &[u8]) -> Bytes {
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

fn started() -> Bytes {
    frame(Output::Started(ExecStarted { pid: 1 }))
}

fn exit(exit: ExecExit) -> Bytes {
    frame(Output::Exit(exit))
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_ends_with_its_time_and_costs_bounded_memory() {
    let before = peak_memory_kib();
    let lab = Lab::saying(|| {
        let flood = frame(Output::Stdout(vec![b'x'; 32 << 10].into()));
        stream::iter([started()]).chain(stream::repeat(flood)).boxed()
    });
    let outcome = lab.run(Some(1)).await.unwrap();
    assert!(outcome.timed_out, "{outcome:?}");
    let grown = peak_memory_kib() - before;
    assert!(grown < 64 << 10, "grew by {grown} KiB");
    let stored: u64 = fs::read_dir(lab.dir.path().join("output"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(stored < 4 << 20, "{stored} bytes of output are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_emptiness_ends_with_its_time() {
    let lab = Lab::saying(|| {
        let nothing = frame(Output::Stderr(Bytes::new()));
        stream::iter([started()]).chain(stream::repeat(nothing)).boxed()
    });
    assert!(lab.run(Some(1)).await.unwrap().timed_out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_frame_is_refused() {
    for length in [u32::MAX, 2 << 20] {
        let lab = Lab::saying(move || {
            let head = prefixed(length, &[]);
            let rest = stream::repeat(Bytes::from(vec![0; 16 << 10]));
            stream::iter([started(), head]).chain(rest).boxed()
        });
        let before = peak_memory_kib();
        lab.refused(lab.run(None).await);
        assert!(peak_memory_kib() - before < 32 << 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_a_message_is_refused() {
    for garbage in [&[0xff; 9][..], b"\x0a\x7f", b"GET / HTTP/1.1\r\n\r\n"] {
        let length = u32::try_from(garbage.len()).unwrap();
        let lab = Lab::saying(move || {
            stream::iter([started(), prefixed(length, garbage)]).chain(stream::pending()).boxed()
        });
        lab.refused(lab.run(None).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_falls_silent_is_given_up() {
    for said in [0, 1] {
        let frames = move || stream::iter([started()]).take(said).chain(stream::pending()).boxed();
        let lab = Lab::answering(frames, false);
        let error = lab.run(None).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::GuestMisbehaved, "{error:?}");
        assert!(error.message.contains("does not answer"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_an_exit_is_no_success() {
    let lab = Lab::saying(|| stream::iter([started()]).boxed());
    lab.refused(lab.run(None).await);
    let lab = Lab::saying(|| stream::empty().boxed());
    lab.refused(lab.run(None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_kernel_has_are_cut_to_size() {
    let lab = Lab::saying(|| {
        let odd = ExecExit {
            code: i32::MAX,
            signal: i32::MIN,
            duration_ms: u64::MAX,
            own_memory_limit: true,
            own_process_limit: true,
            ..ExecExit::default()
        };
        // What comes after the end is not listened to.
        let late = frame(Output::Stdout(Bytes::from_static(b"late")));
        stream::iter([exit(odd), late, exit(ExecExit::default())]).boxed()
    });
    let outcome = lab.run(None).await.unwrap();
    assert_eq!((outcome.exit_code, outcome.signal), (Some(255), None));
    assert_eq!(outcome.limits_hit, [], "it had no limits of its own");
    let lab = Lab::saying(|| {
        let odd = ExecExit { signal: 9999, ..ExecExit::default() };
        stream::iter([exit(odd)]).boxed()
    });
    assert_eq!(lab.run(None).await.unwrap().signal, Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_protocol_at_all_is_refused() {
    // A frame of 16 MiB after settings that are right; an endless header; noise; nothing.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let giant = [&settings[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[0; 4096]].concat();
    let headers = [&settings[..], &[0, 0x40, 0, 1, 0, 0, 0, 0, 1], &[0; 0x4000]].concat();
    for bytes in [giant, headers, vec![0x55; 1 << 20], b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()] {
        let lab = Lab::raw(bytes);
        lab.refused(lab.run(Some(1)).await);
    }
    let lab = Lab::new(drop);
    lab.refused(lab.run(Some(1)).await);
}
