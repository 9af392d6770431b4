//! Ids and names that cannot exist invalid.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// RFC 4648 base32, lower case: the alphabet of ids.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_PREFIX: &str = "ws-";
const ID_RANDOM: usize = 10;

/// The permanent identity of a workspace: `ws-` and 10 random base32 characters (50 bits).
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceId(#[schemars(regex(pattern = r"^ws-[a-z2-7]{10,32}$"))] String);

impl WorkspaceId {
    /// A new id from the system's random generator.
    #[must_use]
    pub fn random() -> Self {
        let bytes: [u8; ID_RANDOM] = rand::random();
        let tail = bytes.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)]));
        Self(ID_PREFIX.chars().chain(tail).collect())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkspaceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.strip_prefix(ID_PREFIX).is_some_and(|tail| {
            (ID_RANDOM..=32).contains(&tail.len()) && tail.bytes().all(|b| BASE32.contains(&b))
        });
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a workspace id"))
            .with_hint("ids look like ws-k3v9q2mzra; `pyro workspace list` shows them"))
    }
}

/// A name that a user gives: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Name(#[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))] String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = text.bytes();
        let valid = text.len() <= 64
            && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a valid name")).with_hint(
            "a name starts with a letter or digit and has at most 64 letters, digits, '.', '_' or '-'",
        ))
    }
}

/// A workspace's name: a [`Name`] that could not be mistaken for an id.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceName(#[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))] String);

impl WorkspaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkspaceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name: Name = text.parse()?;
        if text.parse::<WorkspaceId>().is_ok() {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{text:?} has the form of a workspace id, so it cannot be a name"),
            )
            .with_hint("choose a name that does not start with 'ws-'"));
        }
        Ok(Self(name.0))
    }
}

/// What a user may write where a workspace is meant: its id or its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum WorkspaceRef {
    /// By id.
    Id(WorkspaceId),
    /// By name.
    Name(WorkspaceName),
}

impl FromStr for WorkspaceRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl WorkspaceRef {
    /// The id or name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Name(name) => name.as_str(),
        }
    }
}

/// A label, `KEY=VALUE`: the key is a [`Name`], the value any text of at most 1024 bytes without
/// control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Before the first `=`.
    pub key: Name,
    /// All after it.
    pub value: String,
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a label"))
                .with_hint("write KEY=VALUE")
        })?;
        if value.len() > 1024 || value.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("the value of label {key:?} is too long or has control characters"),
            )
            .with_hint("a label's value is at most 1024 bytes of plain text"));
        }
        Ok(Self { key: key.parse()?, value: value.to_owned() })
    }
}

/// An environment variable, `NAME=VALUE`, as a process can hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Not empty; neither `=` nor NUL.
    pub name: String,
    /// Anything but NUL.
    pub value: String,
}

impl FromStr for EnvVar {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{text:?} is not an environment variable"),
            )
            .with_hint("write NAME=VALUE")),
        }
    }
}

/// `Display`, `TryFrom<String>` and `Into<String>` for types that are a checked string.
macro_rules! text_type {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }
    )*};
}
text_type!(WorkspaceId, Name, WorkspaceName, WorkspaceRef);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_random_id_is_valid_and_different_each_time() {
        let id = WorkspaceId::random();
        assert_eq!(id.as_str().parse::<WorkspaceId>().unwrap(), id);
        assert_ne!(id, WorkspaceId::random());
    }

    #[test]
    fn a_name_cannot_pose_as_an_id_or_a_path() {
        let id = WorkspaceId::random();
        assert!(id.as_str().parse::<WorkspaceName>().is_err());
        for bad in ["", ".", "..", "-x", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<WorkspaceName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<WorkspaceName>("\"../etc\"").is_err());
    }

    #[test]
    fn labels_keep_everything_after_the_first_equals_sign() {
        let label: Label = "team=a=b".parse().unwrap();
        assert_eq!((label.key.as_str(), label.value.as_str()), ("team", "a=b"));
        assert!("team".parse::<Label>().is_err());
        assert!("te am=x".parse::<Label>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_back_what_it_took(text in ".{0,80}") {
            if let Ok(name) = text.parse::<Name>() { prop_assert_eq!(name.as_str(), &text); }
            if let Ok(reference) = text.parse::<WorkspaceRef>() { prop_assert_eq!(reference.as_str(), &text); }
            let _ = text.parse::<Label>();
            let _ = text.parse::<EnvVar>();
        }
    }
}
