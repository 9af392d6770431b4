//! Files of a workspace: listing, reading, writing, editing, removing and moving them.
//!
//! A path is relative to `/workspace`, and then nothing outside of it is touched, whatever links say;
//! or it is absolute and means any path of the machine. All links are resolved in the machine.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::diff::FileKind;
use crate::error::{Error, ErrorCode};
use crate::name::WorkspaceRef;
use crate::path::BytePath;

/// How many entries one list has, unless another limit is asked for.
pub const LIST_LIMIT: u32 = 1000;
/// The most that may be asked for.
pub const LIST_LIMIT_MAX: u32 = 10_000;

/// How many bytes one read gives, unless another limit is asked for.
pub const READ_BYTES: u64 = 256 * 1024;
/// The most that may be asked for.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The largest file that is edited as text, and the largest content in a request.
pub const EDIT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Lists files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileListRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which directory.
    #[serde(default = "here")]
    pub path: String,
    /// Its exact bytes, if they are not UTF-8.
    #[serde(default)]
    pub path_base64: Option<String>,
    /// Also what is in the directories below it.
    #[serde(default)]
    pub recursive: bool,
    /// Only what matches one of these. `*.rs` matches a name in any directory, `src/**/*.rs` a path
    /// below the listed directory.
    #[serde(default)]
    pub glob: Vec<String>,
    /// Leave out `.git` and what the `.gitignore` files say, those above the directory included.
    #[serde(default)]
    pub gitignore: bool,
    /// So many entries at most, up to 10,000.
    #[serde(default = "list_limit")]
    pub limit: u32,
    /// Go on where an earlier list ended: its `continuation`.
    #[serde(default)]
    pub continuation: Option<String>,
}

impl FileListRequest {
    /// Which directory.
    #[must_use]
    pub fn directory(&self) -> BytePath {
        BytePath::of(&self.path, self.path_base64.as_deref())
    }
}

fn here() -> String {
    ".".to_owned()
}

fn list_limit() -> u32 {
    LIST_LIMIT
}

/// Some of a directory's entries, ordered by their paths' names; a directory comes before what is in
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileList {
    /// What was found. Paths are relative to the listed directory.
    pub entries: Vec<FileEntry>,
    /// If there is more: ask again with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Where, relative to the listed directory.
    #[serde(flatten)]
    pub path: BytePath,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes, of a regular file.
    pub size: u64,
    /// Permission bits, in octal.
    pub mode: FileMode,
    /// When its content last changed.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BytePath>,
}

/// Looks at one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileStatRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which file.
    #[serde(flatten)]
    pub path: BytePath,
    /// Look at what a link leads to, instead of the link.
    #[serde(default)]
    pub follow: bool,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileStat {
    /// Its absolute path, with all links on the way resolved.
    #[serde(flatten)]
    pub path: BytePath,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileKind,
    /// Bytes, of a regular file.
    pub size: u64,
    /// Permission bits, in octal.
    pub mode: FileMode,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content last changed.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BytePath>,
    /// Of a regular file's content, in hex; absent if it has more than 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Reads a file, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileReadRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which file.
    #[serde(flatten)]
    pub path: BytePath,
    /// From which byte on.
    #[serde(default)]
    pub offset: u64,
    /// Only these lines, counted from 1: `10:20`, `10:` to the end, `:20` from the beginning, `10`.
    #[serde(default)]
    pub lines: Option<LineRange>,
    /// So many bytes at most, up to 4 MiB.
    #[serde(default = "read_bytes")]
    pub max_bytes: u64,
    /// How the content is to be written in the result.
    #[serde(default)]
    pub encoding: EncodingChoice,
}

