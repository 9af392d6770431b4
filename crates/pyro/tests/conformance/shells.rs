//! Terminals that outlive their clients.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Bench;

/// More than any engine needs, however busy its host.
const PATIENCE: Duration = Duration::from_secs(120);

impl Bench {
    /// Opens a shell; its id.
    #[track_caller]
    pub(crate) fn open(&self, workspace: &str, args: &[&str]) -> String {
        let fixed = ["workspace", "shell", "open", workspace, "--id-only"];
        self.ok(fixed.iter().chain(args)).trim().to_owned()
    }

    #[track_caller]
    pub(crate) fn shell(&self, verb: &str, workspace: &str, shell: &str, args: &[&str]) -> Value {
        self.json(["workspace", "shell", verb, workspace, shell].iter().chain(args))
    }

    /// Reads, from the beginning or as `args` say, until the text contains `expected`.
    #[track_caller]
    pub(crate) fn until(
        &self,
        workspace: &str,
        shell: &str,
        args: &[&str],
        expected: &str,
    ) -> Value {
        let begun = Instant::now();
        loop {
            let args = [args, &["--wait-for-idle-ms", "100"]].concat();
            let shown = self.shell("read", workspace, shell, &args);
            if shown["text"].as_str().unwrap().contains(expected) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "no {expected:?} in {shown}");
        }
    }

    #[track_caller]
    fn state(&self, workspace: &str, shell: &str) -> Value {
        let all = self.json(["workspace", "shell", "list", workspace]);
        let found = all.as_array().unwrap().iter().find(|info| info["id"] == shell);
        found.unwrap_or_else(|| panic!("{shell} is not in {all}")).clone()
    }

    #[track_caller]
    fn until_closed(&self, workspace: &str, shell: &str) -> Value {
        let begun = Instant::now();
        loop {
            self.shell("read", workspace, shell, &["--wait-for-idle-ms", "100"]);
            let state = self.state(workspace, shell);
            if state["state"] == "closed" {
                return state;
            }
            assert!(begun.elapsed() < PATIENCE, "{state}");
        }
    }
}

pub(crate) fn a_shell_outlives_its_clients_and_is_read_by_cursor(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let shell = bench.open(&id, &["--name", "main", "--env", "PS1=ready$ "]);
    bench.shell("write", &id, "main", &["PS1='ready$ '; export GREETING=hällo", "--enter"]);
    let written = bench.shell("write", &id, "main", &["echo $GREETING-$((6*7)); pwd", "--enter"]);
    let cursor = written["cursor"].to_string();
    let shown = bench.until(&id, "main", &["--cursor", &cursor], "/workspace\n");
    assert!(shown["text"].as_str().unwrap().contains("hällo-42\n"), "{shown}");
    // Somebody else's cursor is his own; the same bytes are there for each.
    let next = shown["next_cursor"].to_string();
    let again = bench.until(&id, &shell, &["--cursor", &cursor], "/workspace\n");
    assert_eq!(again["text"], shown["text"]);
    bench.shell("write", &id, "main", &["exit 7", "--enter"]);
    let closed = bench.until_closed(&id, &shell);
    assert_eq!((&closed["exit_code"], &closed["name"]), (&7.into(), &"main".into()), "{closed}");
    let rest = bench.shell("read", &id, "main", &["--cursor", &next]);
    assert!(rest["text"].as_str().unwrap().contains("exit 7"), "{rest}");
    assert_eq!((&rest["state"], &rest["exit_code"]), (&"closed".into(), &7.into()));
    let error = bench.error(["workspace", "shell", "write", &id, "main", "x"], 1);
    assert_eq!(error["code"], "wrong_state");
    // Closed once more, it is gone, and its name free.
    bench.shell("close", &id, "main", &[]);
    let error = bench.error(["workspace", "shell", "read", &id, "main"], 1);
    assert_eq!(error["code"], "not_found");
    bench.open(&id, &["--name", "main"]);
    let error = bench.error(["workspace", "shell", "open", &id, "--name", "main"], 1);
    assert_eq!(error["code"], "already_exists");
}

pub(crate) fn a_shell_has_a_terminal_of_its_own(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let script = "tty; echo $TERM; stty size; trap 'stty size' WINCH; \
        trap 'echo interrupted' INT; trap 'echo asked' USR1; echo set; while :; do sleep 0.1; done";
    let shell = bench.open(
        &id,
        &["--user", "nobody", "--cols", "100", "--rows", "30", "--", "sh", "-c", script],
    );
    let shown = bench.until(&id, &shell, &[], "set\n");
    let text = shown["text"].as_str().unwrap();
    assert!(text.starts_with("/dev/pts/"), "{shown}");
    assert!(text.contains("\nxterm-256color\n30 100\n"), "{shown}");
    let resized = bench.shell("resize", &id, &shell, &["--cols", "132", "--rows", "43"]);
    assert_eq!((&resized["cols"], &resized["rows"]), (&132.into(), &43.into()));
    bench.until(&id, &shell, &[], "43 132\n");
    bench.shell("write", &id, &shell, &["--key", "ctrl-c"]);
    bench.until(&id, &shell, &[], "^Cinterrupted\n");
    bench.shell("signal", &id, &shell, &["USR1"]);
    bench.until(&id, &shell, &[], "asked\n");
    // It belongs to its user, who may open it by its name.
    let own = bench.open(&id, &["--user", "nobody", "--", "sh", "-c", "echo own > $(tty)"]);
    bench.until(&id, &own, &[], "own\n");
    bench.shell("signal", &id, &shell, &["KILL"]);
    assert_eq!(bench.until_closed(&id, &shell)["signal"], 9);
    for (bad, code) in [
        (&["--", "no-such-command"][..], "not_found"),
        (&["--user", "no-such-user"], "not_found"),
        (&["--cwd", "/no/such"], "not_found"),
        (&["--cols", "1"], "invalid_argument"),
    ] {
        let error = bench.error(["workspace", "shell", "open", &id].iter().chain(bad), 1);
        assert_eq!(error["code"], code, "{error}");
    }
}

