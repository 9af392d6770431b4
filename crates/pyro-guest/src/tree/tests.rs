use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs as std_fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use pyro_wire::v1::expected::State;
use pyro_wire::v1::tree_change::Change;
use pyro_wire::v1::tree_conflict::Reason;
use pyro_wire::v1::{
    Expected, TreeChanged, TreeDirectory, TreeExpect, TreeLink, TreeMode, TreeMove, TreePut,
    TreeRemove,
};
use rustix::fs::{CWD, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::commit::recover_in;
use super::fs::Root;
use super::path::TreePath;
use super::stage::Stage;
use super::{STAGES, stage};

thread_local! {
    /// How many more steps are made before the machine is "killed".
    static LIFE: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(super) fn may_live() -> io::Result<()> {
    LIFE.with(|life| match life.get() {
        Some(0) => Err(io::Error::other("killed")),
        Some(steps) => {
            life.set(Some(steps - 1));
            Ok(())
        }
        None => Ok(()),
    })
}

fn root(directory: &Path) -> Root {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, directory, flags, Mode::empty()).unwrap();
    Root { top, prefix: Vec::new() }
}

fn begun(directory: &Path, changes: Vec<Change>) -> Result<Stage, Status> {
    let mut stage = Stage::open(root(directory))?;
    for change in changes {
        stage.add(change)?;
    }
    Ok(stage)
}

fn make(directory: &Path, changes: Vec<Change>) -> TreeChanged {
    let changed = begun(directory, changes).unwrap().finish(false).unwrap();
    assert!(!directory.join(STAGES).exists(), "nothing is left behind");
    changed
}

fn put(path: &str) -> Change {
    Change::Put(TreePut {
        path: path.as_bytes().to_vec().into(),
        create_parents: true,
        ..TreePut::default()
    })
}

fn data(text: &str) -> Change {
    Change::Data(text.as_bytes().to_vec().into())
}

fn remove(path: &str) -> Change {
    Change::Remove(TreeRemove {
        path: path.as_bytes().to_vec().into(),
        recursive: true,
        prune_parents: true,
        ..TreeRemove::default()
    })
}

fn moved(from: &str, to: &str) -> Change {
    Change::Move(TreeMove {
        from: from.as_bytes().to_vec().into(),
        to: to.as_bytes().to_vec().into(),
        create_parents: true,
        ..TreeMove::default()
    })
}

fn expect(path: &str, state: State, content: Option<&str>) -> Change {
    let sha256 = content.map(|text| Sha256::digest(text).to_vec()).unwrap_or_default();
    let expected = Expected { state: state.into(), sha256: sha256.into(), ctime_ns: 0 };
    Change::Expect(TreeExpect { path: path.as_bytes().to_vec().into(), expected: Some(expected) })
}

/// Path to what is there.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std_fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o7777;
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            let is = if meta.is_dir() {
                todo.push(path.clone());
                format!("directory {mode:o}")
            } else if meta.is_symlink() {
                format!("link {}", std_fs::read_link(&path).unwrap().display())
            } else {
                format!("{mode:o} {}", std_fs::read_to_string(&path).unwrap())
            };
            found.insert(name, is);
        }
    }
    found
}

fn reasons(changed: &TreeChanged) -> Vec<(String, Reason)> {
    assert!(!changed.committed);
    let told = changed.conflicts.iter();
    told.map(|it| (String::from_utf8_lossy(&it.path).into_owned(), it.reason())).collect()
}

fn seed(directory: &Path) {
    std_fs::create_dir_all(directory.join("src/deep")).unwrap();
    std_fs::write(directory.join("src/main.rs"), "main").unwrap();
    std_fs::write(directory.join("src/deep/leaf"), "leaf").unwrap();
    std_fs::set_permissions(directory.join("src/main.rs"), PermissionsExt::from_mode(0o755))
        .unwrap();
    std_fs::create_dir(directory.join("gone")).unwrap();
    std_fs::write(directory.join("gone/a"), "a").unwrap();
    std_fs::write(directory.join("gone/b"), "b").unwrap();
    std_fs::write(directory.join("swap1"), "one").unwrap();
    std_fs::write(directory.join("swap2"), "two").unwrap();
    std_fs::create_dir(directory.join("turns")).unwrap();
    std_fs::write(directory.join("turns/into"), "a file").unwrap();
}

fn many() -> Vec<Change> {
    vec![
        put("src/main.rs"),
        data("other "),
        data("main"),
        put("new/dir/file"),
        data("new"),
        Change::Link(TreeLink {
            path: b"new/link".to_vec().into(),
            target: b"../src".to_vec().into(),
            ..TreeLink::default()
        }),
        remove("gone/a"),
        remove("gone/b"),
        moved("swap1", "swap2"),
        moved("swap2", "swap1"),
        moved("src/deep", "moved/deep"),
        remove("turns"),
        put("turns"),
        data("file now"),
        Change::Directory(TreeDirectory {
            path: b"empty".to_vec().into(),
            mode: Some(0o700),
            ..TreeDirectory::default()
        }),
    ]
}

#[test]
fn many_changes_are_made_at_once() {
    let directory = tempfile::tempdir().unwrap();
    seed(directory.path());
    assert!(make(directory.path(), many()).committed);
    let expected = [
        ("src", "directory 755"),
        ("src/main.rs", "755 other main"),
        ("new", "directory 755"),
        ("new/dir", "directory 755"),
        ("new/dir/file", "644 new"),
        ("new/link", "link ../src"),
        ("swap1", "644 two"),
        ("swap2", "644 one"),
        ("moved", "directory 755"),
        ("moved/deep", "directory 755"),
        ("moved/deep/leaf", "644 leaf"),
        ("turns", "644 file now"),
        ("empty", "directory 700"),
    ];
    let expected = expected.map(|(path, is)| (path.to_owned(), is.to_owned()));
    assert_eq!(tree(directory.path()), BTreeMap::from(expected));
}

