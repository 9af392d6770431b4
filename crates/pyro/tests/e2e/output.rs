use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::Host;

/// Peak resident memory of a process, KiB (proc(5), VmHWM).
fn peak_memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn supervisor(host: &Host) -> u32 {
    host.processes()
        .into_iter()
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("supervise")
        })
        .expect("a supervisor runs")
}

#[test]
fn a_gigabyte_reaches_a_slow_reader_whole_and_the_supervisor_stays_small() {
    const BYTES: u64 = 1 << 30;
    let host = Host::new();
    let id = host.create(["--mem-mib", "512"]);
    let mut child = host
        .command(["workspace", "exec", &id, "--", "sh", "-c"])
        .arg(format!("yes 0123456789abcde | head -c {BYTES}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let supervisor = supervisor(&host);
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0u64;
    let started = Instant::now();
    let mut stalls = 0;
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        for (offset, byte) in (total..).zip(&buffer[..count]) {
            assert_eq!(
                *byte,
                b"0123456789abcde\n"[usize::try_from(offset % 16).unwrap()],
                "at {offset}"
            );
        }
        total += u64::try_from(count).unwrap();
        // Stall now and then, long enough for every buffer on the way to fill.
        if total >> 28 > stalls {
            stalls += 1;
            std::thread::sleep(Duration::from_secs(3));
        }
    }
    assert_eq!(total, BYTES);
    assert!(child.wait().unwrap().success());
    let peak = peak_memory_kib(supervisor);
    eprintln!("1 GiB in {:.0?}, the supervisor's peak was {peak} KiB", started.elapsed());
    assert!(peak < 64 << 10, "the supervisor grew to {peak} KiB");
    let log = host.json(["workspace", "logs", &id]);
    assert_eq!(log[0]["output_bytes"], BYTES);
    assert!(log[0]["omitted_bytes"].as_u64().unwrap() > BYTES - (1 << 20));
}

#[test]
fn a_stalled_command_does_not_hold_up_the_others() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    let mut stalled: Vec<_> = (0..4)
        .map(|_| {
            host.command(["workspace", "exec", &id, "--", "yes"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.sh(&id, "echo alive"), "alive\n");
    for child in &mut stalled {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let host = Host::new();
    let id = host.create([] as [&str; 0]);
    host.sh(&id, "seq 100000 > numbers");
    let script = format!("'{}' workspace diff {id} | head -n 1", crate::harness::PYRO);
    let output = std::process::Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {script}")])
        .env("PYRO_HOME", host.home())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"diff --git a/numbers b/numbers\n");
    assert_eq!(output.stderr, b"");
}
