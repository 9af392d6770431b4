//! Environments: the named, immutable root filesystems that workspaces are made from.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// The environments that pyro can make by itself, smallest first: name and description.
const KNOWN: [(&str, &str); 3] = [
    ("debian:12-base", "Debian 12 with the essential packages and apt"),
    ("debian:12", "Debian 12 with git, python3, curl and the usual small tools"),
    ("debian:12-build", "debian:12 with compilers, make, cmake and Python headers, venv and pip"),
];

/// The name of an environment: one that pyro can make, such as `debian:12`.
///
/// ```
/// use pyro_contract::{environment::EnvironmentRef, ErrorCode};
/// let debian: EnvironmentRef = "debian:12".parse()?;
/// assert_eq!(debian.to_string(), "debian:12");
/// let error = "docker.io/library/alpine:3".parse::<EnvironmentRef>().unwrap_err();
/// assert_eq!(error.code, ErrorCode::Unsupported);
/// # Ok::<(), pyro_contract::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentRef(String);

impl EnvironmentRef {
    /// Every environment that can be made, smallest first.
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|(name, _)| Self((*name).to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is in it, in one line.
    #[must_use]
    pub fn description(&self) -> &'static str {
        KNOWN
            .iter()
            .find(|(name, _)| *name == self.as_str())
            .map_or("", |(_, description)| description)
    }
}

impl Default for EnvironmentRef {
    /// `debian:12`.
    fn default() -> Self {
        Self("debian:12".to_owned())
    }
}

impl FromStr for EnvironmentRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if KNOWN.iter().any(|(name, _)| *name == text) {
            return Ok(Self(text.to_owned()));
        }
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        let hint = format!("the known environments are {}", names.join(", "));
        if is_oci_reference(text) {
            // A misspelt name has the form of an OCI reference too: the hint serves both.
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("{text:?} is no known environment, and OCI images cannot be used yet"),
            )
            .with_hint(hint));
        }
        Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not an environment"))
            .with_hint(hint))
    }
}

impl TryFrom<String> for EnvironmentRef {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<EnvironmentRef> for String {
    fn from(reference: EnvironmentRef) -> Self {
        reference.0
    }
}

impl fmt::Display for EnvironmentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for EnvironmentRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvironmentRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        schemars::json_schema!({
            "type": "string",
            "description": "The name of an environment.",
            "enum": names,
        })
    }
}

/// Whether `text` follows the grammar `[HOST[:PORT]/]PATH[:TAG][@DIGEST]` of the OCI distribution
/// specification.
fn is_oci_reference(text: &str) -> bool {
    let (text, digest_ok) = match text.split_once('@') {
        Some((rest, digest)) => (rest, digest.parse::<Digest>().is_ok()),
        None => (text, true),
    };
    let (path, last) = match text.rsplit_once('/') {
        Some((path, last)) => (Some(path), last),
        None => (None, text),
    };
    let (name, tag) = last.split_once(':').map_or((last, "latest"), |(name, tag)| (name, tag));
    let tag_ok = (1..=128).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !tag.starts_with(['.', '-']);
    let component_ok = |component: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        component
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && edge(component.bytes().next())
            && edge(component.bytes().last())
    };
    let mut parents = path.into_iter().flat_map(|path| path.split('/'));
    let host_ok = parents.next().is_none_or(|host| {
        let (host, port) = host.split_once(':').map_or((host, "443"), |(host, port)| (host, port));
        component_ok(&host.to_ascii_lowercase()) && port.parse::<u16>().is_ok()
    });
    text.len() <= 255
        && digest_ok
        && tag_ok
        && host_ok
        && component_ok(name)
        && parents.all(component_ok)
}

/// The sha256 of stored content, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(#[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))] String);

impl Digest {
    /// The digest with these 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        use std::fmt::Write;
        let mut text = String::from("sha256:");
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The digest as text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is not a digest"))
            .with_hint("a digest is sha256: and 64 hexadecimal digits"))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One environment, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentInfo {
    /// Its name.
    pub name: EnvironmentRef,
    /// What is in it, in one line.
    pub description: String,
    /// Whether it is here already; if not, it is made when first used.
    pub cached: bool,
    /// The digest of its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Bytes that the image takes on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created_at: Option<jiff::Timestamp>,
    /// The release of its guest kernel, as `uname -r` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    /// How many packages are installed in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_count: Option<u32>,
}

/// A package installed in an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as the distribution writes it.
    pub version: String,
}

/// Everything there is to know of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentDetails {
    /// What a list shows.
    #[serde(flatten)]
    pub info: EnvironmentInfo,
    /// The root filesystem image on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest of the guest kernel and its modules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_digest: Option<Digest>,
    /// The guest kernel on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What is installed, ordered by name. Empty unless cached.
    pub packages: Vec<Package>,
}

/// What a prune took away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneReport {
    /// What was removed, in words: `debian:12`, `image sha256:…`.
    pub removed: Vec<String>,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_parses_to_itself_and_has_a_description() {
        for known in EnvironmentRef::known() {
            assert_eq!(known.as_str().parse::<EnvironmentRef>().unwrap(), known);
            assert!(!known.description().is_empty());
        }
        assert!(EnvironmentRef::known().any(|known| known == EnvironmentRef::default()));
    }

    #[test]
    fn an_oci_reference_is_told_from_nonsense() {
        let digest = "0".repeat(64);
        for oci in [
            "alpine",
            "alpine:3.20",
            "localhost:5000/team/tools:v1",
            "docker.io/library/debian",
            &format!("ghcr.io/a/b@sha256:{digest}"),
        ] {
            let error = oci.parse::<EnvironmentRef>().unwrap_err();
            assert_eq!(error.code, ErrorCode::Unsupported, "{oci}");
            assert!(error.hint.unwrap().contains("debian:12"));
        }
        for nonsense in
            ["", " ", "Debian:12", "debian:", "../x", "a//b", "a/", "/a", "a@sha256:12", "a:b c"]
        {
            let error = nonsense.parse::<EnvironmentRef>().unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{nonsense}");
            assert!(error.hint.unwrap().contains("debian:12"));
        }
    }

    #[test]
    fn a_digest_has_one_spelling() {
        let digest = Digest::from_bytes([0xab; 32]);
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        assert_eq!(digest.hex().len(), 64);
        for bad in ["", "sha256:", &digest.as_str().to_uppercase(), &digest.as_str()[..70]] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
