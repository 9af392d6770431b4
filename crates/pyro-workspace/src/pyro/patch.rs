//! Applying patches to a running workspace.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyro_contract::diff::FileKind;
use pyro_contract::journal::EventKind;
use pyro_contract::patch::{PATCH_BYTES_MAX, PatchApplied, PatchApplyRequest, PatchedFile};
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::patch::{
    ApplyOptions, Before, Misfit, MisfitReason, Patch, PatchError, Patched, PatchedBlob,
    parse_patch,
};
use pyro_wire::v1::expected::State;
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::{Expected, TreeLink, TreeMode, TreePut, TreeRemove};
use sha2::Digest as _;

use super::Pyro;
use super::files::{look, missing, read_whole};
use crate::client::tree::TreeTransaction;
use crate::files::Located;
use crate::home::WorkspaceDir;

/// Names that are taken from the front of paths at most, when it is found out how many.
const STRIP_MAX: u32 = 8;

/// Misfits that are told.
const TOLD: usize = 5;

/// Paths of a journal's entry.
const NOTED: usize = 100;

impl Pyro {
    /// Applies a patch to `/workspace`, all of it or nothing.
    pub async fn apply_patch(&self, request: &PatchApplyRequest) -> Result<PatchApplied> {
        let text = match &request.patch_base64 {
            Some(exact) => STANDARD.decode(exact.trim()).map_err(|error| {
                Error::new(ErrorCode::InvalidArgument, "the patch is not base64")
                    .with_cause(error.to_string())
                    .with_hint("plain text goes into `patch`")
            })?,
            None => request.patch.clone().into_bytes(),
        };
        if text.len() as u64 > PATCH_BYTES_MAX {
            return Err(too_large("the patch is too large"));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::new(ErrorCode::InvalidArgument, "the patch is empty")
                .with_hint("`git diff --binary` makes one"));
        }
        let dir = self.open(&request.workspace).await?;
        let directory = request.directory.as_deref().unwrap_or(".");
        let asked = BytePath::new(directory);
        let root = look(&dir, &asked, true, 0).await?;
        if root.kind != Some(FileKind::Directory) {
            return Err(missing(&asked));
        }
        let tree = Tree { dir: &dir, root: root.resolved };
        let (patch, before) = tree.read(&text, request.strip).await?;
        let options = ApplyOptions { fuzz: request.fuzz, max_bytes: PATCH_BYTES_MAX };
        let patched = patch.apply(&before, &options).map_err(refused)?;
        let patched = patched.map_err(|misfits| does_not_fit(&misfits))?;
        if !patched.is_empty() {
            tree.commit(&patched, &before, request.dry_run).await?;
        }
        Ok(PatchApplied {
            files: patched.into_iter().map(told).collect(),
            dry_run: request.dry_run,
        })
    }
}

/// Where a patch is applied.
struct Tree<'a> {
    dir: &'a WorkspaceDir,
    /// Absolute, links resolved.
    root: BytePath,
}

