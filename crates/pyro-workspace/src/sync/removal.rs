//! Which of the target's own files go when a sync deletes.

use std::collections::HashSet;

use super::beneath::split;

/// Something that the source does not have.
pub(super) type Extra = (Vec<u8>, bool);

/// What to remove: each path once, a directory that goes whole without what is in it. And how many
/// files and directories that are in all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// Paths, and whether it is a directory that goes with all that is below.
    pub(super) paths: Vec<Extra>,
    pub(super) count: u64,
}

/// What is protected stays, and so do the directories that it is in.
pub(super) fn plan(mut extra: Vec<Extra>, is_protected: impl Fn(&[u8], bool) -> bool) -> Removal {
    // A directory comes before what is in it.
    extra.sort_unstable();
    let mut kept: HashSet<Vec<u8>> = HashSet::new();
    let mut unprotected = Vec::with_capacity(extra.len());
    for (path, is_directory) in extra {
        if is_protected(&path, is_directory) {
            keep_above(&mut kept, &path);
        } else {
            unprotected.push((path, is_directory));
        }
    }
    let mut removal = Removal::default();
    let mut gone: HashSet<Vec<u8>> = HashSet::new();
    for (path, is_directory) in unprotected {
        if is_directory && kept.contains(&path) {
            continue;
        }
        removal.count += 1;
        if is_directory {
            gone.insert(path.clone());
        }
        let (above, _) = split(&path);
        if !gone.contains(above) {
            removal.paths.push((path, is_directory));
        }
    }
    removal
}

fn keep_above(kept: &mut HashSet<Vec<u8>>, path: &[u8]) {
    let (mut above, _) = split(path);
    while !above.is_empty() && kept.insert(above.to_vec()) {
        (above, _) = split(above);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_directory_goes_whole_unless_something_in_it_is_protected() {
        let extra = |path: &str, directory| (path.as_bytes().to_vec(), directory);
        let all = vec![
            extra("d", true),
            extra("d/keep.o", false),
            extra("d/x", false),
            extra("e", true),
            extra("e/f", true),
            extra("e/f/x", false),
            extra("e.txt", false),
        ];
        let removal = plan(all, |path, _| path.ends_with(b".o"));
        assert_eq!(removal.count, 5);
        assert_eq!(removal.paths, [extra("d/x", false), extra("e", true), extra("e.txt", false)]);
    }

    proptest! {
        #[test]
        fn nothing_protected_goes_and_everything_else_does(
            files in proptest::collection::btree_set("[ab](/[ab]){0,3}\\.[ox]", 0..20),
        ) {
            let mut extra: BTreeSet<Extra> = BTreeSet::new();
            for file in &files {
                let file = file.as_bytes();
                extra.insert((file.to_vec(), false));
                let (mut above, _) = split(file);
                while !above.is_empty() {
                    extra.insert((above.to_vec(), true));
                    (above, _) = split(above);
                }
            }
            let removal = plan(extra.into_iter().collect(), |path, _| path.ends_with(b".o"));
            for file in &files {
                let goes = removal.paths.iter().any(|(path, whole)| {
                    path == file.as_bytes()
                        || *whole && file.as_bytes().starts_with(&[&path[..], b"/"].concat())
                });
                prop_assert_eq!(goes, !file.ends_with(".o"), "{}", file);
            }
        }
    }
}
