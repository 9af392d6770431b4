//! What a sync leaves alone on both sides.
//!
//! The syntax is that of .gitignore. `--exclude` counts as if it stood in a file at the top that
//! has the last word; a `.pyroignore` holds for its directory and all below it, a deeper one against
//! those above. What is left alone is neither sent nor removed, and an excluded directory is not
//! looked into.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use pyro_contract::sync::SyncRules;
use pyro_contract::{Error, ErrorCode, Result};

use super::beneath::join;

/// The file with the patterns of a directory.
pub(super) const IGNORE_FILE: &[u8] = b".pyroignore";

/// Where a pull keeps what it has not published yet; never synced.
pub(super) const STAGE: &[u8] = b".pyro-sync";

/// Where the agent keeps what is not published yet, at the top of a filesystem.
const GUEST_STAGE: &[u8] = b".pyro-transaction";

/// No file of patterns is larger.
pub(super) const IGNORE_FILE_MAX: u64 = 1 << 20;

/// What the user asked to leave alone.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    asked: Gitignore,
    include_git: bool,
}

/// What holds in one directory: its own patterns and those of the directories above.
pub(super) type Here = Option<Arc<Patterns>>;

/// The patterns of one directory.
#[derive(Debug)]
pub(super) struct Patterns {
    above: Here,
    matcher: Gitignore,
    /// The length of the path to the directory, with the slash after it.
    prefix: usize,
}