impl Tree<'_> {
    /// Parses a patch, and reads all that it is about.
    async fn read(
        &self,
        text: &[u8],
        strip: Option<u32>,
    ) -> Result<(Patch, BTreeMap<Vec<u8>, Before>)> {
        let patch = parse_patch(text, strip).map_err(refused)?;
        let before = self.before(&patch.paths()).await?;
        if strip.is_some() || is_there(&patch, &before) {
            return Ok((patch, before));
        }
        // Another number of names from the front may name files that there are.
        for other in 0..=STRIP_MAX {
            let Ok(patch) = parse_patch(text, Some(other)) else { continue };
            let first: BTreeSet<&[u8]> = patch.sources().take(1).collect();
            let found = self.before(&first).await?;
            if found.values().all(|it| matches!(it, Before::Blob(_))) && !found.is_empty() {
                let before = self.before(&patch.paths()).await?;
                if is_there(&patch, &before) {
                    return Ok((patch, before));
                }
            }
        }
        Ok((patch, before))
    }

    async fn before(&self, paths: &BTreeSet<&[u8]>) -> Result<BTreeMap<Vec<u8>, Before>> {
        let mut before = BTreeMap::new();
        let mut bytes = 0;
        for path in paths {
            let found = self.one(path).await?;
            if let Before::Blob(blob) = &found {
                bytes += blob.content.len() as u64;
                if bytes > PATCH_BYTES_MAX {
                    return Err(too_large("the files that the patch is for are too large"));
                }
            }
            before.insert(path.to_vec(), found);
        }
        Ok(before)
    }

    async fn one(&self, path: &[u8]) -> Result<Before> {
        let absolute = BytePath::new([self.root.as_bytes(), b"/", path].concat());
        let found = match look(self.dir, &absolute, false, 0).await {
            Ok(found) => found,
            // A file stands where a directory would have to be.
            Err(error) if error.code == ErrorCode::InvalidArgument => return Ok(Before::Nothing),
            Err(error) => return Err(error),
        };
        if found.resolved != absolute {
            return Err(Error::new(
                ErrorCode::UnsafeTarget,
                format!("nothing was changed: {} leads elsewhere", BytePath::new(path)),
            )
            .with_cause(format!("a link on the way leads to {}", found.resolved))
            .with_hint("a patch goes through no links; apply it where the files really are"));
        }
        Ok(match found.kind {
            None => Before::Nothing,
            Some(FileKind::Directory) => Before::Directory,
            Some(FileKind::Symlink) => Before::Blob(PatchedBlob {
                is_link: true,
                mode: 0o777,
                content: found.target.map(|target| target.as_bytes().to_vec()).unwrap_or_default(),
            }),
            Some(FileKind::File) => {
                let located = Located { absolute, confined: false };
                let (found, content) = read_whole(self.dir, &located, PATCH_BYTES_MAX).await?;
                Before::Blob(PatchedBlob { is_link: false, mode: found.mode, content })
            }
            Some(_) => Before::Other,
        })
    }

    /// Changes what was read, unless it has changed since.
    async fn commit(
        &self,
        patched: &[Patched],
        before: &BTreeMap<Vec<u8>, Before>,
        dry_run: bool,
    ) -> Result<()> {
        let mut transaction = TreeTransaction::begin(self.dir, &self.root).await?;
        for file in patched {
            let was = before.get(&file.path).unwrap_or(&Before::Nothing);
            let change = change(file, was);
            match (change, &file.after) {
                (Change::Put(put), Some(after)) => transaction.put(put, &after.content).await?,
                (change, _) => transaction.change(change).await?,
            }
        }
        let paths = patched
            .iter()
            .take(NOTED)
            .map(|file| BytePath::new([self.root.as_bytes(), b"/", &file.path].concat()));
        let event = EventKind::PatchApplied { files: patched.len() as u64, paths: paths.collect() };
        transaction.note(&event).await?;
        transaction.commit(dry_run).await?.done()
    }
}

fn is_there(patch: &Patch, before: &BTreeMap<Vec<u8>, Before>) -> bool {
    patch.sources().all(|path| matches!(before.get(path), Some(Before::Blob(_))))
}

fn change(file: &Patched, was: &Before) -> Change {
    let path: Vec<u8> = file.path.clone();
    let expected = Some(expected(was));
    match &file.after {
        None => Change::Remove(TreeRemove {
            path: path.into(),
            expected,
            recursive: false,
            missing_ok: false,
            prune_parents: true,
        }),
        Some(after) if after.is_link => Change::Link(TreeLink {
            path: path.into(),
            target: after.content.clone().into(),
            expected,
            create_parents: true,
        }),
        Some(after) if file.change == pyro_contract::diff::Change::ModeChanged => {
            Change::Mode(TreeMode { path: path.into(), mode: after.mode, expected })
        }
        Some(after) => Change::Put(TreePut {
            path: path.into(),
            mode: Some(after.mode),
            expected,
            create_parents: true,
            ..TreePut::default()
        }),
    }
}

/// It must still be what the patch was applied to.
fn expected(was: &Before) -> Expected {
    let state = |state: State| Expected { state: state.into(), ..Expected::default() };
    match was {
        Before::Nothing => state(State::Absent),
        Before::Directory => state(State::Directory),
        Before::Other => state(State::Present),
        Before::Blob(blob) => Expected {
            state: if blob.is_link { State::Symlink } else { State::File }.into(),
            sha256: sha2::Sha256::digest(&blob.content).to_vec().into(),
            ctime_ns: 0,
        },
    }
}

