//! Our own applying against git's: the same patches on the same trees, the same outcome.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::PermissionsExt as _,
    },
    path::Path,
    process::Command,
};

use super::{git_apply, tree::copy_tree, world::Rng};
use crate::patch::{ApplyOptions, Before, Patch, Patched, PatchedBlob, parse_patch};

const OPTIONS: ApplyOptions = ApplyOptions { fuzz: 0, max_bytes: 1 << 30 };

/// Files and links by path, without the modes that git does not know.
type Files = BTreeMap<Vec<u8>, (bool, bool, Vec<u8>)>;

fn before(root: &Path, patch: &Patch) -> BTreeMap<Vec<u8>, Before> {
    let one = |path: &[u8]| {
        let path = root.join(std::ffi::OsStr::from_bytes(path));
        let Ok(meta) = path.symlink_metadata() else { return Before::Nothing };
        let blob = |is_link, content| {
            let mode = meta.permissions().mode() & 0o7777;
            Before::Blob(PatchedBlob { is_link, mode, content })
        };
        match () {
            () if meta.is_symlink() => {
                blob(true, fs::read_link(&path).unwrap().into_os_string().into_vec())
            }
            () if meta.is_file() => blob(false, fs::read(&path).unwrap()),
            () if meta.is_dir() => Before::Directory,
            () => Before::Other,
        }
    };
    patch.paths().into_iter().map(|path| (path.to_vec(), one(path))).collect()
}

fn files(root: &Path) -> Files {
    let (mut found, mut dirs) = (Files::new(), vec![root.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_vec();
                found.insert(name, (true, false, target));
            } else if meta.is_file() {
                let executable = meta.permissions().mode() & 0o100 != 0;
                found.insert(name, (false, executable, fs::read(&path).unwrap()));
            }
        }
    }
    found
}

fn after(mut files: Files, patched: &[Patched]) -> Files {
    for file in patched {
        match &file.after {
            None => drop(files.remove(&file.path)),
            Some(blob) => {
                let executable = !blob.is_link && blob.mode & 0o100 != 0;
                let is = (blob.is_link, executable, blob.content.clone());
                files.insert(file.path.clone(), is);
            }
        }
    }
    files
}

/// What is applied by us on `seed` is what git made of it in `applied`.
pub(super) fn check(seed: &Path, applied: &Path, patch: &[u8], told: &dyn Fn() -> String) {
    if patch.is_empty() {
        return;
    }
    let parsed = match parse_patch(patch, None) {
        Ok(parsed) => parsed,
        // Git's own directory is not for patches, whatever is in the way it is called.
        Err(crate::patch::PatchError::Forbidden { path, .. })
            if path.to_string().contains(".git") =>
        {
            return;
        }
        Err(error) => panic!("{error:?}\n{}", told()),
    };
    let patched = parsed.apply(&before(seed, &parsed), &OPTIONS).unwrap();
    let patched = patched.unwrap_or_else(|misfits| panic!("{misfits:?}\n{}", told()));
    let (ours, gits) = (after(files(seed), &patched), files(applied));
    for path in ours.keys().chain(gits.keys()) {
        let shown = path.escape_ascii();
        assert_eq!(ours.get(path), gits.get(path), "{shown}\n{}", told());
    }
}

/// A patch with renames and copies between two trees, as git writes it; `None` if it cannot.
pub(super) fn written_by_git(case: &Path, old: &Path, new: &Path) -> Option<Vec<u8>> {
    let run = |work: &Path, args: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "core.quotePath=true", "-c", "core.protectHFS=false"])
            .args(args)
            .current_dir(work)
            .env("GIT_DIR", case.join("own.git"))
            .env("GIT_WORK_TREE", work)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        output.status.success().then_some(output.stdout)
    };
    run(old, &["init", "-q"])?;
    let tree = |work: &Path| {
        run(work, &["add", "-A", "-f", "."])?;
        let tree = String::from_utf8(run(work, &["write-tree"])?).unwrap();
        Some(tree.trim().to_owned())
    };
    let (one, other) = (tree(old)?, tree(new)?);
    run(old, &["diff", "--binary", "-M", "-C", "--find-copies-harder", &one, &other])
}