pub(crate) fn python_is_driven_by_its_screen(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let shell = bench.open(&id, &["--", "python3", "-q"]);
    bench.until(&id, &shell, &["--plain"], ">>>");
    bench.shell("write", &id, &shell, &["def f(n):", "--enter"]);
    bench.shell("write", &id, &shell, &["  return 'ü' * n", "--enter", "--key", "enter"]);
    bench.shell("write", &id, &shell, &["f(3)", "--enter"]);
    bench.until(&id, &shell, &["--plain"], "'üüü'\n>>>");
    // What was typed last comes back by its key, as readline has it.
    bench.shell("write", &id, &shell, &["--key", "up", "--key", "left", "--key", "backspace"]);
    bench.shell("write", &id, &shell, &["5", "--enter"]);
    let shown = bench.until(&id, &shell, &["--plain"], "'üüüüü'\n>>>");
    assert_eq!(shown["screen"]["cursor_col"], 5, "{shown}");
    bench.shell("write", &id, &shell, &["while True: pass", "--enter"]);
    // An interrupt drops what was typed and not yet read.
    bench.until(&id, &shell, &["--plain"], "while True: pass\n...");
    bench.shell("write", &id, &shell, &["--key", "enter"]);
    bench.until(&id, &shell, &[], "while True: pass\n... \n");
    bench.shell("write", &id, &shell, &["--key", "ctrl-c"]);
    bench.until(&id, &shell, &["--plain"], "KeyboardInterrupt\n>>>");
    bench.shell("write", &id, &shell, &["--key", "ctrl-d"]);
    bench.until_closed(&id, &shell);
}

pub(crate) fn closing_a_shell_ends_all_that_runs_in_it(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let shell = bench.open(&id, &[]);
    let start = "nohup sleep 7001 >/dev/null 2>&1 & setsid sleep 7002 & \
        (trap '' HUP TERM; sleep 7003) & echo started";
    bench.shell("write", &id, &shell, &[start, "--enter"]);
    bench.until(&id, &shell, &[], "\nstarted\n");
    let left = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'sleep 700[123]' | \
        wc -l";
    assert_eq!(bench.sh(&id, left), "3\n");
    let closed = bench.shell("close", &id, &shell, &[]);
    assert_eq!(closed["state"], "closed", "{closed}");
    assert_eq!(bench.sh(&id, left), "0\n");
}

pub(crate) fn shells_close_when_the_workspace_stops(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let script = "trap 'echo left > kept; exit' HUP; echo set; while :; do sleep 0.1; done";
    let shell = bench.open(&id, &["--", "sh", "-c", script]);
    bench.until(&id, &shell, &[], "set\n");
    // Nor does one that minds nothing hold up the stop.
    let stubborn = bench.open(&id, &["--", "sh", "-c", "trap '' HUP TERM; echo set; cat"]);
    bench.until(&id, &stubborn, &[], "set\n");
    bench.ok(["workspace", "stop", &id]);
    let state = bench.state(&id, &shell);
    assert_eq!(state["state"], "closed", "{state}");
    assert_eq!(state["reason"], "the workspace was stopped", "{state}");
    let error = bench.error(["workspace", "shell", "read", &id, &shell], 1);
    assert_eq!(error["code"], "wrong_state");
    bench.ok(["workspace", "start", &id]);
    assert_eq!(bench.json(["workspace", "shell", "list", &id]), Value::Array(vec![]));
    assert_eq!(bench.sh(&id, "cat kept"), "left\n", "it could take leave");
}

pub(crate) fn a_shell_that_nobody_reads_goes_on(bench: &Bench) {
    let id = bench.create([] as [&str; 0]);
    let script = "yes $(seq -s x 400) | head -c 8600000; echo; echo > done; echo end; cat";
    let shell = bench.open(&id, &["--", "sh", "-c", script]);
    bench.sh(&id, "until test -e done; do sleep 0.1; done");
    bench.until(&id, &shell, &["--plain"], "\nend");
    let shown = bench.shell("read", &id, &shell, &["--cursor", "1000", "--max-chars", "10"]);
    let number = |name: &str| shown[name].as_u64().unwrap();
    assert_eq!(number("cursor"), 1000 + number("dropped_bytes"), "{shown}");
    let kept = bench.state(&id, &shell)["output_bytes"].as_u64().unwrap() - number("cursor");
    assert_eq!(kept, 8 << 20, "{shown}");
    assert_eq!(shown["more"], true);
    assert!(shown["text"].as_str().unwrap().chars().count() <= 10);
}
