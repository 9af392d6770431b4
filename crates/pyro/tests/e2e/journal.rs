//! The journal and detached commands, as a person and a script use them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Host;

fn container(host: &Host) -> String {
    host.create(["--engine", "container"])
}

/// A detached command; its number.
fn detach(host: &Host, id: &str, script: &str) -> String {
    let words = ["workspace", "exec", id, "--detach", "--id-only", "-c", script];
    host.ok(words).trim().to_owned()
}

#[test]
fn a_long_output_is_cut_off_and_its_continuation_gets_the_rest_also_after_a_restart() {
    let host = Host::new();
    let id = container(&host);
    let script = "for i in $(seq 1 60000); do echo \"line $i\"; echo \"oops $i\" >&2; done";
    let words = ["workspace", "exec", &id, "--max-output-bytes", "100000", "-c", script];
    let first = host.json(words);
    assert_eq!((&first["exit_code"], &first["truncated"]), (&json!(0), &json!(true)));
    let length = |field: &str| first[field].as_str().unwrap().len();
    assert!(length("stdout") + length("stderr") <= 100_000, "{first}");
    host.ok(["workspace", "stop", &id]);
    let mut all = [
        first["stdout"].as_str().unwrap().to_owned(),
        first["stderr"].as_str().unwrap().to_owned(),
    ];
    let mut token = first["continuation"].as_str().unwrap().to_owned();
    let mut pages = 0;
    loop {
        let page = host.json([
            "workspace",
            "output",
            &id,
            "--continuation",
            &token,
            "--max-output-bytes",
            "300000",
        ]);
        assert_eq!(page["dropped_bytes"], 0);
        for chunk in page["output"].as_array().unwrap() {
            let stream = usize::from(chunk["stream"] == "stderr");
            all[stream] += chunk["text"].as_str().unwrap();
        }
        pages += 1;
        match page["continuation"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
        if pages == 2 {
            host.ok(["workspace", "start", &id]);
        }
    }
    assert!(pages > 2, "{pages}");
    let expected =
        |word: &str| -> String { (1..=60_000).map(|i| format!("{word} {i}\n")).collect() };
    assert!(all[0] == expected("line") && all[1] == expected("oops"));
    let error = host.error(["workspace", "output", &id, "--continuation", "nonsense"], 1);
    assert_eq!(error["code"], "invalid_argument");
    let other = container(&host);
    let error = host.error(["workspace", "output", &other, "--continuation", &token], 1);
    assert_eq!(error["code"], "invalid_argument", "it is another workspace's");
    // A person gets all of it at once, each stream where it belongs.
    let output = host.output(["--quiet", "workspace", "logs", &id, "--sequence", "1"]);
    assert!(output.stdout == all[0].as_bytes() && output.stderr == all[1].as_bytes());
}

#[test]
fn a_detached_command_outlives_its_client_and_can_be_followed_waited_for_and_signalled() {
    let host = Host::new();
    let id = container(&host);
    let number = detach(
        &host,
        &id,
        "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.05; done",
    );
    let listed = host.json(["workspace", "command", "list", &id]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["running"], &listed[0]["detached"]), (&json!(true), &json!(true)));
    assert_eq!(listed[0]["client"], "cli");
    assert_eq!(listed[0]["sequence"].to_string(), number);

    let mut follower = host
        .command(["workspace", "logs", &id, "--sequence", &number, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");

    let error =
        host.error(["workspace", "command", "wait", &id, &number, "--timeout-seconds", "1"], 125);
    assert_eq!(error["code"], "timeout");
    host.ok(["workspace", "command", "signal", &id, &number]);
    let waited = host.output(["--json", "workspace", "command", "wait", &id, &number]);
    assert_eq!(waited.status.code(), Some(7));
    let result: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(7), &json!("hello\nbye\n")));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
    assert!(follower.wait().unwrap().success());

    let error = host.error(["workspace", "command", "signal", &id, &number], 1);
    assert_eq!(error["code"], "wrong_state");
    let error = host.error(["workspace", "command", "wait", &id, "999"], 125);
    assert_eq!(error["code"], "not_found");
    assert_eq!(host.json(["workspace", "command", "list", &id]), json!([]));
    assert_eq!(
        host.json(["workspace", "command", "list", &id, "--all"])[0]["outcome"]["exit_code"],
        7
    );
}

