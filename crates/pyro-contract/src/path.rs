//! Paths inside a workspace: any bytes but NUL, so not always UTF-8.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exact;

/// A path of any bytes, shown as text where it is text.
///
/// In JSON: `path` is the readable form (lossy where the bytes are not UTF-8), and `path_base64`
/// holds the exact bytes whenever `path` alone would lose them.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(from = "PathRepr", into = "PathRepr")]
pub struct BytePath(#[schemars(with = "PathRepr")] Vec<u8>);

#[derive(Serialize, Deserialize, JsonSchema)]
struct PathRepr {
    /// The path, readable; where its bytes are not UTF-8 they are replaced.
    path: String,
    /// The exact bytes, if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl BytePath {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The path that `text` reads as, or whose exact bytes stand beside it in base64.
    #[must_use]
    pub fn of(text: &str, exact: Option<&str>) -> Self {
        PathRepr { path: text.to_owned(), path_base64: exact.map(str::to_owned) }.into()
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<PathRepr> for BytePath {
    fn from(repr: PathRepr) -> Self {
        Self(exact::join(repr.path, repr.path_base64.as_deref()))
    }
}

impl From<BytePath> for PathRepr {
    fn from(path: BytePath) -> Self {
        let (path, path_base64) = exact::split(path.0);
        Self { path, path_base64 }
    }
}

impl std::fmt::Display for BytePath {
    /// For a person: control characters and bytes that are not UTF-8 are escaped, so that a file
    /// name cannot drive the terminal it is printed on.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_survive_json() {
        for bytes in [&b"a/b"[..], b"\xff\xfe", b"new\nline", "ü".as_bytes()] {
            let path = BytePath::new(bytes);
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<BytePath>(&json).unwrap(), path);
        }
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        assert_eq!(BytePath::new(&b"\x1b[31m\xff\n"[..]).to_string(), "\\u{1b}[31m\\xff\\n");
    }
}
