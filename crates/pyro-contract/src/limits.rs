//! What a workspace or one command may take, and how running into a limit is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode};

/// What one command may take, with all that it starts. What is left out is the workspace's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLimits {
    /// Memory in MiB, 4 to 262144.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4, max = 262_144))]
    pub memory_mib: Option<u32>,
    /// Processor time, in hundredths of one processor: 150 is one and a half. 1 to 3200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3200))]
    pub cpu_percent: Option<u32>,
    /// Processes and threads at once, 1 to 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub process_count: Option<u32>,
    /// Files that each of its processes may have open, 16 to 1048576.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub open_file_count: Option<u32>,
}

impl CommandLimits {
    /// Says which number is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        check("memory_mib", self.memory_mib, 4, 262_144)?;
        check("cpu_percent", self.cpu_percent, 1, 3200)?;
        check("process_count", self.process_count, 1, 1_000_000)?;
        check("open_file_count", self.open_file_count, 16, 1_048_576)
    }
}

/// What a workspace may take besides its [size](crate::workspace::Shape).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceLimits {
    /// Processes and threads of all its commands at once, 64 to 1000000; what its memory allows,
    /// unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_000_000))]
    pub process_count: Option<u32>,
    /// Files that each process may have open, 64 to 1048576; 1024, which a process may raise to
    /// 4096, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub open_file_count: Option<u32>,
}

impl WorkspaceLimits {
    /// Says which number is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        check("process_count", self.process_count, 64, 1_000_000)?;
        check("open_file_count", self.open_file_count, 64, 1_048_576)
    }
}

fn check(name: &str, value: Option<u32>, low: u32, high: u32) -> Result<(), Error> {
    match value {
        Some(value) if !(low..=high).contains(&value) => Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("the limit {name} {value} is out of range"),
        )
        .with_hint(format!("{name} takes {low} to {high}"))),
        _ => Ok(()),
    }
}

/// A limit that a command ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitHit {
    /// Of what.
    pub limit: Limit,
    /// Whose.
    pub of: LimitOf,
    /// How much that is: MiB of memory or disk, or how many processes; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Memory.
    Memory,
    /// What may be written to the disk.
    Disk,
    /// Processes and threads at once.
    Processes,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitOf {
    /// The command's own.
    Command,
    /// That of the whole workspace.
    Workspace,
}

impl LimitHit {
    /// What happened, in words, and what can be done about it.
    #[must_use]
    pub fn describe(&self) -> String {
        let whose = match self.of {
            LimitOf::Command => "the command's",
            LimitOf::Workspace => "the workspace's",
        };
        let (what, unit) = match self.limit {
            Limit::Memory => ("memory limit", " MiB"),
            Limit::Disk => ("disk limit", " MiB"),
            Limit::Processes => ("limit of processes and threads", ""),
        };
        let amount = match (self.limit, self.value) {
            (Limit::Processes, Some(value)) => format!("of {value} processes and threads"),
            (_, Some(value)) => format!("of {value}{unit}"),
            (_, None) => String::new(),
        };
        let what = if amount.is_empty() {
            what
        } else {
            what.trim_end_matches(" of processes and threads")
        };
        let remedy = match (self.limit, self.of) {
            (Limit::Memory, LimitOf::Command) => "a larger --memory-mib gives it more",
            (Limit::Memory, LimitOf::Workspace) => {
                "a workspace made with a larger --mem-mib has more"
            }
            (Limit::Disk, _) => {
                "remove what is not needed, or make a workspace with a larger --disk-mib"
            }
            (Limit::Processes, _) => "a larger --process-count allows more",
        };
        let space = if amount.is_empty() { "" } else { " " };
        format!("{whose} {what}{space}{amount} was reached ({remedy})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_out_of_range_is_refused_by_name() {
        let error = CommandLimits { cpu_percent: Some(0), ..CommandLimits::default() };
        assert!(error.validate().unwrap_err().message.contains("cpu_percent"));
        let error = WorkspaceLimits { process_count: Some(1), ..WorkspaceLimits::default() };
        assert!(error.validate().unwrap_err().hint.unwrap().contains("64"));
        assert!(CommandLimits::default().validate().is_ok());
    }

    #[test]
    fn a_limit_that_was_hit_is_said_with_its_size() {
        let hit = |limit, of, value| LimitHit { limit, of, value }.describe();
        assert_eq!(
            hit(Limit::Disk, LimitOf::Workspace, Some(64)),
            "the workspace's disk limit of 64 MiB was reached (remove what is not needed, or make a \
             workspace with a larger --disk-mib)"
        );
        let text = hit(Limit::Processes, LimitOf::Command, Some(20));
        assert!(text.starts_with("the command's limit of 20 processes and threads was"), "{text}");
        let text = hit(Limit::Processes, LimitOf::Workspace, None);
        assert!(text.starts_with("the workspace's limit of processes and threads was"), "{text}");
    }
}
