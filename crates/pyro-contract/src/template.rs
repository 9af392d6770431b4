//! Templates: machines that were frozen once, from which others start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentRef;
use crate::workspace::{EngineChoice, EngineKind, Shape, ShapeRequest};

/// What to make ready for the next `create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrepareRequest {
    /// The root filesystem.
    #[serde(default)]
    pub environment: EnvironmentRef,
    /// What isolates; the host's default, which is `auto` unless its owner set another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineChoice>,
    /// The machine's size.
    #[serde(default)]
    pub shape: ShapeRequest,
    /// Keep so many machines restored and waiting for as long as the caller lives. The memory that
    /// they may take together is a setting of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<u32>,
}

/// What became of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// It was made just now.
    Made,
    /// It was there, and is right for this host.
    Present,
    /// This engine starts its machines without any.
    Unsupported,
    /// The host's owner switched templates off.
    Disabled,
}

/// What the next `create` starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prepared {
    /// The root filesystem, which is in the cache.
    pub environment: EnvironmentRef,
    /// What isolates.
    pub engine: EngineKind,
    /// The machine's size, for which alone the template is.
    pub shape: Shape,
    /// What became of the template.
    pub template: TemplateState,
    /// Bytes that the template takes.
    #[serde(default)]
    pub size_bytes: u64,
    /// How long all this took, in milliseconds.
    pub duration_ms: u64,
}