#[test]
fn a_commit_that_is_killed_at_any_step_is_finished_by_the_next_start() {
    let wanted = {
        let directory = tempfile::tempdir().unwrap();
        seed(directory.path());
        make(directory.path(), many());
        tree(directory.path())
    };
    let mut killed = 0;
    for life in 0.. {
        let directory = tempfile::tempdir().unwrap();
        seed(directory.path());
        LIFE.set(Some(life));
        let finished = begun(directory.path(), many()).unwrap().finish(false).is_ok();
        // The next starts are killed too, each a bit later.
        for again in 0..life % 5 {
            LIFE.set(Some(again));
            let _ = recover_in(&root(directory.path()));
        }
        LIFE.set(None);
        recover_in(&root(directory.path())).unwrap();
        assert_eq!(tree(directory.path()), wanted, "killed after {life} steps");
        if finished {
            break;
        }
        killed += 1;
    }
    assert!(killed > 10, "{killed}");
}

#[test]
fn what_was_not_committed_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    seed(directory.path());
    let before = tree(directory.path());
    drop(begun(directory.path(), many()).unwrap());
    assert_eq!(tree(directory.path()), before);
    // As if the agent had been killed amid it.
    std::mem::forget(begun(directory.path(), many()).unwrap());
    assert!(directory.path().join(STAGES).exists());
    recover_in(&root(directory.path())).unwrap();
    assert_eq!(tree(directory.path()), before);
    assert!(begun(directory.path(), many()).unwrap().finish(true).is_ok());
    assert_eq!(tree(directory.path()), before, "a dry run");
}

#[test]
fn nothing_happens_unless_everything_is_as_expected() {
    let directory = tempfile::tempdir().unwrap();
    seed(directory.path());
    let before = tree(directory.path());
    for (broken, path, reason) in [
        (expect("src/main.rs", State::File, Some("stale")), "src/main.rs", Reason::Changed),
        (expect("src/main.rs", State::Absent, None), "src/main.rs", Reason::Exists),
        (expect("nowhere/at/all", State::Present, None), "nowhere/at/all", Reason::Missing),
        (expect("src", State::File, None), "src", Reason::Changed),
        (remove("nothing"), "nothing", Reason::Missing),
        (put("src"), "src", Reason::IsDirectory),
        (put("swap1/below"), "swap1", Reason::Contradiction),
        (put("src/main.rs/below"), "src/main.rs/below", Reason::Contradiction),
        (put("turns"), "turns", Reason::Contradiction),
    ] {
        let mut changes = many();
        changes.push(broken);
        let changed = make(directory.path(), changes);
        let told = reasons(&changed);
        assert!(told.iter().any(|(_, is)| *is == reason), "{path}: {told:?}");
        assert_eq!(tree(directory.path()), before);
    }
    let fine = expect("src/main.rs", State::File, Some("main"));
    assert!(make(directory.path(), [many(), vec![fine]].concat()).committed);
}

#[test]
fn no_way_leads_out_of_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    std_fs::write(outside.path().join("precious"), "precious").unwrap();
    let directory = tempfile::tempdir().unwrap();
    symlink(outside.path(), directory.path().join("link")).unwrap();
    for change in [put("link/new"), put("link/precious"), remove("link/precious")] {
        let changed = make(directory.path(), vec![change]);
        assert_eq!(reasons(&changed)[0].1, Reason::LeadsElsewhere);
    }
    for path in ["../x", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\0b", STAGES] {
        assert!(begun(directory.path(), vec![put(path)]).is_err(), "{path:?}");
    }
    assert_eq!(tree(outside.path()).len(), 1);
    // The link itself may be replaced.
    assert!(make(directory.path(), vec![put("link"), data("a file now")]).committed);
    assert_eq!(tree(outside.path()).len(), 1);
}

#[test]
fn a_plan_that_a_user_forged_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let forged = directory.path().join(STAGES);
    std_fs::create_dir_all(forged.join("1")).unwrap();
    std_fs::set_permissions(&forged, PermissionsExt::from_mode(0o777)).unwrap();
    std_fs::write(forged.join("1/commit"), b"\x05\x0a\x01x\x10\x01").unwrap();
    std_fs::write(directory.path().join("x"), "stays").unwrap();
    recover_in(&root(directory.path())).unwrap();
    assert_eq!(tree(directory.path()).len(), 1);
}

#[test]
fn a_mode_is_set_and_a_replaced_file_keeps_its_own() {
    let directory = tempfile::tempdir().unwrap();
    seed(directory.path());
    let mode = |path: &str, mode| {
        Change::Mode(TreeMode { path: path.as_bytes().to_vec().into(), mode, expected: None })
    };
    assert!(make(directory.path(), vec![mode("swap1", 0o600), mode("src", 0o700)]).committed);
    assert!(make(directory.path(), vec![put("swap1"), data("x")]).committed);
    let found = tree(directory.path());
    assert_eq!((&*found["swap1"], &*found["src"]), ("600 x", "directory 700"));
}

#[test]
fn paths_are_ordered_so_that_a_directory_comes_before_what_is_in_it() {
    let mut paths =
        ["a-b", "a/b", "a", "a/b/c", "a.b"].map(|it| TreePath::parse(it.as_bytes()).unwrap());
    paths.sort();
    let shown: Vec<_> = paths.iter().map(|path| path.os().to_str().unwrap()).collect();
    assert_eq!(shown, ["a", "a/b", "a/b/c", "a-b", "a.b"]);
    assert!(stage::failed("x")(io::Error::other("y")).message().contains("cannot x"));
}
