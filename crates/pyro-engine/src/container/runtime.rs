//! The OCI runtime: which one, and how it is spoken to.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pyro_contract::workspace::Isolation;

use super::stage;
use crate::program::find_program;

/// What is looked for where nobody names a runtime. `crun` starts a container in a third of the
/// time that `runc` takes; that it refuses hosts with both versions of cgroups does not matter
/// here, for it is shown the second version alone.
const KNOWN: &[(&str, &str)] = &[("crun", "crun"), ("runc", "runc")];

/// The package that is recommended where there is none.
pub(super) const PACKAGE: &str = "crun";

/// The descriptor with which PID 1 finds its host, and the next after it.
pub(super) const FIRST_FD: i32 = 3;

/// How a runtime likes to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The command line of `runc`, which most others follow.
    Runc,
    /// `crun`: the same, but it can be told to leave the cgroups alone, which it is started in.
    Crun,
    /// gVisor's: a kernel of its own, in user space.
    Runsc,
}

/// An installed runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runtime {
    pub(super) program: PathBuf,
    pub(super) dialect: Dialect,
}

impl Runtime {
    /// The runtime of this name or path; without one the first that is installed.
    pub(super) fn find(asked: Option<&Path>) -> Option<Self> {
        let program = match asked {
            Some(asked) => find_program(asked)?,
            None => KNOWN.iter().find_map(|(name, _)| find_program(name))?,
        };
        // Debian's alternatives and Nix's wrappers are links; what they lead to has the name.
        let named = |path: &Path, part: &str| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
        };
        let real = std::fs::canonicalize(&program).unwrap_or_else(|_| program.clone());
        let is = |part| named(&program, part) || named(&real, part);
        let dialect = match (is("runsc"), is("crun")) {
            (true, _) => Dialect::Runsc,
            (false, true) => Dialect::Crun,
            (false, false) => Dialect::Runc,
        };
        Some(Self { program: real, dialect })
    }

    /// Which program this is, and of which version.
    pub(super) fn fingerprint(&self) -> io::Result<String> {
        let meta = fs::metadata(&self.program)?;
        let (length, time) = (meta.len(), (meta.mtime(), meta.mtime_nsec()));
        Ok(format!("{} {length} {}.{:09}", self.program.display(), time.0, time.1))
    }

    pub(super) fn isolation(&self) -> Isolation {
        match self.dialect {
            Dialect::Runc | Dialect::Crun => Isolation::SharedKernel,
            Dialect::Runsc => Isolation::UserKernel,
        }
    }

    /// True if the container's mounts are the host kernel's, which can add one while it runs.
    pub(super) fn takes_mounts_while_running(&self) -> bool {
        self.dialect != Dialect::Runsc
    }

    /// True if the runtime puts the container into the cgroup that it is told; otherwise the
    /// container stays where the runtime was started. Moving waits for a grace period of RCU, some
    /// milliseconds, so starting in the right place is better.
    pub(super) fn moves_into_cgroup(&self) -> bool {
        self.dialect != Dialect::Crun
    }

    /// The whole command line that starts a container and then returns. `fds` are passed on, from
    /// [`FIRST_FD`] up.
    pub(super) fn arguments(&self, id: &str, fds: usize) -> Vec<CString> {
        let program = self.program.display().to_string();
        let mut words = vec![program, "--root".into(), stage::RUNTIME_STATE.into()];
        match self.dialect {
            Dialect::Runc | Dialect::Crun => {
                if self.dialect == Dialect::Crun {
                    words.push("--cgroup-manager=disabled".into());
                }
                words.push("run".into());
                words.extend(["--preserve-fds".into(), fds.to_string()]);
            }
            Dialect::Runsc => {
                // Its network is a stack of its own with nothing but `lo`, and its files are those of
                // the mounts that it is given, written through.
                words.extend(["--network=none", "--overlay2=none"].map(String::from));
                words.push("run".into());
                let last = FIRST_FD + fds as i32;
                words.extend((FIRST_FD..last).map(|fd| format!("--pass-fd={fd}:{fd}")));
            }
        }
        let pid_file = stage::PID_FILE.to_string_lossy();
        let detached = ["--detach", "--bundle", stage::BUNDLE, "--pid-file", &pid_file];
        words.extend(detached.map(String::from));
        words.push(id.into());
        // A path may hold any byte but NUL, which no path that was found does.
        words.into_iter().filter_map(|word| CString::new(word).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(dialect: Dialect) -> String {
        let runtime = Runtime { program: "/usr/bin/x".into(), dialect };
        let words = runtime.arguments("pyro", 2);
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_runtime_is_told_in_its_own_words_what_to_pass_on() {
        let runc = words(Dialect::Runc);
        assert!(runc.starts_with("/usr/bin/x --root ") && runc.ends_with(" pyro"), "{runc}");
        assert!(runc.contains(" run --preserve-fds 2 --detach "), "{runc}");
        let crun = words(Dialect::Crun);
        assert!(crun.contains(" --cgroup-manager=disabled run --preserve-fds 2 "), "{crun}");
        let runsc = words(Dialect::Runsc);
        assert!(runsc.contains("--network=none") && !runsc.contains("preserve"), "{runsc}");
        assert!(runsc.contains(" run --pass-fd=3:3 --pass-fd=4:4 --detach "), "{runsc}");
    }

    #[test]
    fn gvisor_is_known_by_its_name_and_counts_as_a_kernel_in_user_space() {
        let bin = tempfile::tempdir().unwrap();
        for (name, isolation) in [
            ("runsc", Isolation::UserKernel),
            ("runc", Isolation::SharedKernel),
            ("crun", Isolation::SharedKernel),
        ] {
            let path = bin.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert_eq!(Runtime::find(Some(&path)).unwrap().isolation(), isolation, "{name}");
        }
        assert_eq!(Runtime::find(Some(Path::new("/no/such/runtime"))), None);
    }
}
