//! The user's project on the host: what a workspace starts as if nobody says otherwise, and the only
//! place of the host that a model may reach through pyro.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use pyro_contract::{Error, ErrorCode, Result};
use serde_json::{Value, json};
use tokio::process::Command;

/// So many paths are named where there are more.
const NAMED: usize = 5;

/// Where a call may read and write on the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The project, if it is known.
    pub(crate) project: Option<PathBuf>,
    /// Further directories that the user allowed.
    pub(crate) allowed: Vec<PathBuf>,
}

impl Places {
    /// A path of a request as the host will use it, if the model may reach it.
    ///
    /// Links are followed as far as the path exists, so none leads out.
    pub(crate) fn admit(&self, field: &str, path: &str) -> Result<String> {
        let base = self.project.as_deref().or(self.allowed.first().map(PathBuf::as_path));
        let Some(base) = base else {
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                format!("{field} names a path of the host, and none may be reached"),
            )
            .with_cause("the server knows no project")
            .with_hint(
                "the user starts `pyro mcp serve` with --project-path, or opens a project in the \
                 client, or names directories with --allow-path",
            ));
        };
        let path = base.join(path);
        let real = resolve(&path).ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("{field}: {} leads through `..`", path.display()),
            )
            .with_hint("name the path without it")
        })?;
        let inside =
            |allowed: &PathBuf| resolve(allowed).is_some_and(|root| real.starts_with(root));
        if !self.project.iter().chain(&self.allowed).any(inside) {
            let shown: Vec<_> = self.project.iter().chain(&self.allowed).collect();
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                format!("{field}: {} may not be reached", path.display()),
            )
            .with_hint(format!(
                "stay below {}; the user can allow more with --allow-path",
                shown.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
            )));
        }
        real.into_os_string().into_string().map_err(|path| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("{field}: {} is not UTF-8", path.display()),
            )
            .with_hint("choose another path")
        })
    }

    /// A seed that a model chose, its paths admitted.
    pub(crate) fn admit_seed(&self, seed: &mut Value) -> Result<()> {
        let field = match seed["kind"].as_str() {
            Some("path") => "path",
            // What is no path here is a URL, which the host's git fetches.
            Some("git") if is_local(&seed["repository"]) => "repository",
            _ => return Ok(()),
        };
        if let Some(path) = seed[field].as_str() {
            let path = path.strip_prefix("file://").unwrap_or(path);
            seed[field] = self.admit(&format!("seed.{field}"), path)?.into();
        }
        Ok(())
    }
}

/// True for a repository of this host: no URL but `file://`, and nothing like `host:path`.
fn is_local(repository: &Value) -> bool {
    let Some(text) = repository.as_str() else { return false };
    let remote = match text.find(':') {
        Some(at) => text.get(..at).is_some_and(|before| !before.contains('/')),
        None => false,
    };
    text.starts_with("file://") || !remote
}

/// The path with the links of its existing part followed; `None` if `..` follows what does not exist.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        if let Ok(real) = existing.canonicalize() {
            return Some(missing.iter().rev().fold(real, |path, part| path.join(part)));
        }
        match existing.components().next_back()? {
            Component::Normal(part) => missing.push(part.to_owned()),
            _ => return None,
        }
        existing = existing.parent()?;
    }
}

/// What a workspace was seeded with because nobody said otherwise.
#[derive(Debug)]
pub(crate) struct ProjectSeed {
    /// The seed of the request.
    pub(crate) seed: Value,
    /// What the model should know of it.
    pub(crate) note: String,
}

/// The tracked files of the project as they are committed, unless that is not what the user sees.
pub(crate) async fn seed(project: &Path) -> Result<ProjectSeed> {
    let shown = project.display();
    let whole = json!({"kind": "path", "path": project});
    if git(project, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await.is_err() {
        return Err(Error::new(
            ErrorCode::InvalidSeed,
            format!("the project {shown} is no git checkout with a commit, so its tracked files are unknown"),
        )
        .with_hint(format!(
            "pass \"seed\": {whole} to take everything in it, or \"seed\": {{\"kind\": \"empty\"}} for nothing"
        )));
    }
    let arguments = ["status", "--porcelain=v1", "-z", "--untracked-files=normal", "--", "."];
    let listed = git(project, &arguments).await?;
    let checkout = Checkout::parse(&listed);
    let committed = json!({"kind": "git", "repository": project});
    if !checkout.changed.is_empty() {
        let mut message = format!(
            "the project {shown} has {} that a workspace of its tracked files would lack: {}",
            counted(checkout.changed.len(), "uncommitted change"),
            named(&checkout.changed)
        );
        if !checkout.untracked.is_empty() {
            let _ = write!(message, "; and {}", checkout.describe_untracked());
        }
        return Err(Error::new(ErrorCode::InvalidSeed, message).with_hint(format!(
            "commit or stash them; or pass \"seed\": {whole} to take the directory as it is, untracked \
             and ignored files too; or \"seed\": {committed} to go without them"
        )));
    }
    let mut note = format!("/workspace is the last commit of {shown}.");
    if !checkout.untracked.is_empty() {
        let _ = write!(
            note,
            " Not in it: {}. To include them, have them committed, or create it with \"seed\": {whole}.",
            checkout.describe_untracked()
        );
    }
    Ok(ProjectSeed { seed: committed, note })
}

/// What `git status` found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Checkout {
    changed: Vec<String>,
    untracked: Vec<String>,
}

