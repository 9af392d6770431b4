//! This host's processor, which a frozen machine has seen.

use std::fs;

/// Model, stepping, microcode and features of the first processor. Rates vary from moment to moment.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let of_moment = ["cpu MHz", "bogomips", "processor", "core id", "apicid", "initial apicid"];
    let lasting = |line: &&str| !of_moment.iter().any(|key| line.starts_with(key));
    first.lines().filter(lasting).collect::<Vec<_>>().join("\n")
}
