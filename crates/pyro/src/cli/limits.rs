//! What a machine or a command may take, as arguments.

use clap::Args;
use pyro_contract::limits::{CommandLimits, WorkspaceLimits};

/// Limits of a whole workspace.
#[derive(Debug, Args)]
pub(crate) struct WorkspaceLimitArgs {
    /// Processes and threads that it may have at once [default: what its memory allows]
    #[arg(long, value_name = "N")]
    pub(crate) process_count: Option<u32>,
    /// Files that each of its processes may have open
    #[arg(long, value_name = "N")]
    pub(crate) open_file_count: Option<u32>,
}

impl WorkspaceLimitArgs {
    pub(crate) fn limits(&self) -> WorkspaceLimits {
        WorkspaceLimits { process_count: self.process_count, open_file_count: self.open_file_count }
    }
}

/// Limits of one command and all it starts.
#[derive(Debug, Args)]
pub(crate) struct CommandLimitArgs {
    /// Memory that it and all it starts may take
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u32>,
    /// Processor time that it may take: 100 is one whole processor
    #[arg(long, value_name = "PERCENT")]
    pub(crate) cpu_percent: Option<u32>,
    /// Processes and threads that it may have at once
    #[arg(long, value_name = "N")]
    pub(crate) process_count: Option<u32>,
    /// Files that each of its processes may have open
    #[arg(long, value_name = "N")]
    pub(crate) open_file_count: Option<u32>,
}

impl CommandLimitArgs {
    pub(crate) fn limits(&self) -> CommandLimits {
        CommandLimits {
            memory_mib: self.memory_mib,
            cpu_percent: self.cpu_percent,
            process_count: self.process_count,
            open_file_count: self.open_file_count,
        }
    }
}