impl Checkout {
    /// Of `git status --porcelain=v1 -z`: `XY PATH NUL`, and for a rename another `PATH NUL`.
    fn parse(listed: &[u8]) -> Self {
        let mut found = Self::default();
        let mut parts = listed.split(|byte| *byte == 0);
        while let Some(part) = parts.next() {
            let Some((state, path)) = part.split_at_checked(3) else { continue };
            let path = String::from_utf8_lossy(path).into_owned();
            match state {
                b"?? " => found.untracked.push(path),
                b"!! " => {}
                _ => {
                    if matches!(state.first(), Some(b'R' | b'C')) {
                        parts.next();
                    }
                    found.changed.push(path);
                }
            }
        }
        found
    }

    fn describe_untracked(&self) -> String {
        let count = counted(self.untracked.len(), "untracked file or directory");
        format!("{count}: {}", named(&self.untracked))
    }
}

fn counted(count: usize, what: &str) -> String {
    match (count, what) {
        (1, what) => format!("1 {what}"),
        (_, "untracked file or directory") => format!("{count} untracked files or directories"),
        (_, what) => format!("{count} {what}s"),
    }
}

fn named(paths: &[String]) -> String {
    let mut text = paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED {
        text += ", …";
    }
    text
}

async fn git(project: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new("git");
    command.arg("-C").arg(project).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    // A checkout may say what else to run; looking at it must run nothing.
    command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "core.fsmonitor").env("GIT_CONFIG_VALUE_0", "false");
    for pointer in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(pointer);
    }
    let output = command.output().await.map_err(|error| {
        Error::io("cannot run git", &error).with_hint("install git on the host")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::new(
        ErrorCode::InvalidSeed,
        format!("git cannot tell the state of {}", project.display()),
    )
    .with_cause(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    .with_hint("run `git status` there to see why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(project: &Path) -> Places {
        Places { project: Some(project.to_owned()), allowed: Vec::new() }
    }

    #[test]
    fn a_path_stays_in_the_project_whatever_it_is_made_of() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let project = root.join("project");
        std::fs::create_dir_all(project.join("sub")).unwrap();
        std::os::unix::fs::symlink("/etc", project.join("out")).unwrap();
        let places = places(&project);
        let inside = places.admit("output", "sub/new/file").unwrap();
        assert_eq!(Path::new(&inside), project.join("sub/new/file"));
        for path in ["../x", "sub/../../x", "out/passwd", "/etc/passwd", "new/../../x"] {
            let error = places.admit("output", path).unwrap_err();
            assert!(error.hint.is_some(), "{path}");
        }
        let allowed = Places { project: None, allowed: vec![root.clone()] };
        assert!(allowed.admit("output", "x").is_ok());
        let error = Places::default().admit("output", "x").unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied);
    }

    #[test]
    fn a_seed_from_the_host_is_held_to_the_same_places() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(temp.path());
        for mut seed in [
            json!({"kind": "path", "path": "/etc"}),
            json!({"kind": "git", "repository": "/root/secret"}),
            json!({"kind": "git", "repository": "file:///root/secret"}),
            json!({"kind": "git", "repository": "../other"}),
        ] {
            assert!(places.admit_seed(&mut seed).is_err(), "{seed}");
        }
        for mut seed in [
            json!({"kind": "empty"}),
            json!({"kind": "path", "path": "."}),
            json!({"kind": "git", "repository": "https://example.org/x.git"}),
            json!({"kind": "git", "repository": "git@example.org:x.git"}),
        ] {
            places.admit_seed(&mut seed).unwrap();
        }
    }

    #[test]
    fn the_state_of_a_checkout_is_read_with_any_names() {
        let listed = b" M a\0R  new name\0old\0?? dir/\0?? b\n\0!! ignored\0";
        let found = Checkout::parse(listed);
        assert_eq!(found.changed, ["a", "new name"]);
        assert_eq!(found.untracked, ["dir/", "b\n"]);
        assert_eq!(Checkout::parse(b""), Checkout::default());
    }

    #[test]
    fn many_paths_are_counted_and_a_few_named() {
        let paths: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        assert_eq!(named(&paths), "0, 1, 2, 3, 4, …");
        assert_eq!(counted(1, "uncommitted change"), "1 uncommitted change");
        assert_eq!(counted(2, "uncommitted change"), "2 uncommitted changes");
    }
}