fn told(file: Patched) -> PatchedFile {
    PatchedFile {
        path: BytePath::new(file.path),
        change: file.change,
        from: file.from.map(BytePath::new),
        moved_hunks: file.moved_hunks,
    }
}

fn too_large(message: &str) -> Error {
    Error::new(ErrorCode::TooLarge, message)
        .with_cause(format!("the limit is {PATCH_BYTES_MAX} bytes"))
        .with_hint("split it, or run `git apply` in the workspace")
}

fn refused(error: PatchError) -> Error {
    match error {
        PatchError::Malformed(what) => {
            Error::new(ErrorCode::InvalidArgument, "this is no patch that can be read")
                .with_cause(what)
                .with_hint("`git diff --binary` makes one; a plain unified diff will do too")
        }
        PatchError::Forbidden { path, reason } => Error::new(
            ErrorCode::UnsafeTarget,
            format!("nothing was changed: the patch names {path}"),
        )
        .with_cause(reason)
        .with_hint("paths of a patch stay in the directory that it is applied to; see --strip"),
        PatchError::TooLarge(what) => too_large("the patch is too large").with_cause(what),
        PatchError::Unsupported { path, reason } => Error::new(
            ErrorCode::Unsupported,
            format!("nothing was changed: the change of {path} cannot be applied"),
        )
        .with_cause(reason)
        .with_hint("leave that file out of the patch"),
    }
}

fn does_not_fit(misfits: &[Misfit]) -> Error {
    let told: Vec<String> = misfits.iter().take(TOLD).map(ToString::to_string).collect();
    let more = misfits.len().saturating_sub(TOLD);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let error = Error::new(
        ErrorCode::Conflict,
        format!("the patch does not apply, so nothing was changed: {}{more}", told.join("; ")),
    );
    let near = misfits.iter().find_map(|misfit| match &misfit.reason {
        MisfitReason::Hunk { near: Some(near), .. } => Some(format!("in {}, {near}", misfit.path)),
        _ => None,
    });
    let hint = match misfits.first().map(|misfit| &misfit.reason) {
        Some(MisfitReason::Hunk { .. }) => {
            "read the file again and make the patch from what it is now; --fuzz overlooks context"
        }
        Some(MisfitReason::Missing) => {
            "paths are relative to /workspace; --directory and --strip change what they mean"
        }
        Some(MisfitReason::Exists) => "make the patch from what is in the workspace now",
        _ => "look at the file with `pyro workspace file stat` and `file read`",
    };
    match near {
        Some(near) => error.with_cause(near).with_hint(hint),
        None => error.with_hint(hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::file::Sha256;

    #[test]
    fn a_hunk_that_does_not_apply_is_shown_with_what_is_there() {
        let text = b"--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
        let patch = parse_patch(text, None).unwrap();
        let blob =
            PatchedBlob { is_link: false, mode: 0o644, content: b"one\ntwo!\nthree\n".to_vec() };
        let before = BTreeMap::from([(b"f".to_vec(), Before::Blob(blob))]);
        let options = ApplyOptions { fuzz: 0, max_bytes: 1 << 20 };
        let misfits = patch.apply(&before, &options).unwrap().unwrap_err();
        let error = does_not_fit(&misfits);
        assert!(error.message.contains("hunk 1 of f does not apply at line 1"), "{error}");
        assert!(error.cause.unwrap().contains("line 2 is `two!` instead of `two`"));
    }

    #[test]
    fn a_file_must_still_be_what_was_read() {
        let sum = Sha256::new(sha2::Sha256::digest(b"x").into());
        let blob = PatchedBlob { is_link: false, mode: 0o644, content: b"x".to_vec() };
        let guard = expected(&Before::Blob(blob));
        assert_eq!(&guard.sha256[..], sum.as_bytes());
        assert_eq!(guard.state(), State::File);
        assert_eq!(expected(&Before::Nothing).state(), State::Absent);
    }
}
