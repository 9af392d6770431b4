//! Running git, and saying what it said.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pyro_contract::progress::Progress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::refused;
use crate::layer::{LayerError, Result};

/// Variables by which a caller's git (a hook, for one) would point ours at another repository.
const POINTERS: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];

/// How long the user waits at most until a fetch that hears nothing notices that it is cancelled.
const CANCEL_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How much of what git says is kept.
const WORDS_MAX: usize = 8 << 10;

/// The host's git, in one repository.
pub(super) struct Git {
    directory: PathBuf,
    /// The repository as the user wrote it.
    shown: String,
}

impl Git {
    pub(super) fn new(directory: &Path, shown: String) -> Self {
        Self { directory: directory.to_owned(), shown }
    }

    pub(super) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory).args(arguments);
        for name in POINTERS {
            command.env_remove(name);
        }
        // Nobody is there to answer: fail instead of asking. The words must be those we know.
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        if std::env::var_os("GIT_SSH_COMMAND").is_none() && std::env::var_os("GIT_SSH").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs git and gives what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(arguments).output().map_err(|error| self.not_started(&error))?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(&output.stderr)) }
    }

    /// The full id of a commit in a repository of this host.
    pub(super) fn resolve(&self, reference: Option<&str>) -> Result<String> {
        self.run(&["rev-parse", "--git-dir"])?;
        let name = format!("{}^{{commit}}", reference.unwrap_or("HEAD"));
        match self.run(&["rev-parse", "--verify", "--quiet", &name]) {
            Ok(id) => self.id(&id),
            Err(LayerError::Seed { .. }) => Err(match reference {
                Some(name) => refused(
                    &self.shown,
                    format!("there is no commit named {name}"),
                    "git branch -a and git tag list what there is",
                ),
                None => refused(
                    &self.shown,
                    "it has no commit yet",
                    "commit something first, or seed the directory itself with --seed-path",
                ),
            }),
            Err(other) => Err(other),
        }
    }

    /// Fetches one commit of a remote repository, without its history, and gives its id.
    pub(super) fn fetch(
        &self,
        url: &str,
        reference: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<String> {
        self.run(&["init", "--quiet", "--bare", "--template="])?;
        let reference = reference.unwrap_or("HEAD");
        let arguments = ["fetch", "--depth=1", "--no-tags", "--progress", "--", url, reference];
        let mut child = self
            .command(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let heard = match child.stderr.take() {
            Some(words) => listen(words, progress),
            None => Ok(Vec::new()),
        };
        if heard.is_err() {
            // It may have ended by itself meanwhile; that is as good.
            let _ = child.kill();
        }
        let status = child.wait().map_err(LayerError::io("cannot wait for git"))?;
        let words = heard?;
        if !status.success() {
            return Err(self.failed(&words));
        }
        self.id(&self.run(&["rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}"])?)
    }

    /// When a commit was made, seconds since the epoch.
    pub(super) fn time_of(&self, commit: &str) -> Result<i64> {
        let printed =
            self.run(&["show", "--no-patch", "--no-show-signature", "--format=%ct", commit])?;
        let time = std::str::from_utf8(&printed).ok().and_then(|text| text.trim().parse().ok());
        time.ok_or_else(|| self.misunderstood())
    }

    fn id(&self, printed: &[u8]) -> Result<String> {
        let id = String::from_utf8_lossy(printed).trim().to_owned();
        let sound = id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if sound { Ok(id) } else { Err(self.misunderstood()) }
    }

    /// Git printed what it never should.
    pub(super) fn misunderstood(&self) -> LayerError {
        refused(
            &self.shown,
            "git's answer makes no sense",
            "git fsck tells whether the repository is sound; a newer git may help",
        )
    }

    pub(super) fn not_started(&self, error: &std::io::Error) -> LayerError {
        match error.kind() {
            std::io::ErrorKind::NotFound => refused(
                &self.shown,
                "git is not installed",
                "install git, or seed a directory or an archive with --seed-path",
            ),
            _ => refused(&self.shown, format!("git does not start: {error}"), "run git yourself"),
        }
    }

    /// Git's own last words, and what to do about the usual ones.
    pub(super) fn failed(&self, stderr: &[u8]) -> LayerError {
        let text = String::from_utf8_lossy(stderr);
        let lines = || text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
        // After its complaint git may still tell what could be done; the complaint is wanted.
        let last =
            lines().rfind(|line| line.starts_with("fatal: ")).or_else(|| lines().next_back());
        let reason = last.unwrap_or("git failed without a word").trim_start_matches("fatal: ");
        let hint = if text.contains("dubious ownership") {
            "git config --global --add safe.directory PATH lets git read it"
        } else if text.contains("not a git repository") || text.contains("cannot change to") {
            "give the path of a git repository, or use --seed-path for a plain directory"
        } else if text.contains("couldn't find remote ref") {
            "git ls-remote URL lists what there is"
        } else if text.contains("could not read Username") || text.contains("Permission denied") {
            "set up access first: git ls-remote URL must work without asking"
        } else {
            "try the same with git itself; git ls-remote URL must work without asking"
        };
        refused(&self.shown, reason.to_owned(), hint)
    }
}

/// Hears git out, and stops when the user has had enough.
fn listen(mut words: impl Read + AsFd, progress: &dyn Progress) -> Result<Vec<u8>> {
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        if progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        let mut ready = [PollFd::new(&words, PollFlags::IN)];
        match poll(&mut ready, Some(&CANCEL_WITHIN)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(LayerError::io("cannot listen to git")(errno.into())),
        }
        match words.read(&mut buffer).map_err(LayerError::io("cannot listen to git"))? {
            0 => return Ok(heard),
            got => heard.extend(&buffer[..got]),
        }
        // Only the end tells why it failed.
        let surplus = heard.len().saturating_sub(WORDS_MAX);
        heard.drain(..surplus);
    }
}
