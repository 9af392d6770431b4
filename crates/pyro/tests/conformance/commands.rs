//! Commands that nobody holds on to, long outputs, and limits of one command.

use serde_json::{Value, json};

use crate::Bench;

pub(crate) fn a_detached_command_is_listed_waited_for_and_signalled(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let script = "echo ready; trap 'exit 9' USR1; while :; do sleep 0.1; done";
    let number = bench.ok(["workspace", "exec", &id, "--detach", "--id-only", "-c", script]);
    let number = number.trim();
    let page =
        bench.json(["workspace", "output", &id, "--sequence", number, "--wait-seconds", "60"]);
    assert_eq!((&page["output"][0]["text"], &page["running"]), (&json!("ready\n"), &json!(true)));
    let listed = bench.json(["workspace", "command", "list", &id]);
    assert_eq!(listed[0]["sequence"].to_string(), number);
    // The trap is set a moment after the word.
    std::thread::sleep(std::time::Duration::from_millis(500));
    bench.ok(["workspace", "command", "signal", &id, number, "--signal", "USR1"]);
    let waited = bench.output(["workspace", "command", "wait", &id, number]);
    assert_eq!((waited.status.code(), &waited.stdout[..]), (Some(9), &b"ready\n"[..]));
}

pub(crate) fn a_long_output_is_continued(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let words = ["workspace", "exec", &id, "--max-output-bytes", "1000", "-c", "seq 1 30000"];
    let first = bench.json(words);
    let mut text = first["stdout"].as_str().unwrap().to_owned();
    assert_eq!(text.len(), 1000);
    let mut token = first["continuation"].clone();
    while let Some(next) = token.as_str() {
        let page = bench.json([
            "workspace",
            "output",
            &id,
            "--continuation",
            next,
            "--max-output-bytes",
            "50000",
        ]);
        for chunk in page["output"].as_array().unwrap() {
            text += chunk["text"].as_str().unwrap();
        }
        token = page["continuation"].clone();
    }
    let expected: String = (1..=30_000).map(|i| format!("{i}\n")).collect();
    assert!(text == expected);
}

/// The result of a command, or the error that says that this machine cannot limit one.
fn limited(bench: &Bench, id: &str, flags: &[&str], argv: &[&str]) -> Result<Value, Value> {
    let fixed = ["--json", "workspace", "exec", id, "--timeout-seconds", "60"];
    let words = fixed.iter().chain(flags).copied().chain(["--"]).chain(argv.iter().copied());
    let output = bench.output(words);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    match document["error"].as_object() {
        Some(_) => Err(document["error"].clone()),
        None => Ok(document),
    }
}

fn unsupported(bench: &Bench, error: &Value) {
    assert!(!bench.is_virtual_machine(), "{error}");
    assert_eq!(error["code"], "unsupported", "{error}");
    crate::skip("this host's cgroups do not let a container limit one command");
}

pub(crate) fn a_commands_own_memory_limit_is_named(bench: &Bench) {
    let id = bench.create(["--mem-mib", "512"]);
    let bomb = "b=[]\nwhile True: b.append(bytearray(1<<20))";
    match limited(bench, &id, &["--memory-mib", "64"], &["python3", "-c", bomb]) {
        Ok(result) => {
            assert_eq!((&result["signal"], &result["oom_killed"]), (&json!(9), &json!(true)));
            let hit = json!([{"limit": "memory", "of": "command", "value": 64}]);
            assert_eq!(result["limits_hit"], hit, "{result}");
        }
        Err(error) => unsupported(bench, &error),
    }
    assert_eq!(bench.sh(&id, "echo alive"), "alive\n");
}

pub(crate) fn a_commands_own_process_limit_is_named(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait";
    match limited(bench, &id, &["--process-count", "5"], &["bash", "-c", script]) {
        Ok(result) => {
            let hit = json!([{"limit": "processes", "of": "command", "value": 5}]);
            assert_eq!(result["limits_hit"], hit, "{result}");
        }
        Err(error) => unsupported(bench, &error),
    }
}

pub(crate) fn a_commands_processor_time_is_limited(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let spin = "import time\nb,p=time.monotonic(),time.process_time()\nwhile time.process_time()-p < 0.5: pass\nprint(time.monotonic()-b)";
    match limited(bench, &id, &["--cpu-percent", "20"], &["python3", "-c", spin]) {
        Ok(result) => {
            let wall: f64 = result["stdout"].as_str().unwrap().trim().parse().unwrap();
            assert!(wall > 1.5, "half a second of processor time took {wall} s");
        }
        Err(error) => unsupported(bench, &error),
    }
}

pub(crate) fn open_files_are_limited_per_command_and_per_workspace(bench: &Bench) {
    let id = bench.create(["--open-file-count", "100"]);
    assert_eq!(bench.sh(&id, "ulimit -n; ulimit -Hn"), "100\n100\n");
    let own = ["workspace", "exec", &id, "--open-file-count", "50", "--", "sh", "-c", "ulimit -n"];
    assert_eq!(bench.ok(own), "50\n");
    assert_eq!(bench.status(&id)["limits"]["open_file_count"], 100);
}

pub(crate) fn a_workspaces_process_limit_holds_and_a_full_disk_is_named(bench: &Bench) {
    let id = bench.create(["--process-count", "64"]);
    let script =
        "for i in $(seq 1 120); do sleep 20 & done 2>/dev/null; pgrep -c sleep; kill $(jobs -p)";
    let output = bench.output(["--json", "workspace", "exec", &id, "--", "bash", "-c", script]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count: u32 = result["stdout"].as_str().unwrap_or("0").trim().parse().unwrap_or(0);
    assert!(count < 100, "{result}");
    if bench.boundless {
        return crate::skip(
            "the disk of an ordinary user's container is limited by the host's alone",
        );
    }
    // Another one, for what was left running there takes all its processes.
    let id = bench.create(["--disk-mib", "64"]);
    let fill = ["--json", "workspace", "exec", &id, "-c", "head -c 200000000 /dev/zero > big"];
    let result: Value = serde_json::from_slice(&bench.output(fill).stdout).unwrap();
    let hit = json!([{"limit": "disk", "of": "workspace", "value": 64}]);
    assert_eq!(result["limits_hit"], hit, "{result}");
    let said = bench.output(["workspace", "exec", &id, "-c", "head -c 200000000 /dev/zero > more"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("disk limit of 64 MiB was reached"), "{said}");
}
