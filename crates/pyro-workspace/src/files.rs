//! Paths of a workspace as users write them.

use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};

/// Where the project is.
pub(crate) const PROJECT: &[u8] = b"/workspace";

/// As long as a path may be, see path_resolution(7).
const LONGEST: usize = 4095;

/// A path as the user wrote it, and what it means.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) absolute: BytePath,
    /// It was relative: nothing outside of `/workspace` is meant, wherever links lead.
    pub(crate) confined: bool,
}

/// What a path means. One with `..` means something else once a directory has become a link.
pub(crate) fn locate(path: &BytePath) -> Result<Located> {
    let bytes = path.as_bytes();
    let wrong = |what: &str| {
        Err(Error::new(ErrorCode::InvalidArgument, format!("the path {path} {what}"))
            .with_hint("paths are relative to /workspace, or absolute, and have no `..`"))
    };
    if bytes.is_empty() {
        return wrong("is empty");
    }
    if bytes.contains(&0) || bytes.len() > LONGEST - PROJECT.len() - 1 {
        return wrong("holds a NUL or is too long");
    }
    let confined = bytes[0] != b'/';
    let mut absolute = if confined { PROJECT.to_vec() } else { Vec::new() };
    for name in bytes.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return wrong("leads upwards"),
            name => {
                absolute.push(b'/');
                absolute.extend_from_slice(name);
            }
        }
    }
    if absolute.is_empty() {
        absolute.push(b'/');
    }
    Ok(Located { absolute: BytePath::new(absolute), confined })
}

/// True for `/workspace` and whatever is in it. `path` is absolute, links resolved.
pub(crate) fn is_inside(path: &[u8]) -> bool {
    path.strip_prefix(PROJECT).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Refuses what a relative path was led to outside of `/workspace`.
pub(crate) fn outside(asked: &BytePath, resolved: &BytePath) -> Result<()> {
    if is_inside(resolved.as_bytes()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::UnsafeTarget,
        format!("{asked} leads out of /workspace, to {resolved}"),
    )
    .with_hint(format!("name {resolved} itself, if that is what you mean")))
}

/// Directory and name of an absolute path; of `/` there is none.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let directory = if slash == 0 { &b"/"[..] } else { &path[..slash] };
    let name = &path[slash + 1..];
    (!name.is_empty()).then_some((directory, name))
}

/// The path below a directory that holds it.
pub(crate) fn below<'a>(directory: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if directory == b"/" {
        return path.strip_prefix(b"/");
    }
    path.strip_prefix(directory)?.strip_prefix(b"/")
}

/// The nearest directory that holds both.
pub(crate) fn common(one: &[u8], other: &[u8]) -> Vec<u8> {
    let slash = |byte: &u8| *byte == b'/';
    let same = one.split(slash).zip(other.split(slash)).take_while(|(one, other)| one == other);
    let names: Vec<&[u8]> = same.map(|(name, _)| name).filter(|name| !name.is_empty()).collect();
    [b"/", &names.join(&b'/')[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_the_projects() {
        let at = |path: &str| locate(&BytePath::new(path)).map(|it| it.absolute.to_string());
        assert_eq!(at("a/./b//c/").unwrap(), "/workspace/a/b/c");
        assert_eq!(at(".").unwrap(), "/workspace");
        assert_eq!(at("/etc//passwd").unwrap(), "/etc/passwd");
        assert_eq!(at("/").unwrap(), "/");
        for wrong in ["", "../x", "a/../b", "/a/..", "a\0"] {
            assert!(at(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_what_is_below_the_project_is_inside() {
        assert!(is_inside(b"/workspace") && is_inside(b"/workspace/a"));
        assert!(!is_inside(b"/workspaces/a") && !is_inside(b"/etc"));
        assert_eq!(common(b"/workspace/a/b", b"/workspace/ab"), b"/workspace");
        assert_eq!(common(b"/a", b"/b"), b"/");
        assert_eq!(below(b"/", b"/a/b"), Some(&b"a/b"[..]));
        assert_eq!(split(b"/a"), Some((&b"/"[..], &b"a"[..])));
        assert_eq!(split(b"/"), None);
    }
}