/// The same with a patch that renames and copies.
pub(super) fn check_renames(
    case: &Path,
    old: &Path,
    new: &Path,
    told: &dyn Fn() -> String,
) -> ControlFlow<()> {
    let Some(patch) = written_by_git(case, old, new) else { return ControlFlow::Continue(()) };
    let by_git = case.join("renamed");
    copy_tree(old, &by_git);
    git_apply(&by_git, &patch, &[], told)?;
    check(old, &by_git, &patch, told);
    ControlFlow::Continue(())
}

/// A patch that was made from one file, applied to another that is a bit different.
#[test]
fn hunks_apply_where_git_applies_them_or_not_at_all() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let old = some_lines(&mut rng, 40);
        let new = edited(&mut rng, &old);
        let drifted = match rng.below(4) {
            0 => old.clone(),
            _ => edited(&mut rng, &old),
        };
        fs::write(dir.join("old"), old.concat()).unwrap();
        fs::write(dir.join("new"), new.concat()).unwrap();
        let context = format!("-U{}", rng.below(4));
        let diff = Command::new("git")
            .args(["diff", "--no-index", "--no-prefix", &context, "old", "new"])
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap()
            .stdout;
        if diff.is_empty() {
            continue;
        }
        let text = String::from_utf8(diff).unwrap();
        let hunks = text.find("@@ ").unwrap();
        let patch = format!("--- a/file\n+++ b/file\n{}", &text[hunks..]);
        let work = dir.join("work");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir(&work).unwrap();
        fs::write(work.join("file"), drifted.concat()).unwrap();
        fs::write(dir.join("patch"), &patch).unwrap();
        let gits = Command::new("git")
            .args(["apply", "--whitespace=nowarn", "../patch"])
            .current_dir(&work)
            .env("GIT_DIR", dir.join("none"))
            .output()
            .unwrap();
        let parsed = parse_patch(patch.as_bytes(), None).unwrap();
        let blob =
            PatchedBlob { is_link: false, mode: 0o644, content: drifted.concat().into_bytes() };
        let before = BTreeMap::from([(b"file".to_vec(), Before::Blob(blob))]);
        let ours = parsed.apply(&before, &OPTIONS).unwrap();
        let told = || {
            let words = String::from_utf8_lossy(&gits.stderr).into_owned();
            format!("seed {seed}\n{patch}\non\n{}\ngit: {words}\nours: {ours:?}", drifted.concat())
        };
        assert_eq!(gits.status.success(), ours.is_ok(), "{}", told());
        match &ours {
            Ok(patched) => {
                accepted += 1;
                let is = fs::read(work.join("file")).unwrap();
                let content = patched.first().and_then(|file| file.after.as_ref());
                let content =
                    content.map_or(drifted.concat().into_bytes(), |it| it.content.clone());
                assert_eq!(is, content, "{}", told());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 50 && refused > 50, "{accepted} accepted, {refused} refused");
}

fn some_lines(rng: &mut Rng, most: usize) -> Vec<String> {
    (0..1 + rng.below(most)).map(|_| format!("line {}\n", rng.below(12))).collect()
}

fn edited(rng: &mut Rng, lines: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    for _ in 0..1 + rng.below(3) {
        let at = rng.below(lines.len() + 1);
        match rng.below(4) {
            0 if at < lines.len() => drop(lines.remove(at)),
            1 if at < lines.len() => lines[at] = "changed\n".to_owned(),
            2 if at == lines.len() && at > 0 => {
                let last = lines[at - 1].trim_end().to_owned();
                lines[at - 1] = last;
            }
            _ => lines
                .insert(at.min(lines.len().saturating_sub(1)), format!("new {}\n", rng.below(5))),
        }
    }
    lines
}