fn read_bytes() -> u64 {
    READ_BYTES
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileContent {
    /// Its absolute path, with all links resolved.
    #[serde(flatten)]
    pub path: BytePath,
    /// What was read.
    pub content: String,
    /// How that is written.
    pub encoding: Encoding,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many the whole file has.
    pub size: u64,
    /// How many lines the whole file has; absent if it has more than 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_lines: Option<u64>,
    /// Permission bits, in octal.
    pub mode: FileMode,
    /// When its content last changed.
    #[schemars(with = "String")]
    pub modified_at: Timestamp,
    /// Of the whole file's content, in hex: what a later write or edit may expect. Absent if it has
    /// more than 4 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// True if `max_bytes` cut it short.
    pub truncated: bool,
    /// If it was cut short: read on from this `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
    /// If lines were asked for and it was cut short: read on from this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_line: Option<u64>,
}

/// Writes a file, whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileWriteRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which file. A link is written through; directories that are missing are made.
    #[serde(flatten)]
    pub path: BytePath,
    /// What is to be in it; 16 MiB at most.
    pub content: String,
    /// How that is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Permission bits, in octal: those of the file that is replaced, or 644, if not given.
    #[serde(default)]
    pub mode: Option<FileMode>,
    /// Write only if the file's content has this checksum, as read before.
    #[serde(default)]
    pub expected_sha256: Option<Sha256>,
    /// Write only if there is nothing yet.
    #[serde(default)]
    pub create_only: bool,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileWritten {
    /// Its absolute path, with all links resolved.
    #[serde(flatten)]
    pub path: BytePath,
    /// How many bytes it has now.
    pub size: u64,
    /// Of its content, in hex.
    pub sha256: String,
    /// True if there was nothing before.
    pub created: bool,
}

/// Replaces text in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEditRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which file.
    #[serde(flatten)]
    pub path: BytePath,
    /// The text to replace, exactly as it stands in the file, and there only once.
    pub old: String,
    /// What to put in its place.
    pub new: String,
    /// Replace it wherever it stands.
    #[serde(default)]
    pub all: bool,
    /// Edit only if the file's content has this checksum, as read before.
    #[serde(default)]
    pub expected_sha256: Option<Sha256>,
}

/// A file that was edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEdited {
    /// Its absolute path, with all links resolved.
    #[serde(flatten)]
    pub path: BytePath,
    /// How often the text was replaced.
    pub replacements: u64,
    /// The line on which the first replacement begins.
    pub line: u64,
    /// How many bytes the file has now.
    pub size: u64,
    /// Of its content, in hex.
    pub sha256: String,
}

/// Removes a file or tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRemoveRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// Which one. A link itself is removed, not what it leads to.
    #[serde(flatten)]
    pub path: BytePath,
    /// Also a directory that is not empty, with all that is in it.
    #[serde(default)]
    pub recursive: bool,
    /// Nothing there is as good.
    #[serde(default)]
    pub missing_ok: bool,
    /// Remove only if the file's content has this checksum, as read before.
    #[serde(default)]
    pub expected_sha256: Option<Sha256>,
}

/// What became of a removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRemoved {
    /// Its absolute path.
    #[serde(flatten)]
    pub path: BytePath,
    /// False if there was nothing.
    pub removed: bool,
}

/// Moves a file or tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileMoveRequest {
    /// Its id or name.
    pub workspace: WorkspaceRef,
    /// What.
    pub from: String,
    /// Its exact bytes, if they are not UTF-8.
    #[serde(default)]
    pub from_base64: Option<String>,
    /// Where to: the new path itself, not a directory to put it in. Directories that are missing are
    /// made.
    pub to: String,
    /// Its exact bytes, if they are not UTF-8.
    #[serde(default)]
    pub to_base64: Option<String>,
    /// Replace a file that is there.
    #[serde(default)]
    pub force: bool,
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileMoved {
    /// Its absolute path before.
    pub from: BytePath,
    /// Its absolute path now.
    pub to: BytePath,
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are: UTF-8.
    #[default]
    Text,
    /// In base64, with padding.
    Base64,
}

