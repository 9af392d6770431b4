//! Keeping machines warm, for as long as somebody lives who wants them.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use command_fds::{CommandFdExt as _, FdMapping};
use pyro_contract::name::WorkspaceId;
use pyro_contract::progress::Progress as _;
use pyro_contract::template::PrepareRequest;
use pyro_contract::{Error, ErrorCode, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::prepare::Origin;
use super::{Pyro, birth};
use crate::engines;
use crate::protocol::Birth;
use crate::warm;
use crate::watch::Watch;

/// The number under which a warm supervisor finds its keeper's pipe.
const KEEPER_FD: i32 = 3;

/// What all slots know.
struct Budget {
    bytes: u64,
    /// The most that one of them was seen to take.
    each: AtomicU64,
    waiting: AtomicU64,
}

impl Pyro {
    /// Keeps so many machines of this kind restored and waiting until interrupted; each `create`
    /// that finds one takes it, and another takes its place. Together they take no more memory than
    /// the settings allow, so there may be fewer.
    ///
    /// # Errors
    /// If the engine has no templates, or a machine cannot be made.
    pub async fn keep_warm(&self, request: &PrepareRequest, watch: &Watch) -> Result<()> {
        let count = request.warm.unwrap_or(0);
        let shape = request.shape.or(self.settings().shape);
        let engine = self.engine_for(request.engine).await?;
        let environment = self.environment(&request.environment, watch).await?;
        let origin = self.origin(engine, environment, shape).await?;
        let waits = engines::of(engine, &self.settings().programs).waits_warm();
        let Some(template) = origin.template.as_ref().filter(|_| waits) else {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("the {engine} engine has no machines that could wait warm here"),
            )
            .with_hint("leave out `--warm`; `pyro doctor` lists what each engine can do"));
        };
        warm::sweep(self.home(), &template.digest);
        let budget = Budget {
            bytes: u64::from(self.settings().templates.warm_mib) << 20,
            each: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        };
        // One is made after the other, so that the first is there soon.
        let making = tokio::sync::Mutex::new(());
        let slots = (0..count).map(|_| self.keep_one(request, &origin, &budget, &making, watch));
        tokio::select! {
            ended = futures_util::future::try_join_all(slots) => ended.map(drop),
            () = watch.interrupt().triggered() => Ok(()),
        }
    }

    async fn keep_one(
        &self,
        request: &PrepareRequest,
        origin: &Origin,
        budget: &Budget,
        making: &tokio::sync::Mutex<()>,
        watch: &Watch,
    ) -> Result<()> {
        loop {
            let turn = making.lock().await;
            let (waiting, each) =
                (budget.waiting.load(Ordering::Relaxed), budget.each.load(Ordering::Relaxed));
            if waiting > 0 && (waiting + 1) * each > budget.bytes {
                watch.stage(&format!(
                    "{waiting} machines are warm; {} MiB of memory allow no more",
                    budget.bytes >> 20
                ));
                std::future::pending::<()>().await;
            }
            let mut warm = self.warm_up(request, origin).await?;
            budget.each.fetch_max(warm.memory_bytes, Ordering::Relaxed);
            let waiting = budget.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            watch.stage(&format!("{waiting} machines are warm"));
            drop(turn);
            // Its stream ends when it is taken, or dies.
            let _ = tokio::io::copy(&mut warm.words, &mut tokio::io::sink()).await;
            budget.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn warm_up(&self, request: &PrepareRequest, origin: &Origin) -> Result<Warm> {
        let Some(template) = &origin.template else {
            return Err(Error::new(ErrorCode::Internal, "a template is gone"));
        };
        let shape = request.shape.or(self.settings().shape);
        let engine = self.engine_for(request.engine).await?;
        // Any name will do that no other has.
        let name = WorkspaceId::random();
        let place = warm::directory(self.home(), &template.digest).join(name.as_str());
        let failed = |error: io::Error| Error::io("cannot keep a machine warm", &error);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(failed)?;
        let internal =
            |error: serde_json::Error| Error::new(ErrorCode::Internal, error.to_string());
        let (reading, keeping) = io::pipe().map_err(failed)?;
        let mut command = Command::new(&self.supervisor);
        command
            .args(["warm", "--keeper-fd", &KEEPER_FD.to_string()])
            .args(["--engine", &serde_json::to_string(&engine).map_err(internal)?])
            .arg("--directory")
            .arg(&place)
            .args(["--shape", &serde_json::to_string(&shape).map_err(internal)?])
            .args(["--boot", &serde_json::to_string(&origin.boot()).map_err(internal)?])
            .args(["--settings", &serde_json::to_string(self.settings()).map_err(internal)?])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        birth::pass_on(&mut command, self.home());
        command
            .fd_mappings(vec![FdMapping { parent_fd: reading.into(), child_fd: KEEPER_FD }])
            .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))?;
        let mut child = command.spawn().map_err(failed)?;
        drop(command);
        let Some(stdout) = child.stdout.take() else {
            return Err(Error::new(ErrorCode::Internal, "a warm supervisor has no pipe"));
        };
        let mut words = BufReader::new(stdout);
        let mut lines = (&mut words).take(1 << 20).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Birth::Warm { memory_bytes }) => {
                    drop(lines);
                    return Ok(Warm { words, memory_bytes, _keeping: keeping });
                }
                Ok(Birth::Failed(error)) => return Err(error),
                _ => {}
            }
        }
        Err(Error::new(ErrorCode::MachineFailed, "a machine could not be kept warm")
            .with_hint("`pyro workspace create` tells more, and `pyro doctor` checks this host"))
    }
}

/// A machine that waits.
struct Warm {
    words: BufReader<tokio::process::ChildStdout>,
    memory_bytes: u64,
    /// Closing it ends the machine, unless it was taken.
    _keeping: io::PipeWriter,
}
