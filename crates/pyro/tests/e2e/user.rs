//! An ordinary user, made for tests that root runs.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{PYRO, shared_home};

const NAME: &str = "pyro-tests";

/// What of the shared home a user gets his own names for.
const CACHE: [&str; 4] = ["environments", "images", "kernels", "boot"];

/// Somebody with a range of ids and nothing else.
pub(crate) struct User {
    id: u32,
    /// Things of his that tests share.
    place: PathBuf,
    /// Cgroups that are his to divide.
    cgroups: Vec<PathBuf>,
}

impl User {
    /// Makes the account, if it is not there yet.
    pub(crate) fn known() -> Self {
        let place = std::env::temp_dir().join(NAME);
        fs::create_dir_all(&place).unwrap();
        let lock = File::create(place.join("lock")).unwrap();
        lock.lock().unwrap();
        let id = || {
            let output = Command::new("id").args(["-u", NAME]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().ok()
        };
        if id().is_none() {
            run("useradd", ["--no-create-home", "--home-dir", "/nonexistent", NAME]);
        }
        let id = id().unwrap();
        let user = Self { id, place, cgroups: Vec::new() };
        // Debian's `useradd` gives a range by itself, unless it makes an account of the system.
        let subuid = fs::read_to_string("/etc/subuid").unwrap_or_default();
        if !subuid.lines().any(|line| line.starts_with(&format!("{NAME}:"))) {
            let range = ["--add-subuids", "700000000-700065535", "--add-subgids"];
            run("usermod", range.into_iter().chain(["700000000-700065535", NAME]));
        }
        let derived = user.place.join("derived");
        if !derived.exists() {
            fs::create_dir(&derived).unwrap();
            user.own(&derived);
        }
        user
    }

    /// The program where he can run it: not below a directory of root's alone.
    fn program(&self) -> PathBuf {
        let meta = fs::metadata(PYRO).unwrap();
        let modified = meta.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        let copy = self.place.join(format!("pyro-{}-{}", meta.len(), modified.as_nanos()));
        if !copy.exists() {
            let unfinished = tempfile::NamedTempFile::new_in(&self.place).unwrap();
            fs::copy(PYRO, unfinished.path()).unwrap();
            fs::set_permissions(unfinished.path(), fs::Permissions::from_mode(0o755)).unwrap();
            // No descriptor may be left that is open for writing: it could not be run.
            unfinished.into_temp_path().persist(&copy).unwrap();
        }
        copy
    }

    fn own(&self, path: &Path) {
        chown(path, Some(self.id), Some(self.id)).unwrap();
    }

    /// Makes a tree his.
    pub(crate) fn take_over(&self, path: &Path) {
        let owner = format!("{NAME}:");
        run("chown", ["-hR".as_ref(), owner.as_ref(), path.as_os_str()]);
    }

    /// Gives him a scratch directory and a home with what the shared home has: the files by further
    /// names, so that it takes no time, the directories his own.
    pub(crate) fn furnish(&self, scratch: &Path, home: &Path) {
        let shared = shared_home();
        for part in CACHE {
            let (from, to) = (shared.join(part), home.join(part));
            let linked = Command::new("cp").arg("-al").args([&from, &to]).output().unwrap();
            if !linked.status.success() {
                let _ = fs::remove_dir_all(&to);
                run("cp", ["-a".as_ref(), from.as_os_str(), to.as_os_str()]);
            }
        }
        let owner = format!("{NAME}:");
        let words = [home.as_os_str(), "-type".as_ref(), "d".as_ref(), "-exec".as_ref()];
        let action = ["chown", &owner, "{}", "+"].map(std::ffi::OsStr::new);
        run("find", words.into_iter().chain(action));
        symlink(self.place.join("derived"), home.join("derived")).unwrap();
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o755)).unwrap();
        self.own(scratch);
    }

    /// Gives him a cgroup in each hierarchy there is.
    #[allow(dead_code, reason = "the conformance suite needs it")]
    pub(crate) fn with_cgroups(mut self) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let wanted = ["memory", "pids", "cpu"];
            let has = fields[3].split(',').any(|option| wanted.contains(&option));
            if fields[2] != "cgroup2" && !(fields[2] == "cgroup" && has) {
                continue;
            }
            let own = Path::new(fields[1]).join(format!("{NAME}.{}", std::process::id()));
            if fs::create_dir(&own).is_err() {
                continue;
            }
            self.own(&own);
            for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
                if own.join(file).exists() {
                    self.own(&own.join(file));
                }
            }
            self.cgroups.push(own);
        }
        self
    }

    /// pyro as he runs it.
    pub(crate) fn command(&self) -> Command {
        // Into his cgroups first, which he may not do himself.
        let script = "for group; do shift; [ \"$group\" = -- ] && break; \
                      echo $$ > \"$group/cgroup.procs\" || exit 99; done; exec \"$@\"";
        let id = self.id.to_string();
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .args(&self.cgroups)
            .args(["--", "setpriv", "--reuid", &id, "--regid", &id, "--init-groups"])
            .args(["--inh-caps=-all", "--"])
            .arg(self.program())
            .env("USER", NAME)
            .env("HOME", "/nonexistent");
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            let find = Command::new("find").arg(cgroup).args(["-depth", "-type", "d"]).output();
            let found = String::from_utf8_lossy(&find.unwrap().stdout).into_owned();
            for path in found.lines() {
                let _ = fs::remove_dir(path);
            }
        }
    }
}

#[track_caller]
fn run<S: AsRef<std::ffi::OsStr>>(program: &str, args: impl IntoIterator<Item = S>) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
