//! A workspace as its users see it.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::{Digest, EnvironmentRef};
use crate::error::{Error, ErrorCode};
use crate::limits::WorkspaceLimits;
use crate::name::{EnvVar, Name, WorkspaceId, WorkspaceName};

/// What isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A virtual machine on hardware virtualization, run by Firecracker.
    Firecracker,
    /// A virtual machine run by QEMU, on hardware virtualization or emulated.
    Qemu,
    /// A container run by an OCI runtime, on the host's kernel.
    Container,
}

impl EngineKind {
    /// Every engine of this build.
    pub const ALL: &[Self] = &[Self::Firecracker, Self::Qemu, Self::Container];

    /// The name as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
            Self::Container => "container",
        }
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which engine a user asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// The strongest isolation that this host can run; never silently less than a virtual machine.
    #[default]
    Auto,
    /// Firecracker and nothing else.
    Firecracker,
    /// QEMU and nothing else.
    Qemu,
    /// A container and nothing else: it shares the host's kernel.
    Container,
}

impl EngineChoice {
    /// The one engine that is meant; `None` for [`Self::Auto`].
    #[must_use]
    pub fn kind(self) -> Option<EngineKind> {
        match self {
            Self::Auto => None,
            Self::Firecracker => Some(EngineKind::Firecracker),
            Self::Qemu => Some(EngineKind::Qemu),
            Self::Container => Some(EngineKind::Container),
        }
    }
}

impl From<EngineKind> for EngineChoice {
    fn from(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Firecracker => Self::Firecracker,
            EngineKind::Qemu => Self::Qemu,
            EngineKind::Container => Self::Container,
        }
    }
}

impl std::fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().map_or("auto", EngineKind::as_str))
    }
}

impl FromStr for EngineChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let known = EngineKind::ALL.iter().find(|kind| kind.as_str() == text);
        known.map(|kind| Self::from(*kind)).ok_or_else(|| {
            let names: Vec<_> = EngineKind::ALL.iter().map(|kind| kind.as_str()).collect();
            Error::new(ErrorCode::InvalidArgument, format!("there is no engine named {text:?}"))
                .with_hint(format!("this build has: auto, {}", names.join(", ")))
        })
    }
}

/// Where a workspace is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceState {
    /// Being made; not usable yet.
    Creating,
    /// Its machine runs.
    Started,
    /// Its machine is held still, with all that runs in it; its memory stays.
    Paused,
    /// Its machine is off; the disk is kept.
    Stopped,
    /// Its machine ended in a way nobody asked for; the disk is kept. `start` tries again.
    Failed,
    /// Being removed.
    Deleting,
}

impl WorkspaceState {
    /// True if there is a machine, and somebody who answers for it.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Started | Self::Paused)
    }

    /// The state as it stands in JSON and on the screen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Started => "started",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

impl std::fmt::Display for WorkspaceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The machine's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shape {
    /// Virtual CPUs, 1 to 32.
    #[schemars(range(min = 1, max = 32))]
    pub vcpu_count: u8,
    /// Memory in MiB, 128 to 262144.
    #[schemars(range(min = 128, max = 262_144))]
    pub mem_mib: u32,
    /// The most that the machine may write to its disk, in MiB, 64 to 1048576. Space is taken on
    /// the host only as it is written.
    #[schemars(range(min = 64, max = 1_048_576))]
    pub disk_mib: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { vcpu_count: 1, mem_mib: 1024, disk_mib: 10_240 }
    }
}

impl Shape {
    /// Says which number is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        let check = |flag: &str, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::new(ErrorCode::InvalidArgument, format!("{flag} {value} is out of range"))
                .with_hint(format!("{flag} takes {low} to {high}")))
        };
        check("--vcpu-count", u32::from(self.vcpu_count), 1, 32)?;
        check("--mem-mib", self.mem_mib, 128, 262_144)?;
        check("--disk-mib", self.disk_mib, 64, 1_048_576)
    }
}

/// The machine's size as asked for. What is left out is the host's default: the environment
/// variable's, else the configuration file's, else the one named here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShapeRequest {
    /// Virtual CPUs, 1 to 32; 1 unless the host says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub vcpu_count: Option<u8>,
    /// Memory in MiB, 128 to 262144; 1024 unless the host says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 128, max = 262_144))]
    pub mem_mib: Option<u32>,
    /// The most that the machine may write to its disk, in MiB, 64 to 1048576; 10240 unless the
    /// host says otherwise. Space is taken on the host only as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub disk_mib: Option<u32>,
}

impl From<Shape> for ShapeRequest {
    fn from(shape: Shape) -> Self {
        Self {
            vcpu_count: Some(shape.vcpu_count),
            mem_mib: Some(shape.mem_mib),
            disk_mib: Some(shape.disk_mib),
        }
    }
}

impl ShapeRequest {
    /// The size meant, where `default` is the host's.
    #[must_use]
    pub fn or(self, default: Shape) -> Shape {
        Shape {
            vcpu_count: self.vcpu_count.unwrap_or(default.vcpu_count),
            mem_mib: self.mem_mib.unwrap_or(default.mem_mib),
            disk_mib: self.disk_mib.unwrap_or(default.disk_mib),
        }
    }
}

