//! What a workspace may take. The host and the other workspaces go on; so does this one.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::harness::skip;

fn host_processes() -> usize {
    let is_process = |name: String| name.bytes().all(|byte| byte.is_ascii_digit());
    let names = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.file_name());
    names.filter(|name| is_process(name.to_string_lossy().into_owned())).count()
}

pub(crate) fn a_fork_bomb_stays_inside(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let before = host_processes();
    let bomb = "bomb() { bomb | bomb & }; bomb; sleep 2";
    let began = Instant::now();
    let _ = bench.output([
        "workspace",
        "exec",
        &id,
        "--timeout-seconds",
        "4",
        "--",
        "bash",
        "-c",
        bomb,
    ]);
    let during = host_processes();
    assert!(during < before + 20_000, "{before} processes before, {during} during");
    assert!(began.elapsed() < Duration::from_secs(90));
    assert_eq!(bench.sh(&id, "echo alive"), "alive\n");
}

pub(crate) fn a_memory_bomb_stays_inside(bench: &Bench) {
    let id = bench.create(["--mem-mib", "256"]);
    let bomb = "import mmap\nall=[]\nwhile True:\n m=bytearray(16<<20)\n all.append(m)\n";
    let output = bench.output([
        "--json",
        "workspace",
        "exec",
        &id,
        "--timeout-seconds",
        "60",
        "--",
        "python3",
        "-c",
        bomb,
    ]);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stderr = result["stderr"].as_str().unwrap_or_default();
    assert!(result["signal"] == 9 || stderr.contains("MemoryError"), "{result}");
    assert_eq!(result["timed_out"], false, "{result}");
    if result["signal"] == 9 {
        assert_eq!(result["oom_killed"], true, "{result}");
    }
    assert_eq!(bench.sh(&id, "echo alive"), "alive\n");
}

pub(crate) fn a_full_disk_is_the_commands_problem(bench: &Bench) {
    if bench.boundless {
        return skip("the disk of an ordinary user's container is limited by the host's alone");
    }
    let id = bench.create(["--disk-mib", "64"]);
    let output = bench.output([
        "workspace",
        "exec",
        &id,
        "--",
        "sh",
        "-c",
        "head -c 200000000 /dev/zero > big",
    ]);
    assert_ne!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("No space left on device") || said.contains("quota"), "{said}");
    bench.sh(&id, "rm big; echo small > small; sync");
    assert_eq!(bench.sh(&id, "cat small"), "small\n");
}

pub(crate) fn files_in_memory_are_bounded(bench: &Bench) {
    let id = bench.create(["--mem-mib", "256"]);
    let fill = "head -c 1000000000 /dev/zero > /dev/shm/big";
    let output = bench.output(["workspace", "exec", &id, "--", "sh", "-c", fill]);
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(bench.sh(&id, "rm /dev/shm/big; echo alive"), "alive\n");
}
