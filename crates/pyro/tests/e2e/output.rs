use std::io::{BufRead as _, BufReader, Read};
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

#[test]
fn sixty_four_commands_print_ten_megabytes_each_at_once_and_nothing_is_lost_or_reordered() {
    const COMMANDS: usize = 64;
    const LINES: usize = 500_000;
    let host = Host::new();
    let id = host.create(["--engine", "container", "--mem-mib", "2048"]);
    let supervisor = supervisor(&host);
    let started = Instant::now();
    // 20 bytes a line: 10 MB on stdout, and a little on the other stream meanwhile.
    let script = "import sys\nn=sys.argv[1]\nfor i in range(500000):\n sys.stdout.write('%s %016d\\n' % (n, i))\n if i % 5000 == 0: sys.stderr.write('%s %d\\n' % (n, i)); sys.stderr.flush()\n";
    let children: Vec<_> = (0..COMMANDS)
        .map(|n| {
            let number = format!("{:02}", n);
            let mut child = host
                .command(["workspace", "exec", &id, "--", "python3", "-c", script, &number])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::spawn(move || {
                let mut stderr = child.stderr.take().unwrap();
                let errors = std::thread::spawn(move || {
                    let mut text = String::new();
                    stderr.read_to_string(&mut text).unwrap();
                    text
                });
                check_lines(child.stdout.take().unwrap(), &number);
                let expected: String =
                    (0..LINES).step_by(5000).map(|i| format!("{number} {i}\n")).collect();
                assert!(errors.join().unwrap() == expected);
                assert!(child.wait().unwrap().success());
            })
        })
        .collect();
    for child in children {
        child.join().unwrap();
    }
    let took = started.elapsed();
    let peak = peak_memory_kib(supervisor);
    eprintln!("{COMMANDS} × 10 MB in {took:.0?}, the supervisor's peak was {peak} KiB");
    assert!(peak < 128 << 10, "the supervisor grew to {peak} KiB");
    // And so it is in the journal, which is small.
    let listed = host.json(["workspace", "command", "list", &id, "--all"]);
    for command in listed.as_array().unwrap() {
        assert_eq!(command["dropped_bytes"], 0, "{command}");
        assert!(command["output_bytes"].as_u64().unwrap() > 10_000_000, "{command}");
    }
    let number = listed[40]["argv"][3].as_str().unwrap().to_owned();
    let sequence = listed[40]["sequence"].to_string();
    let mut child = host
        .command(["--quiet", "workspace", "logs", &id, "--sequence", &sequence])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    check_lines(child.stdout.take().unwrap(), &number);
    assert!(child.wait().unwrap().success());
    let kept: u64 = std::fs::read_dir(host.home().join("workspaces").join(&id).join("output"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    eprintln!("the journal keeps {} MB in {kept} bytes", COMMANDS * 10);
    assert!(kept < 256 << 20, "{kept}");
}

/// Every line, in order.
fn check_lines(from: impl Read, number: &str) {
    let mut lines = BufReader::with_capacity(1 << 20, from);
    let mut line = Vec::new();
    for i in 0..500_000 {
        line.clear();
        lines.read_until(b'\n', &mut line).unwrap();
        let expected = format!("{number} {i:016}\n");
        assert!(
            line == expected.as_bytes(),
            "{} instead of {expected}",
            String::from_utf8_lossy(&line)
        );
    }
    assert_eq!(lines.read_until(b'\n', &mut line).unwrap(), 0, "there is more");
}