/// How bytes are to be written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodingChoice {
    /// As text if they are UTF-8, else in base64.
    #[default]
    Auto,
    /// As text; what is not UTF-8 is replaced.
    Text,
    /// In base64.
    Base64,
}

macro_rules! named {
    ($type:ident, $what:literal, $($name:literal => $variant:ident),+) => {
        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(Error::new(ErrorCode::InvalidArgument, format!(concat!("{:?} is no ", $what), text))
                        .with_hint(concat!("one of:" $(, " ", $name)+))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),+ })
            }
        }
    };
}

named!(Encoding, "encoding", "text" => Text, "base64" => Base64);
named!(EncodingChoice, "encoding", "auto" => Auto, "text" => Text, "base64" => Base64);

/// Permission bits, written in octal: `644`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(#[schemars(with = "String")] u32);

impl FileMode {
    /// The lower twelve bits.
    #[must_use]
    pub fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl std::str::FromStr for FileMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let octal = text.strip_prefix("0o").unwrap_or(text);
        let digits = !octal.is_empty() && octal.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(octal, 8) {
            Ok(bits) if digits && bits <= 0o7777 => Ok(Self(bits)),
            _ => Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is no file mode"))
                .with_hint("a mode is written in octal, such as 644 or 755")),
        }
    }
}

impl TryFrom<String> for FileMode {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        mode.to_string()
    }
}

impl std::fmt::Display for FileMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

/// Lines of a file, counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct LineRange {
    first: u64,
    last: Option<u64>,
}

impl LineRange {
    /// The first line.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last line, unless it is the file's.
    #[must_use]
    pub fn last(self) -> Option<u64> {
        self.last
    }
}

impl std::str::FromStr for LineRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let range = match text.split_once(':') {
            None => number(text).map(|line| Self { first: line, last: Some(line) }),
            Some(("", "")) => None,
            Some(("", last)) => number(last).map(|last| Self { first: 1, last: Some(last) }),
            Some((first, "")) => number(first).map(|first| Self { first, last: None }),
            Some((first, last)) => number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last)
                .map(|(first, last)| Self { first, last: Some(last) }),
        };
        range.ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, format!("{text:?} names no lines"))
                .with_hint("lines are counted from 1: 10:20, 10: or :20")
        })
    }
}

impl TryFrom<String> for LineRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<LineRange> for String {
    fn from(range: LineRange) -> Self {
        range.to_string()
    }
}

impl std::fmt::Display for LineRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.last {
            Some(last) => write!(f, "{}:{last}", self.first),
            None => write!(f, "{}:", self.first),
        }
    }
}

/// A checksum: 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Wraps the checksum.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::str::FromStr for Sha256 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::new(ErrorCode::InvalidArgument, format!("{text:?} is no sha256 checksum"))
                .with_hint("it has 64 hex digits; `pyro workspace file stat` tells a file's")
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        if hex.len() != 64 || !hex.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(hex.chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sum: Sha256) -> Self {
        sum.to_string()
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_as_people_do() {
        let range = |text: &str| text.parse::<LineRange>().map(|range| (range.first, range.last));
        assert_eq!(range("10:20").unwrap(), (10, Some(20)));
        assert_eq!(range("10:").unwrap(), (10, None));
        assert_eq!(range(":20").unwrap(), (1, Some(20)));
        assert_eq!(range("7").unwrap(), (7, Some(7)));
        for wrong in ["", ":", "0:3", "5:4", "a:b", "1:2:3", "-1:"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_and_checksums_come_back_as_they_were() {
        for text in ["644", "4755", "007"] {
            assert_eq!(text.parse::<FileMode>().unwrap().to_string(), text);
        }
        for wrong in ["", "888", "77777", "rwx", "-1"] {
            assert!(wrong.parse::<FileMode>().is_err(), "{wrong}");
        }
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<Sha256>().unwrap().to_string(), text);
        assert!("00".parse::<Sha256>().is_err());
    }
}