/// What `/workspace` starts as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Seed {
    /// Nothing.
    #[default]
    Empty,
    /// Everything in a host directory, or in a `.tar`, `.tar.gz` or `.tar.zst` archive.
    Path {
        /// Directory or archive, as the user wrote it.
        path: String,
    },
    /// The files that git tracks at a commit.
    Git {
        /// A checkout, a bare repository, or a URL.
        repository: String,
        /// Branch, tag or commit; `HEAD` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateRequest {
    /// The root filesystem.
    pub environment: EnvironmentRef,
    /// What `/workspace` starts as.
    #[serde(default)]
    pub seed: Seed,
    /// A name to find it by; unique among living workspaces.
    #[serde(default)]
    pub name: Option<WorkspaceName>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<Name, String>,
    /// What isolates it; the host's default, which is `auto` unless its owner set another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineChoice>,
    /// The machine's size.
    #[serde(default)]
    pub shape: ShapeRequest,
    /// What it may take besides.
    #[serde(default)]
    pub limits: WorkspaceLimits,
    /// Stopped, never deleted, once it has run this long.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// Environment variables of every command.
    #[serde(default)]
    pub env: Vec<EnvVar>,
}

impl CreateRequest {
    /// A workspace of this environment with every default.
    #[must_use]
    pub fn new(environment: EnvironmentRef) -> Self {
        Self {
            environment,
            seed: Seed::Empty,
            name: None,
            labels: BTreeMap::new(),
            engine: None,
            shape: ShapeRequest::default(),
            limits: WorkspaceLimits::default(),
            ttl_seconds: None,
            env: Vec::new(),
        }
    }
}

/// What stands between a workspace and its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A machine of its own, on hardware virtualization.
    HardwareVm,
    /// A machine of its own whose CPU is emulated: as well isolated, many times slower.
    EmulatedVm,
    /// A kernel of its own in user space (gVisor), on top of the host's.
    UserKernel,
    /// The host's kernel, shared with it: namespaces, few capabilities, filtered system calls.
    SharedKernel,
}

impl Isolation {
    /// True if the workspace has the host's kernel under it, and so its clock and its random
    /// generator, which it may neither set nor feed.
    #[must_use]
    pub fn shares_kernel(self) -> bool {
        matches!(self, Self::UserKernel | Self::SharedKernel)
    }

    /// What it is, in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::HardwareVm => "hardware virtualization",
            Self::EmulatedVm => "emulated",
            Self::UserKernel => "a kernel in user space",
            Self::SharedKernel => "shares the host's kernel",
        }
    }
}

/// The seed as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeedStatus {
    /// Where it came from; paths are absolute.
    #[serde(flatten)]
    pub source: Seed,
    /// The commit, for a git seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Files, directories and links taken.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// What was left out, and why: sockets, devices, submodules. At most 100 are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// How many were left out.
    #[serde(default)]
    pub skipped_count: u64,
}

/// A workspace at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceStatus {
    /// Its permanent id.
    pub id: WorkspaceId,
    /// Its name, if it has one.
    pub name: Option<WorkspaceName>,
    /// Where it is in its life.
    pub state: WorkspaceState,
    /// Its root filesystem.
    pub environment: EnvironmentRef,
    /// Digest of that root filesystem.
    pub environment_digest: Digest,
    /// What isolates it.
    pub engine: EngineKind,
    /// What stands between it and the host, while it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The guest kernel, while it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    /// The machine's size.
    pub shape: Shape,
    /// What it may take besides.
    #[serde(default)]
    pub limits: WorkspaceLimits,
    /// What `/workspace` started as.
    pub seed: SeedStatus,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<Name, String>,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When something last happened in it.
    #[schemars(with = "String")]
    pub last_activity_at: Timestamp,
    /// When it will be stopped, if it has a time to live and is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stops_at: Option<Timestamp>,
    /// Bytes that the workspace takes on this host.
    pub disk_used_bytes: u64,
    /// Commands running now.
    #[serde(default)]
    pub running_commands: u64,
    /// What it takes from this host, while it runs; only where one workspace is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it is `failed`, or why its machine was last stopped by something other than the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// What a running workspace takes from its host: its machine and its supervisor together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time since it was started, in milliseconds.
    pub cpu_ms: u64,
    /// Bytes of memory; of what it shares with others, its share.
    pub memory_bytes: u64,
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// Which workspace is gone.
    pub id: WorkspaceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_out_of_range_names_the_flag() {
        let shape = Shape { mem_mib: 1, ..Shape::default() };
        let error = shape.validate().unwrap_err();
        assert!(error.message.contains("--mem-mib"), "{error:?}");
    }

    #[test]
    fn every_engine_can_be_chosen_by_its_name() {
        for kind in EngineKind::ALL {
            let choice: EngineChoice = kind.as_str().parse().unwrap();
            assert_eq!(choice.kind(), Some(*kind));
            assert_eq!(choice.to_string(), kind.as_str());
        }
        assert_eq!("auto".parse::<EngineChoice>().unwrap().kind(), None);
        let error = "docker".parse::<EngineChoice>().unwrap_err();
        assert!(error.hint.unwrap().contains("container"));
    }

    #[test]
    fn a_create_request_needs_only_its_environment() {
        let request: CreateRequest =
            serde_json::from_str(r#"{"environment": "debian:12"}"#).unwrap();
        assert_eq!(request, CreateRequest::new("debian:12".parse().unwrap()));
    }
}