impl Rules {
    pub(super) fn new(asked: &SyncRules) -> Result<Self> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in &asked.exclude {
            builder.add_line(None, pattern).map_err(|error| {
                Error::new(
                    ErrorCode::InvalidArgument,
                    format!("{pattern:?} is no pattern of what to exclude"),
                )
                .with_cause(error.to_string())
                .with_hint("patterns are written as in .gitignore: `*.o`, `/target/`, `!keep.o`")
            })?;
        }
        let asked_for = builder.build().map_err(|error| {
            Error::new(ErrorCode::InvalidArgument, "the patterns of what to exclude are too many")
                .with_cause(error.to_string())
        })?;
        Ok(Self { asked: asked_for, include_git: asked.include_git })
    }

    /// What holds in a directory that has this `.pyroignore`.
    pub(super) fn enter(
        above: &Here,
        directory: &[u8],
        ignore_file: Option<&[u8]>,
    ) -> Result<Here> {
        let Some(content) = ignore_file else { return Ok(above.clone()) };
        let mut builder = GitignoreBuilder::new("");
        let text = String::from_utf8_lossy(content);
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate() {
            builder.add_line(None, line).map_err(|error| bad(directory, number, &error))?;
        }
        let matcher = builder.build().map_err(|error| bad(directory, 0, &error))?;
        let prefix = if directory.is_empty() { 0 } else { directory.len() + 1 };
        Ok(Some(Arc::new(Patterns { above: above.clone(), matcher, prefix })))
    }

    /// True if this name of a directory, which itself is not excluded, is to be left alone.
    pub(super) fn excludes_name(
        &self,
        here: &Here,
        directory: &[u8],
        name: &[u8],
        is_directory: bool,
    ) -> bool {
        if here.is_none() && self.asked.is_empty() {
            return self.is_fixed(name);
        }
        self.excludes(here, &join(directory, name), is_directory)
    }

    fn is_fixed(&self, name: &[u8]) -> bool {
        name == STAGE || name == GUEST_STAGE || (name == b".git" && !self.include_git)
    }

    /// The same of a path.
    pub(super) fn excludes(&self, here: &Here, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if self.is_fixed(name) {
            return true;
        }
        match self.asked.matched(as_path(path), is_directory) {
            Match::Ignore(_) => return true,
            Match::Whitelist(_) => return false,
            Match::None => {}
        }
        let mut at = here;
        while let Some(patterns) = at {
            let below = path.get(patterns.prefix..).unwrap_or_default();
            match patterns.matcher.matched(as_path(below), is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => at = &patterns.above,
            }
        }
        false
    }

    /// The same for a path of which only the directories in `known` have patterns: is it, or
    /// anything above it, to be left alone?
    pub(super) fn excludes_deep(
        &self,
        patterns_of: &dyn Fn(&[u8]) -> Option<Here>,
        path: &[u8],
        is_directory: bool,
    ) -> bool {
        let mut here = patterns_of(b"").flatten();
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = &path[..end];
            if self.excludes(&here, above, true) {
                return true;
            }
            // A directory that the host does not have has no patterns of its own.
            if let Some(own) = patterns_of(above) {
                here = own;
            }
        }
        self.excludes(&here, path, is_directory)
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn bad(directory: &[u8], line: usize, error: &ignore::Error) -> Error {
    let shown = pyro_contract::path::BytePath::new(directory);
    let place = if directory.is_empty() { String::new() } else { format!("{shown}/") };
    Error::new(
        ErrorCode::InvalidArgument,
        format!("line {} of {place}.pyroignore is no pattern", line + 1),
    )
    .with_cause(error.to_string())
    .with_hint("it is written as a .gitignore is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(exclude: &[&str]) -> Rules {
        let exclude = exclude.iter().map(ToString::to_string).collect();
        Rules::new(&SyncRules { exclude, ..SyncRules::default() }).unwrap()
    }

    #[test]
    fn the_command_line_has_the_last_word_and_a_deeper_file_that_before() {
        let rules = rules(&["*.o", "!kept.o", "/top", "build/"]);
        let top = Rules::enter(&None, b"", Some(b"*.log\n# a comment\n/only\n")).unwrap();
        let inner = Rules::enter(&top, b"a/b", Some(b"!x.log\nkept.o\n/here\n")).unwrap();
        let excluded = |path: &[u8], directory| rules.excludes(&inner, path, directory);
        assert!(excluded(b"a/b/x.o", false) && !excluded(b"a/b/kept.o", false));
        assert!(excluded(b"a/b/y.log", false) && !excluded(b"a/b/x.log", false));
        assert!(excluded(b"a/b/here", false) && !excluded(b"a/b/c/here", false));
        assert!(excluded(b"top", false) && !excluded(b"a/top", false));
        assert!(excluded(b"a/build", true) && !excluded(b"a/build", false));
        assert!(rules.excludes(&top, b"only", false) && !rules.excludes(&top, b"a/only", false));
    }

    #[test]
    fn git_and_the_stage_are_left_alone_unless_git_is_asked_for() {
        let usual = rules(&[]);
        for (path, excluded) in [
            (&b".git"[..], true),
            (b"sub/.git", true),
            (b".gitignore", false),
            (b"a/.pyro-sync", true),
        ] {
            assert_eq!(usual.excludes(&None, path, true), excluded);
        }
        let asked = SyncRules { include_git: true, ..SyncRules::default() };
        assert!(!Rules::new(&asked).unwrap().excludes(&None, b".git", true));
    }

    #[test]
    fn what_lies_in_an_excluded_directory_is_excluded_whatever_it_is_called() {
        let rules = rules(&["target"]);
        let patterns = |_: &[u8]| None;
        assert!(rules.excludes_deep(&patterns, b"a/target/deep/file", false));
        assert!(rules.excludes_deep(&patterns, b".git/config", false));
        assert!(!rules.excludes_deep(&patterns, b"a/targets/file", false));
        let known = |path: &[u8]| match path {
            b"" => Some(None),
            b"a" => Some(Rules::enter(&None, b"a", Some(b"*.tmp")).unwrap()),
            _ => None,
        };
        assert!(rules.excludes_deep(&known, b"a/b/x.tmp", false));
        assert!(!rules.excludes_deep(&known, b"b/x.tmp", false));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_named() {
        let error = Rules::enter(&None, b"a", Some(b"fine\n{a\n")).unwrap_err();
        assert!(error.message.contains("line 2 of a/.pyroignore"), "{error}");
        let rules = SyncRules { exclude: vec!["{a".into()], ..SyncRules::default() };
        assert_eq!(Rules::new(&rules).unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn names_of_any_bytes_are_matched() {
        let rules = rules(&["*.o"]);
        assert!(rules.excludes(&None, b"\xff\xfe.o", false));
        assert!(!rules.excludes(&None, b"\xff\xfe", false));
    }
}
