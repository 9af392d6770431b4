//! A host of its own for each test.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::user::User;

pub(crate) const PYRO: &str = env!("CARGO_BIN_EXE_pyro");

/// The parts of a PYRO_HOME that tests share.
const CACHE: [&str; 6] = ["environments", "images", "kernels", "boot", "templates", "locks"];

/// A PYRO_HOME for one test. Dropping it deletes every workspace and fails the test if anything
/// is left: a process, a file, a mount.
pub(crate) struct Host {
    temp: TempDir,
    home: PathBuf,
    /// Who runs pyro, if not whoever runs the tests.
    user: Option<User>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let temp = TempDir::with_prefix("pyro e2e ü ").unwrap();
        let home = temp.path().join("home");
        Self::at(temp, home)
    }

    /// The same with the home in a directory that the test prepared.
    pub(crate) fn at(temp: TempDir, home: PathBuf) -> Self {
        fs::create_dir_all(&home).unwrap();
        let shared = shared_home();
        for part in CACHE {
            if shared.join(part).exists() {
                symlink(shared.join(part), home.join(part)).unwrap();
            }
        }
        Self { temp, home, user: None }
    }

    /// A host on which pyro is run by an ordinary user. Needs root.
    pub(crate) fn of_a_user() -> Self {
        let temp = TempDir::with_prefix("pyro e2e user ").unwrap();
        let home = temp.path().join("home");
        fs::create_dir(&home).unwrap();
        let user = User::known();
        user.furnish(temp.path(), &home);
        Self { temp, home, user: Some(user) }
    }

    /// The same, with cgroups that the user was given to divide, where this host has any.
    #[allow(dead_code, reason = "the conformance suite needs it")]
    pub(crate) fn of_a_user_with_cgroups() -> Self {
        let mut host = Self::of_a_user();
        host.user = host.user.take().map(User::with_cgroups);
        host
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Gives a tree that the test made to whoever runs pyro.
    #[allow(dead_code, reason = "the conformance suite needs it")]
    pub(crate) fn hand_over(&self, path: &Path) {
        if let Some(user) = &self.user {
            user.take_over(path);
        }
    }

    /// A scratch path outside of the home.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = match &self.user {
            Some(user) => user.command(),
            None => Command::new(PYRO),
        };
        command
            .args(args)
            .env("PYRO_HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.temp.path().join("config"))
            .env_remove("PYRO_CONFIG")
            .env_remove("PYRO_LOG")
            .stdin(Stdio::null())
            .current_dir(self.temp.path());
        command
    }

    pub(crate) fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(&args);
        assert!(
            output.status.success(),
            "pyro {args:?} exited {:?}\n{}",
            output.status.code(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        let json = std::iter::once(OsStr::new("--json").to_owned());
        serde_json::from_str(&self.ok(json.chain(args))).unwrap()
    }

    /// Runs a command that must fail with this exit code; the error that it printed as JSON.
    #[track_caller]
    pub(crate) fn error<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        exit: i32,
    ) -> Value {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self
            .command([OsStr::new("--json")].into_iter().chain(args.iter().map(|a| &**a)))
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(exit),
            "pyro {args:?}\n{stdout}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let document: Value = serde_json::from_str(&stdout).unwrap();
        let error = document["error"].clone();
        assert!(error["message"].is_string(), "{document}");
        assert!(error["hint"].is_string(), "an error without a hint: {document}");
        error
    }

    /// Creates a workspace; its id.
    #[track_caller]
    pub(crate) fn create<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let fixed = ["workspace", "create", "debian:12", "--id-only"].map(OsStr::new);
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self.ok(fixed.into_iter().chain(args.iter().map(|arg| &**arg))).trim().to_owned()
    }

    /// Runs a shell script in a workspace; its stdout.
    #[track_caller]
    pub(crate) fn sh(&self, workspace: &str, script: &str) -> String {
        self.ok(["workspace", "exec", workspace, "--", "sh", "-ec", script])
    }

    pub(crate) fn status(&self, workspace: &str) -> Value {
        self.json(["workspace", "status", workspace])
    }

    /// Gives the home templates of its own, none yet, and its own locks, so that it does not wait
    /// for another that makes the same.
    pub(crate) fn without_templates(self) -> Self {
        for part in ["templates", "locks"] {
            let own = self.home.join(part);
            let _ = fs::remove_file(&own);
            fs::create_dir(&own).unwrap();
        }
        self
    }

    /// The names of the templates that are whole.
    pub(crate) fn templates(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.join("templates")).unwrap().flatten();
        let whole =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sha256-"));
        whole.map(|entry| entry.path()).collect()
    }

    /// Every process that has a file of this home open.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let home = fs::canonicalize(&self.home).unwrap_or_else(|_| self.home.clone());
        let workspaces = home.join("workspaces");
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let Ok(fds) = fs::read_dir(entry.path().join("fd")) else { continue };
            let ours = |fd: fs::DirEntry| {
                fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(&workspaces))
            };
            if fds.flatten().any(ours) {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until no process has a file of this home open.
    pub(crate) fn wait_until_quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "processes are left: {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The supervisors of the workspaces that run, as far as their records can be read.
    fn supervisors(&self) -> Vec<u64> {
        let names = self.leftovers().into_iter();
        let paths =
            names.map(|name| self.home.join("workspaces").join(name).join("workspace.json"));
        paths
            .filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok())
            .filter_map(|record| record["run"]["supervisor"]["pid"].as_u64())
            .collect()
    }

    /// What lies in the directory of the workspaces, besides the lock of the names.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.join("workspaces")) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".lock").collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let supervisors = self.supervisors();
        for name in self.leftovers() {
            if name.starts_with("ws-") {
                let _ = self.output(["workspace", "delete", &name]);
            }
        }
        let _ = self.output(["workspace", "list"]);
        if std::thread::panicking() {
            return;
        }
        self.wait_until_quiet();
        assert_eq!(self.leftovers(), Vec::<String>::new());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let ours = self.home.join("workspaces").to_string_lossy().replace(' ', "\\040");
        assert!(!mounts.contains(&ours), "a mount is left in {ours}");
        wait_for_cgroups(&supervisors);
    }
}

/// Waits until no cgroup is left of these supervisors, which have ended. The container engine names
/// them `pyro.PID.N`.
pub(crate) fn wait_for_cgroups(supervisors: &[u64]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name", "pyro.*.*", "-prune"])
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours =
            |path: &&str| supervisors.iter().any(|pid| path.contains(&format!("/pyro.{pid}.")));
        let left: Vec<&str> = found.lines().filter(ours).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "cgroups are left: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The home whose environments the tests use.
pub(crate) fn shared_home() -> PathBuf {
    let named = std::env::var_os("PYRO_TEST_HOME");
    let home = PathBuf::from(named.expect("PYRO_TEST_HOME names a store; use `make test`"));
    let images = home.join("images");
    assert!(images.exists(), "{} has no environments; use `make test`", home.display());
    home
}

/// Says loudly that a test did not run, and why.
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Fills a directory with files: `(path, content)`.
pub(crate) fn fill(dir: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Runs git in a directory; its stdout.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
