//! What of a list is wanted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use pyro_contract::{Error, ErrorCode, Result};

/// Patterns of one request, and bytes of one of them.
const GLOBS_MAX: usize = 64;
const GLOB_MAX: usize = 1024;

/// Lines of one ignore file.
const LINES_MAX: usize = 10_000;

pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Patterns; without any, all is wanted.
pub(super) struct Globs(Option<GlobSet>);

impl Globs {
    pub(super) fn parse(patterns: &[String]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        if patterns.len() > GLOBS_MAX || patterns.iter().any(|pattern| pattern.len() > GLOB_MAX) {
            return Err(Error::new(ErrorCode::TooLarge, "these are too many patterns")
                .with_hint(format!("at most {GLOBS_MAX}, of {GLOB_MAX} bytes each")));
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
            // As in a .gitignore: a bare name is wanted in any directory.
            let anywhere = match pattern.contains('/') {
                true => pattern.trim_start_matches('/').to_owned(),
                false => format!("**/{pattern}"),
            };
            let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
            set.add(glob.map_err(|error| wrong(pattern, &error))?);
        }
        set.build().map(|set| Self(Some(set))).map_err(|error| wrong("", &error))
    }

    pub(super) fn want(&self, relative: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|set| set.is_match(path(relative)))
    }
}

fn wrong(pattern: &str, error: &globset::Error) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("{pattern:?} is no pattern"))
        .with_cause(error.kind().to_string())
        .with_hint("`*.rs` matches names, `src/**/*.rs` paths; quote it from your shell")
}

/// The rules of the `.gitignore` files on the way to a directory, the nearest last.
#[derive(Clone, Default)]
pub(super) struct Ignores(Vec<std::sync::Arc<(Vec<u8>, Gitignore)>>);

impl Ignores {
    /// With the rules of one more directory. Lines that are no patterns are passed over, as git does.
    pub(super) fn and(&self, directory: &[u8], rules: &[u8]) -> Self {
        let mut all = self.clone();
        if rules.is_empty() {
            return all;
        }
        let mut builder = GitignoreBuilder::new("/");
        for line in rules.split(|byte| *byte == b'\n').take(LINES_MAX) {
            if let Ok(line) = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)) {
                let _ = builder.add_line(None, line);
            }
        }
        if let Ok(rules) = builder.build() {
            all.0.push(std::sync::Arc::new((directory.to_vec(), rules)));
        }
        all
    }

    /// `absolute` lies below each of the directories.
    pub(super) fn leave_out(&self, absolute: &[u8], is_directory: bool) -> bool {
        for rules in self.0.iter().rev() {
            let (directory, rules) = &**rules;
            let Some(inner) = absolute.strip_prefix(&directory[..]) else { continue };
            let inner = inner.strip_prefix(b"/").unwrap_or(inner);
            match rules.matched(path(inner), is_directory) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Globs::parse(&patterns).unwrap()
    }

    #[test]
    fn a_bare_pattern_matches_names_and_another_matches_paths() {
        let bare = globs(&["*.rs"]);
        assert!(bare.want(b"a.rs") && bare.want(b"deep/down/a.rs") && !bare.want(b"a.rs/b"));
        let path = globs(&["src/**/*.rs", "/top.txt"]);
        assert!(path.want(b"src/a.rs") && path.want(b"src/b/c/a.rs") && path.want(b"top.txt"));
        assert!(!path.want(b"a.rs") && !path.want(b"x/src/a.rs") && !path.want(b"x/top.txt"));
        assert!(globs(&["*"]).want(b"name\xff") && globs(&[]).want(b"anything"));
        assert!(Globs::parse(&["[".to_owned()]).is_err());
    }

    #[test]
    fn the_nearest_rule_decides() {
        let top = Ignores::default().and(b"/workspace", b"target/\n*.log\n/only-top\n\\[\n");
        let inner = top.and(b"/workspace/keep", b"!special.log\r\n");
        assert!(top.leave_out(b"/workspace/target", true));
        assert!(!top.leave_out(b"/workspace/target", false), "the rule is for directories");
        assert!(top.leave_out(b"/workspace/a/b/x.log", false));
        assert!(inner.leave_out(b"/workspace/keep/x.log", false));
        assert!(!inner.leave_out(b"/workspace/keep/special.log", false));
        assert!(top.leave_out(b"/workspace/only-top", false));
        assert!(!top.leave_out(b"/workspace/a/only-top", false));
    }
}
