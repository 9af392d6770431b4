//! The tracked files of a git commit, exactly as they were committed.
//!
//! The host's own `git` reads the repository. Not `git archive`, which obeys `export-ignore` and
//! `export-subst` and so gives other files than were committed; and no checkout, which would run
//! filters: the tree is listed with `ls-tree`, and one `cat-file --batch` gives the contents.

mod batch;
mod program;

use std::path::{Path, PathBuf};

use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress;

use self::batch::Batch;
use self::program::Git;
use super::SeedReport;
use super::meter::Meter;
use crate::erofs::{Content, ErofsWriter, NewNode, ReadSource};
use crate::layer::{LayerError, Result};

/// A repository, and what of it: `PATH-or-URL[#REF]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSeed {
    repository: Repository,
    reference: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Repository {
    Local(PathBuf),
    Remote(String),
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedCommit {
    /// The commit's full id.
    pub commit: String,
    /// The files.
    pub report: SeedReport,
}

impl GitSeed {
    /// Reads what the user wrote. A path that exists is taken whole, even with a `#` in it.
    ///
    /// # Errors
    /// [`LayerError::Seed`] if a part is missing, or is one that git would take for an option.
    pub fn parse(text: &str) -> Result<Self> {
        let (place, reference) = match text.rsplit_once('#') {
            Some((place, reference)) if !Path::new(text).exists() => (place, Some(reference)),
            _ => (text, None),
        };
        let odd = |part: &str| {
            part.is_empty() || part.starts_with('-') || part.contains(|c: char| c.is_control())
        };
        let remote = is_remote(place);
        if place.is_empty() || (remote && odd(place)) {
            return Err(refused(text, "it does not name a repository", SYNTAX));
        }
        if reference.is_some_and(odd) {
            return Err(refused(text, "what follows the # is not the name of a commit", SYNTAX));
        }
        // In a fetch these would be more than a name: a source and a target, or a pattern.
        if remote && reference.is_some_and(|name| name.contains([':', '*', '^', '+', ' '])) {
            return Err(refused(text, "what follows the # is not a branch, tag or commit", SYNTAX));
        }
        let repository = match remote {
            true => Repository::Remote(place.to_owned()),
            false => Repository::Local(PathBuf::from(place)),
        };
        Ok(Self { repository, reference: reference.map(str::to_owned) })
    }

    fn shown(&self) -> String {
        match &self.repository {
            Repository::Local(path) => crate::hostdir::shown(path),
            Repository::Remote(url) => without_password(url),
        }
    }
}

const SYNTAX: &str = "write PATH or URL, and #BRANCH, #TAG or #COMMIT after it if need be";

/// `scheme://…`, or `host:path` as ssh has it, unless a slash comes before the colon.
fn is_remote(place: &str) -> bool {
    let scp_like = |(host, _): (&str, &str)| !host.is_empty() && !host.contains('/');
    place.contains("://")
        || (!Path::new(place).exists() && place.split_once(':').is_some_and(scp_like))
}

/// A URL may carry a password, which has no place in a message.
fn without_password(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) if !user.contains('/') => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

/// Packs the tree of a commit. `scratch` is an existing empty directory that a remote repository
/// is fetched into; the caller removes it.
///
/// # Errors
/// [`LayerError::Seed`] if git is missing or refuses, with its own last words;
/// [`LayerError::Cancelled`]; [`LayerError::Io`] if the image cannot be written.
pub fn pack_git(
    seed: &GitSeed,
    scratch: &Path,
    writer: &mut ErofsWriter,
    progress: &dyn Progress,
) -> Result<PackedCommit> {
    let (git, commit) = match &seed.repository {
        Repository::Local(path) => {
            let git = Git::new(path, seed.shown());
            let commit = git.resolve(seed.reference.as_deref())?;
            (git, commit)
        }
        Repository::Remote(url) => {
            let git = Git::new(scratch, seed.shown());
            progress.stage("fetching the repository");
            let commit = git.fetch(url, seed.reference.as_deref(), progress)?;
            (git, commit)
        }
    };
    let mtime = git.time_of(&commit)?;
    let listing = git.run(&["ls-tree", "-r", "-z", "--full-tree", &commit])?;
    let tracked: Vec<Tracked<'_>> = listing
        .split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .map(|line| Tracked::parse(line).ok_or_else(|| git.misunderstood()))
        .collect::<Result<_>>()?;
    let mut meter = Meter::new(progress, "packing the commit");
    meter.expect(tracked.len() as u64);
    // Git has no directories of their own: they are as old as the commit.
    writer.missing_parents_as(NewNode::of_root(0o755, mtime));
    writer.add(b"", NewNode::of_root(0o755, mtime), Content::Directory)?;
    let blobs = tracked.iter().filter(|entry| entry.kind != Kind::Submodule);
    let objects: Vec<&[u8]> = blobs.map(|entry| entry.object).collect();
    Batch::run(&git, &objects, |batch| {
        tracked.iter().try_for_each(|entry| pack(entry, mtime, batch, writer, &mut meter))
    })?;
    Ok(PackedCommit { commit, report: meter.finish() })
}

fn pack(
    entry: &Tracked<'_>,
    mtime: i64,
    batch: &mut Batch<'_>,
    writer: &mut ErofsWriter,
    meter: &mut Meter<'_>,
) -> Result<()> {
    match entry.kind {
        Kind::Submodule => {
            meter.skip(entry.path, "it is a submodule; its directory is left empty");
            writer.add(entry.path, NewNode::of_root(0o755, mtime), Content::Directory)?;
            meter.entry(0)
        }
        Kind::Symlink => {
            let target = batch.small()?;
            let node = NewNode::of_root(0o777, mtime);
            writer.add(entry.path, node, Content::Symlink(&target))?;
            meter.entry(0)
        }
        Kind::File { executable } => {
            let size = batch.header()?;
            let node = NewNode::of_root(if executable { 0o755 } else { 0o644 }, mtime);
            {
                let mut source = meter.watch(ReadSource(batch.content(size)));
                writer.add(entry.path, node, Content::File { size, source: &mut source })?;
            }
            batch.end()?;
            meter.entry(size)
        }
    }
}

/// One line of `ls-tree`.
#[derive(Debug, PartialEq, Eq)]
struct Tracked<'a> {
    kind: Kind,
    object: &'a [u8],
    path: &'a [u8],
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Kind {
    File { executable: bool },
    Symlink,
    Submodule,
}

impl<'a> Tracked<'a> {
    /// `MODE SP TYPE SP OBJECT TAB PATH`
    fn parse(line: &'a [u8]) -> Option<Self> {
        let tab = line.iter().position(|byte| *byte == b'\t')?;
        let mut words = line[..tab].split(|byte| *byte == b' ');
        let kind = match words.next()? {
            b"100755" => Kind::File { executable: true },
            b"120000" => Kind::Symlink,
            b"160000" => Kind::Submodule,
            // Old repositories have 100664 too.
            mode if mode.starts_with(b"100") => Kind::File { executable: false },
            _ => return None,
        };
        let (_type, object) = (words.next()?, words.next()?);
        let hex = object.iter().all(u8::is_ascii_hexdigit) && !object.is_empty();
        (hex && words.next().is_none()).then_some(Self { kind, object, path: &line[tab + 1..] })
    }
}

fn refused(path: &str, reason: impl Into<String>, hint: &'static str) -> LayerError {
    LayerError::Seed { path: BytePath::new(path).to_string(), reason: reason.into(), hint }
}

#[cfg(test)]
mod tests;
