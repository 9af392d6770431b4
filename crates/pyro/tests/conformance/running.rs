//! Commands.

use std::io::Write as _;
use std::process::Stdio;

use crate::Bench;

pub(crate) fn streams_and_exit_codes_are_the_commands(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let exec =
        |script: &str| bench.output(["workspace", "exec", id.as_str(), "--", "sh", "-c", script]);
    let output = exec("printf 'a\\0b\\377'; echo err >&2; exit 7");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"a\0b\xff");
    assert!(output.stderr.ends_with(b"err\n"), "{output:?}");
    let big = exec("head -c 20000000 /dev/zero; exit 3");
    assert_eq!((big.stdout.len(), big.status.code()), (20_000_000, Some(3)));
    let output = bench.output(["workspace", "exec", &id, "--", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
}

pub(crate) fn signals_and_timeouts_end_the_whole_group(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let output = bench.output(["workspace", "exec", &id, "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.code(), Some(128 + 15));
    let slow = ["workspace", "exec", &id, "--timeout-seconds", "1", "--", "sh", "-c"];
    let output = bench.output(slow.into_iter().chain(["sleep 7777 & sleep 7777"]));
    assert_eq!(output.status.code(), Some(124));
    let left =
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 777[7]' || true";
    assert_eq!(bench.sh(&id, left), "0\n");
}

pub(crate) fn a_user_a_directory_variables_and_stdin_are_taken(bench: &Bench) {
    let id = bench.create(["--env", "GREETING=hällo wörld"]);
    bench.sh(&id, "mkdir -m 755 'sub dir'; chmod 755 .");
    let mut child = bench
        .command(["workspace", "exec", &id, "--cwd", "sub dir", "--user", "nobody", "--"])
        .args(["sh", "-c", "cat; echo $GREETING; id -un; pwd; id -G"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "from stdin\nhällo wörld\nnobody\n/workspace/sub dir\n65534\n"
    );
}

pub(crate) fn many_commands_run_at_once(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let children: Vec<_> = (0..16)
        .map(|number| {
            bench
                .command(["workspace", "exec", &id, "--", "sh", "-c"])
                .arg(format!("for i in $(seq 200); do echo {number} $i; done"))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let expected: String = (1..=200).map(|line| format!("{number} {line}\n")).collect();
        assert_eq!(lines, expected);
    }
}
