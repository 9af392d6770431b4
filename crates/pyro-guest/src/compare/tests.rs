use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// Compares one directory of the machine with these entries.
fn compare(root: &Path, purpose: Purpose, entries: Vec<CompareEntry>) -> (CompareVerdicts, Extra) {
    let (answers, mut received) = mpsc::channel(64);
    let start = CompareStart {
        root: root.as_os_str().as_encoded_bytes().to_vec().into(),
        purpose: purpose.into(),
    };
    let mut comparing = Comparing::begin(&start, answers).unwrap();
    let directory = CompareDirectory { entries, ..CompareDirectory::default() };
    comparing.directory(&directory).unwrap();
    drop(comparing);
    let (mut verdicts, mut extra) = (CompareVerdicts::default(), Vec::new());
    while let Some(answer) = received.blocking_recv() {
        match answer.unwrap().output.unwrap() {
            Output::Verdicts(more) => {
                verdicts.different.extend(more.different);
                verdicts.mode.extend(more.mode);
                verdicts.digests.extend(more.digests);
                verdicts.directories.extend(more.directories);
            }
            Output::Extra(more) => {
                let shown = |one: ExtraPath| {
                    (String::from_utf8_lossy(&one.path).into_owned(), one.directory)
                };
                extra.extend(more.paths.into_iter().map(shown));
            }
            Output::Compared(_) => {}
        }
    }
    extra.sort();
    (verdicts, extra)
}

type Extra = Vec<(String, bool)>;

fn file(name: &str, size: u64) -> CompareEntry {
    CompareEntry {
        name: name.as_bytes().to_vec().into(),
        kind: Kind::File.into(),
        mode: 0o644,
        size,
        ..CompareEntry::default()
    }
}

fn tree() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (name, content) in [("a", "12345"), ("b", "12345"), ("d/inner", "x")] {
        let path = temp.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    symlink("a", temp.path().join("link")).unwrap();
    temp
}

#[test]
fn a_file_with_its_stamp_is_not_mentioned_and_any_edit_takes_the_stamp_away() {
    let temp = tree();
    let (first, _) = compare(temp.path(), Purpose::Compare, vec![file("a", 5), file("b", 5)]);
    assert_eq!(first.digests.len(), 2);
    assert_eq!(first.digests[0].sha256, Sha256::digest("12345").to_vec());
    let stamped = |number: usize, name: &str| CompareEntry {
        stamp: first.digests[number].stamp,
        ..file(name, 5)
    };
    assert!(first.digests[0].stamp.is_some(), "what settled has a stamp");
    let entries = || vec![stamped(0, "a"), stamped(1, "b")];
    let (same, _) = compare(temp.path(), Purpose::Compare, entries());
    assert_eq!(same, CompareVerdicts::default());
    // Same size, and the time set back as it was: as bad as an edit can be.
    let path = temp.path().join("a");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "54321").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let (edited, _) = compare(temp.path(), Purpose::Compare, entries());
    assert_eq!(edited.digests.iter().map(|d| d.number).collect::<Vec<_>>(), [0]);
    assert_eq!(edited.digests[0].sha256, Sha256::digest("54321").to_vec());
}

#[test]
fn kinds_sizes_modes_and_links_are_told_apart() {
    let temp = tree();
    let mut link = file("link", 0);
    link.kind = Kind::Link.into();
    link.target = b"a"[..].into();
    let mut mode = file("b", 5);
    mode.mode = 0o600;
    let entries = vec![file("a", 6), mode, file("d", 1), link.clone(), file("none", 1)];
    let (verdicts, _) = compare(temp.path(), Purpose::Compare, entries);
    assert_eq!(verdicts.different, [0, 2, 4]);
    assert_eq!(verdicts.directories, [2]);
    assert_eq!(verdicts.mode, [1]);
    link.target = b"b"[..].into();
    let (verdicts, _) = compare(temp.path(), Purpose::Compare, vec![link]);
    assert_eq!(verdicts.different, [0]);
}

#[test]
fn what_the_host_does_not_have_is_told_with_all_that_is_in_it() {
    let temp = tree();
    let (_, extra) = compare(temp.path(), Purpose::CompareBothWays, vec![file("a", 5)]);
    let expected = [("b", false), ("d", true), ("d/inner", false), ("link", false)];
    assert_eq!(extra, expected.map(|(path, directory)| (path.to_owned(), directory)));
    // A directory where the host has a file is told too: it would be lost.
    let entries = vec![file("a", 5), file("b", 5), file("d", 1), file("link", 1)];
    let (_, extra) = compare(temp.path(), Purpose::CompareBothWays, entries);
    assert_eq!(extra, [("d".to_owned(), true), ("d/inner".to_owned(), false)]);
}

#[test]
fn a_link_on_the_way_is_no_directory() {
    let temp = tree();
    symlink("d", temp.path().join("way")).unwrap();
    let root = std::fs::File::open(temp.path()).unwrap();
    for way in [&b"way"[..], b"way/", b"../x", b"d/../way"] {
        assert!(open_beneath(root.as_fd(), way).is_err());
    }
    assert!(open_beneath(root.as_fd(), b"d").is_ok());
    assert!(open_beneath(root.as_fd(), b"").is_ok());
}

#[test]
fn only_what_is_still_as_it_was_written_gets_a_stamp() {
    let temp = tree();
    let written = 1_000_000_000_000_000_007;
    let time = std::time::UNIX_EPOCH + Duration::from_nanos(written);
    let entries = ["a", "b"].map(|name| {
        let opened = std::fs::File::options().write(true).open(temp.path().join(name)).unwrap();
        opened.set_modified(time).unwrap();
        CompareEntry { mtime_ns: written as i64, ..file(name, 5) }
    });
    std::fs::write(temp.path().join("b"), "edits").unwrap();
    let (verdicts, _) = compare(temp.path(), Purpose::Stamp, entries.to_vec());
    let numbers: Vec<u32> = verdicts.digests.iter().map(|digest| digest.number).collect();
    assert_eq!(numbers, [0]);
}

#[test]
fn a_root_that_is_not_there_is_told_by_how_much_of_it_is_missing() {
    let temp = tree();
    let path = |name: &str| temp.path().join(name).into_os_string().into_encoded_bytes();
    assert!(matches!(open_root(&path("d")), Ok((Some(_), 0))));
    assert!(matches!(open_root(&path("d/x/y")), Ok((None, 2))));
    assert!(open_root(&path("a")).is_err(), "a file is in the way");
    assert!(open_root(&path("a/x")).is_err());
    symlink("nowhere", temp.path().join("dangling")).unwrap();
    assert!(open_root(&path("dangling")).is_err());
}
