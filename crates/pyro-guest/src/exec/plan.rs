//! What exactly to run: a request, checked against this machine before anything is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pyro_wire::v1::exec_failed::Reason;
use pyro_wire::v1::{ExecFailed, ExecStart, TerminalSize};

use crate::users::{self, User};

/// As Debian's login(1) has it, with `sbin` for everybody: agents expect `ip` and the like.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the project is.
const WORKSPACE: &str = "/workspace";

/// Why a command cannot be started.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<Refusal> for ExecFailed {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason.into(), message: refusal.message }
    }
}

/// A command that can be started.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: PathBuf,
    /// Never empty.
    pub(crate) argv: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) user: User,
    pub(crate) stdin: bool,
    /// The size of the terminal that it gets.
    pub(crate) terminal: Option<TerminalSize>,
    /// How many files each process may have open, if that was said.
    pub(crate) open_files: Option<u64>,
}

impl Plan {
    /// Checks a request. Blocks, for it looks at the disk.
    pub(crate) fn new(start: &ExecStart) -> Result<Self, Refusal> {
        let mut argv: Vec<OsString> =
            start.argv.iter().map(|arg| OsString::from_vec(arg.to_vec())).collect();
        let login = argv.is_empty() && start.terminal.is_some();
        if !login && argv.first().is_none_or(|first| first.is_empty()) {
            return Err(Refusal::new(Reason::BadRequest, "there is no command"));
        }
        let texts = start.argv.iter().map(|arg| &arg[..]).chain([&start.cwd[..]]);
        if texts.into_iter().any(|text| text.contains(&0)) {
            return Err(Refusal::new(Reason::BadRequest, "an argument contains a NUL byte"));
        }
        let user = users::find(&start.user)
            .map_err(|error| Refusal::new(Reason::NoSuchUser, error.to_string()))?;
        let env = environment(start, &user)?;
        let cwd = working_directory(&start.cwd)?;
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let program = if login {
            let (program, called) = login_shell(&user.shell);
            argv.push(called);
            program
        } else {
            find_program(&argv[0], path.unwrap_or(OsStr::new(PATH)), &cwd)?
        };
        let open_files = start.limits.map_or(0, |limits| limits.open_file_count);
        let open_files = (open_files > 0).then_some(u64::from(open_files));
        let (stdin, terminal) = (start.stdin, start.terminal);
        Ok(Self { program, argv, cwd, env, user, stdin, terminal, open_files })
    }
}

/// The user's own shell, else bash, else sh; and the name by which it knows that somebody logs in
/// (see login(1)). Users that nobody logs in as have a program that only says so.
fn login_shell(own: &str) -> (PathBuf, OsString) {
    let own = Path::new(own);
    let refuses = matches!(
        own.file_name().and_then(OsStr::to_str),
        None | Some("nologin" | "false" | "true" | "sync")
    );
    let candidates = [own, Path::new("/bin/bash"), Path::new("/usr/bin/bash")];
    let program = candidates
        .into_iter()
        .skip(usize::from(refuses))
        .find(|program| program.is_absolute() && is_program(program))
        .unwrap_or(Path::new("/bin/sh"));
    let mut called = OsString::from("-");
    called.push(program.file_name().unwrap_or_default());
    (program.to_owned(), called)
}

/// What login(1) would set, and over it what was asked for.
fn environment(start: &ExecStart, user: &User) -> Result<Vec<(OsString, OsString)>, Refusal> {
    let defaults = [
        ("PATH", PATH),
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
        ("LANG", "C.UTF-8"),
        // Where there is no terminal, programs that ask shall hear so.
        ("TERM", if start.terminal.is_some() { "xterm-256color" } else { "dumb" }),
    ];
    let mut env: Vec<(OsString, OsString)> =
        defaults.map(|(name, value)| (name.into(), value.into())).into();
    for given in &start.env {
        let name = &given.name;
        if name.is_empty() || name.contains(['=', '\0']) || given.value.contains('\0') {
            return Err(Refusal::new(
                Reason::BadRequest,
                format!("{name:?} is no environment variable, or its value has a NUL byte"),
            ));
        }
        env.retain(|(known, _)| known != name.as_str());
        env.push((name.into(), given.value.clone().into()));
    }
    Ok(env)
}