#[test]
fn a_whole_workspace_is_followed_until_it_stops() {
    let host = Host::new();
    let id = container(&host);
    host.sh(&id, "echo before");
    let follow = |words: &[&str]| {
        host.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut logs = follow(&["workspace", "logs", &id, "--follow"]);
    let events = follow(&["--json", "workspace", "events", &id, "--follow"]);
    let mut said = BufReader::new(logs.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("before") || line.contains('#') {
        line.clear();
        said.read_line(&mut line).unwrap();
    }
    host.sh(&id, "echo during; echo loud >&2");
    let mut during = String::new();
    while !during.contains("[exit 0") {
        said.read_line(&mut during).unwrap();
    }
    assert!(during.contains("#2 during\n") && during.contains("#2!loud\n"), "{during}");
    host.ok(["workspace", "update", &id, "--label", "a=b"]);
    host.ok(["workspace", "stop", &id]);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(logs.wait().unwrap().success());
    let output = events.wait_with_output().unwrap();
    assert!(output.status.success());
    let kinds: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = [
        "created",
        "started",
        "command_started",
        "command_ended",
        "command_started",
        "command_ended",
        "updated",
        "stopped",
    ];
    assert_eq!(kinds, expected);
    // Of a workspace at rest there is what there is.
    let begun = Instant::now();
    let again = host.ok(["workspace", "events", &id, "--follow"]);
    assert_eq!(again.lines().count(), expected.len(), "{again}");
    assert!(again.contains("cli") && begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn the_journal_is_filtered_by_line_time_number_and_count() {
    let host = Host::new();
    let id = container(&host);
    host.sh(&id, "echo one; echo error: first");
    std::thread::sleep(Duration::from_millis(1100));
    let between =
        host.json(["workspace", "command", "list", &id, "--all"])[0]["started_at"].clone();
    host.sh(&id, "echo two; echo error: second");
    let texts = |words: &[&str]| -> Vec<String> {
        let all = ["workspace", "logs", id.as_str()].into_iter().chain(words.iter().copied());
        let found = host.json(all);
        let entries = found.as_array().unwrap().iter();
        entries.map(|entry| entry["output"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&["--grep", "^error"]), ["error: first\n", "error: second\n"]);
    assert_eq!(texts(&["--grep", "two"]), ["two\n"]);
    assert_eq!(texts(&["--tail", "1"]), ["two\nerror: second\n"]);
    assert_eq!(texts(&["--since", "1s"]).len(), 1);
    assert_eq!(texts(&["--since", between.as_str().unwrap()]).len(), 2);
    assert_eq!(texts(&["--sequence", "1"]), ["one\nerror: first\n"]);
    assert_eq!(host.error(["workspace", "logs", &id, "--sequence", "9"], 1)["code"], "not_found");
    assert_eq!(
        host.error(["workspace", "logs", &id, "--grep", "("], 1)["code"],
        "invalid_argument"
    );
}

#[test]
fn a_name_labels_and_time_to_live_change_while_it_runs_and_while_it_does_not() {
    let host = Host::new();
    let id = host.create([
        "--engine",
        "container",
        "--name",
        "before",
        "--label",
        "old=1",
        "--ttl-seconds",
        "3600",
    ]);
    let other = host.create(["--engine", "container", "--name", "taken"]);
    let update = [
        "workspace",
        "update",
        "before",
        "--name",
        "after",
        "--label",
        "new=2",
        "--clear-label",
        "old",
        "--ttl-seconds",
        "7200",
    ];
    let status = host.json(update);
    assert_eq!((&status["name"], &status["labels"]), (&json!("after"), &json!({"new": "2"})));
    let stops_at: String = status["stops_at"].as_str().unwrap().into();
    assert_eq!(
        host.error(["workspace", "update", "after", "--name", "taken"], 1)["code"],
        "already_exists"
    );
    assert_eq!(host.error(["workspace", "update", "after"], 1)["code"], "invalid_argument");
    assert_eq!(host.status(&id)["stops_at"], json!(stops_at), "a refused change changes nothing");
    host.ok(["workspace", "stop", "after"]);
    let status = host.json(["workspace", "update", "after", "--clear-name", "--clear-ttl"]);
    assert_eq!((&status["name"], &status["id"]), (&Value::Null, &json!(id)));
    host.ok(["workspace", "start", &id]);
    assert_eq!(host.status(&id)["stops_at"], Value::Null);
    // A time to live that begins now ends it soon.
    host.ok(["workspace", "update", &id, "--ttl-seconds", "1"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.status(&id)["state"] != "stopped" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    let kinds: Vec<Value> = host
        .json(["workspace", "events", &id])
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["kind"].clone())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "updated").count(), 3, "{kinds:?}");
    drop(other);
}

#[test]
fn a_summary_tells_what_was_done_and_what_failed() {
    let host = Host::new();
    let id = container(&host);
    host.sh(&id, "echo hi > new.txt");
    host.output(["workspace", "exec", &id, "-c", "echo no luck >&2; exit 3"]);
    let summary = host.json(["workspace", "summary", &id]);
    assert_eq!((&summary["command_count"], &summary["failed_count"]), (&json!(2), &json!(1)));
    assert_eq!(summary["failures"][0]["output"][0]["text"], "no luck\n");
    assert_eq!(summary["changes"]["files"], json!(["added new.txt"]));
    let text = host.ok(["workspace", "summary", &id]);
    assert!(
        text.contains("1 failed") && text.contains("added new.txt") && text.contains("no luck"),
        "{text}"
    );
    host.ok(["workspace", "stop", &id]);
    assert_eq!(host.json(["workspace", "summary", &id])["changes"]["added"], 1);
}

#[test]
fn what_a_command_wrote_before_its_client_died_is_in_the_journal() {
    let host = Host::new();
    let id = container(&host);
    let mut child = host
        .command(["workspace", "exec", &id, "-c", "echo partial; exec sleep 100"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let number = "1";
    let error = host.error(["workspace", "command", "wait", &id, number], 125);
    assert!(error["cause"].as_str().unwrap().contains("hung up"), "{error}");
    let entry = &host.json(["workspace", "logs", &id])[0];
    assert_eq!(entry["output"][0]["text"], "partial\n");
    assert_eq!(host.sh(&id, "pgrep -c sleep || true"), "0\n");
}

#[test]
fn a_text_is_run_by_a_login_shell_and_arguments_are_not() {
    let host = Host::new();
    let id = container(&host);
    let text = host.ok(["workspace", "exec", &id, "-c", "echo $((6*7)) | tr 4 x; echo $0"]);
    assert_eq!(text, "x2\nsh\n");
    let output = host.output(["workspace", "exec", &id, "--", "echo a b"]);
    assert_eq!(output.status.code(), Some(127), "one argument with a space is one argument");
    let both = host.output(["workspace", "exec", &id, "-c", "true", "--", "true"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn names_are_completed() {
    let host = Host::new();
    let id = host.create(["--engine", "container", "--name", "galaxy"]);
    let complete = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let output = host
            .command(["--"].iter().chain(words))
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["pyro", "workspace", "status", "gal"]).trim(), "galaxy");
    assert_eq!(complete(&["pyro", "workspace", "status", "ws-"]).trim(), id);
    assert!(complete(&["pyro", "workspace", "upd"]).contains("update"));
    let script = host.ok(["completions", "bash"]);
    assert!(script.contains("COMPLETE"), "{script}");
}
