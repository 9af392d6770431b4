//! Where in the machine a tree is.

use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};

/// An absolute path without `.`, `..` and empty names. A relative one is below `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuestPath(Vec<Vec<u8>>);

impl GuestPath {
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let refused = |why: &str, hint: &str| {
            Error::new(ErrorCode::InvalidArgument, format!("{} {why}", BytePath::new(text)))
                .with_hint(hint)
        };
        let mut names: Vec<Vec<u8>> = Vec::new();
        if !text.starts_with(b"/") {
            names.push(b"workspace".to_vec());
        }
        for name in text.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    return Err(refused("leads upwards", "name a path without `..`"));
                }
                name if name.contains(&0) || name.len() > 255 => {
                    return Err(refused("is no path", "a name has at most 255 bytes and no NUL"));
                }
                name => names.push(name.to_vec()),
            }
        }
        if names.is_empty() {
            return Err(refused("is the whole machine", "name a directory of it, such as /srv"));
        }
        if names.iter().map(|name| name.len() + 1).sum::<usize>() > 3000 {
            return Err(refused("is too long", "name a path of at most 3000 bytes"));
        }
        Ok(Self(names))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        absolute(&self.0)
    }

    /// The part that exists if the last `missing` names do not, and those. `None` if there are not
    /// that many.
    pub(super) fn divide(&self, missing: u32) -> Option<(Vec<u8>, &[Vec<u8>])> {
        let there = self.0.len().checked_sub(usize::try_from(missing).ok()?)?;
        let (above, below) = self.0.split_at(there);
        Some((absolute(above), below))
    }
}

fn absolute(names: &[Vec<u8>]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    names.iter().flat_map(|name| std::iter::once(b'/').chain(name.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_the_project_unless_it_says_otherwise() {
        let shown = |text: &[u8]| GuestPath::parse(text).map(|path| path.bytes());
        assert_eq!(shown(b".").unwrap(), b"/workspace");
        assert_eq!(shown(b"./a//b/").unwrap(), b"/workspace/a/b");
        assert_eq!(shown(b"/srv/x").unwrap(), b"/srv/x");
        for wrong in [&b"/"[..], b"../x", b"/a/../b", b"a\0b"] {
            assert!(shown(wrong).is_err());
        }
    }

    #[test]
    fn a_path_divides_where_it_ends_to_exist() {
        let path = GuestPath::parse(b"a/b").unwrap();
        assert_eq!(path.divide(0), Some((b"/workspace/a/b".to_vec(), &[][..])));
        let (above, below) = path.divide(2).unwrap();
        assert_eq!((above, below), (b"/workspace".to_vec(), &[b"a".to_vec(), b"b".to_vec()][..]));
        assert_eq!(path.divide(4), None);
    }
}