fn working_directory(asked: &[u8]) -> Result<PathBuf, Refusal> {
    let cwd = if asked.is_empty() {
        PathBuf::from(WORKSPACE)
    } else {
        PathBuf::from(OsStr::from_bytes(asked))
    };
    if !cwd.is_absolute() {
        return Err(Refusal::new(
            Reason::BadRequest,
            format!("the working directory {} is not absolute", cwd.display()),
        ));
    }
    if !cwd.is_dir() {
        return Err(Refusal::new(
            Reason::NoSuchDirectory,
            format!("there is no directory {}", cwd.display()),
        ));
    }
    Ok(cwd)
}

/// What execvp(3) would run. Done here, since a failed exec does not tell whether it was the
/// program, its interpreter or a directory that was missing.
fn find_program(name: &OsStr, path: &OsStr, cwd: &Path) -> Result<PathBuf, Refusal> {
    let mut candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![cwd.join(name)]
    } else {
        // An empty element of PATH means the working directory.
        std::env::split_paths(path).map(|directory| cwd.join(directory).join(name)).collect()
    };
    candidates.retain(|candidate| candidate.exists());
    let shown = Path::new(name).display();
    if let Some(found) = candidates.iter().find(|candidate| is_program(candidate)) {
        return Ok(found.clone());
    }
    if candidates.is_empty() {
        return Err(Refusal::new(Reason::CommandNotFound, format!("{shown}: command not found")));
    }
    Err(Refusal::new(Reason::NotExecutable, format!("{shown}: permission denied")))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_wire::v1::EnvVar;

    fn start(argv: &[&str]) -> ExecStart {
        ExecStart {
            argv: argv.iter().map(|arg| arg.as_bytes().to_vec().into()).collect(),
            cwd: b"/".to_vec().into(),
            ..ExecStart::default()
        }
    }

    fn reason(start: &ExecStart) -> Reason {
        Plan::new(start).unwrap_err().reason
    }

    #[test]
    fn a_program_is_found_in_path_and_keeps_its_name() {
        let plan = Plan::new(&start(&["sh", "-c", "exit"])).unwrap();
        assert!(plan.program.is_absolute() && plan.program.ends_with("sh"));
        assert_eq!(plan.argv[0], "sh");
    }

    #[test]
    fn every_refusal_has_its_own_reason() {
        assert_eq!(reason(&start(&[])), Reason::BadRequest);
        assert_eq!(reason(&start(&["a\0b"])), Reason::BadRequest);
        assert_eq!(reason(&start(&["no-such-program"])), Reason::CommandNotFound);
        assert_eq!(reason(&start(&["/etc/passwd"])), Reason::NotExecutable);
        assert_eq!(reason(&start(&["/etc"])), Reason::NotExecutable);
        let user = "no-such-user".into();
        assert_eq!(reason(&ExecStart { user, ..start(&["sh"]) }), Reason::NoSuchUser);
        let cwd = b"/no/such".to_vec().into();
        assert_eq!(reason(&ExecStart { cwd, ..start(&["sh"]) }), Reason::NoSuchDirectory);
        let cwd = b"relative".to_vec().into();
        assert_eq!(reason(&ExecStart { cwd, ..start(&["sh"]) }), Reason::BadRequest);
    }

    #[test]
    fn without_a_command_a_terminal_shows_a_login_shell() {
        let terminal = Some(TerminalSize { rows: 24, columns: 80 });
        let plan = Plan::new(&ExecStart { terminal, ..start(&[]) }).unwrap();
        assert!(plan.argv[0].as_bytes().starts_with(b"-"), "{:?}", plan.argv);
        assert!(plan.env.contains(&("TERM".into(), "xterm-256color".into())));
        let (program, called) = login_shell("/bin/sh");
        assert_eq!((program.to_str(), called.to_str()), (Some("/bin/sh"), Some("-sh")));
        for nobody in ["/usr/sbin/nologin", "/bin/false", "", "relative", "/no/such/shell"] {
            assert!(login_shell(nobody).0.ends_with("bash"), "{nobody}");
        }
        assert_eq!(reason(&ExecStart { terminal, ..start(&[""]) }), Reason::BadRequest);
    }

    #[test]
    fn a_given_variable_wins_over_the_default() {
        let var = |name: &str, value: &str| EnvVar { name: name.into(), value: value.into() };
        let env = vec![var("HOME", "/a"), var("HOME", "/b"), var("X", "")];
        let plan = Plan::new(&ExecStart { env, ..start(&["sh"]) }).unwrap();
        let homes: Vec<_> = plan.env.iter().filter(|(name, _)| name == "HOME").collect();
        assert_eq!(homes, [&("HOME".into(), "/b".into())]);
        let env = vec![var("A=B", "")];
        assert_eq!(reason(&ExecStart { env, ..start(&["sh"]) }), Reason::BadRequest);
    }
}
