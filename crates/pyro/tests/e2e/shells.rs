//! Shells, as agents and people use them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Host, is_root, skip};
use crate::person::Person;

/// A workspace on the quick engine. What is particular to engines is in the conformance suite.
struct Place {
    host: Host,
    id: String,
}

impl Place {
    fn new() -> Option<Self> {
        if !is_root() {
            skip("containers need root");
            return None;
        }
        let host = Host::new();
        let id = host.create(["--engine", "container"]);
        Some(Self { host, id })
    }

    #[track_caller]
    fn open(&self, args: &[&str]) -> String {
        let fixed = ["workspace", "shell", "open", &self.id, "--id-only"];
        self.host.ok(fixed.iter().chain(args)).trim().to_owned()
    }

    #[track_caller]
    fn shell(&self, verb: &str, shell: &str, args: &[&str]) -> Value {
        self.host.json(["workspace", "shell", verb, &self.id, shell].iter().chain(args))
    }

    #[track_caller]
    fn until(&self, shell: &str, args: &[&str], expected: &str) -> Value {
        let begun = Instant::now();
        loop {
            let args = [args, &["--wait-for-idle-ms", "50"]].concat();
            let shown = self.shell("read", shell, &args);
            if shown["text"].as_str().unwrap().contains(expected) {
                return shown;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {expected:?} in {shown}");
        }
    }

    #[track_caller]
    fn info(&self, shell: &str) -> Value {
        let all = self.host.json(["workspace", "shell", "list", &self.id]);
        all.as_array().unwrap().iter().find(|info| info["id"] == shell).unwrap().clone()
    }

    #[track_caller]
    fn until_info(&self, shell: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let info = self.info(shell);
            if holds(&info) {
                return info;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{info}");
            self.shell("read", shell, &["--wait-for-idle-ms", "20"]);
        }
    }

    fn attach(&self, shell: &str, cols: u16, rows: u16, args: &[&str]) -> Person {
        let args = [&["workspace", "shell", "attach", &self.id, shell], args].concat();
        let person = Person::runs(&self.host, cols, rows, &args);
        // The screen is drawn once one is attached; until then a terminal echoes by itself.
        person.sees("\x1b[J");
        person
    }

    fn supervisor(&self) -> u64 {
        let record = self.host.home().join("workspaces").join(&self.id).join("workspace.json");
        let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        record["run"]["supervisor"]["pid"].as_u64().unwrap()
    }
}

#[test]
fn a_hundred_megabytes_cost_bounded_memory() {
    let Some(place) = Place::new() else { return };
    let script = "head -c 104857600 /dev/zero | tr '\\0' x | fold -w 127; echo; echo end; cat";
    let shell = place.open(&["--", "sh", "-c", script]);
    place.until(&shell, &["--plain", "--timeout-ms", "60000"], "\nend");
    let info = place.info(&shell);
    let (all, dropped) =
        (info["output_bytes"].as_u64().unwrap(), info["dropped_bytes"].as_u64().unwrap());
    assert!(all > 100 << 20, "{info}");
    assert_eq!(all - dropped, 8 << 20);
    let shown = place.shell("read", &shell, &["--max-chars", "100"]);
    assert_eq!(shown["dropped_bytes"], dropped, "{shown}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", place.supervisor())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    eprintln!("peak memory of the supervisor: {} MiB", peak >> 10);
    assert!(peak < 64 << 10, "{peak} KiB");
}

#[test]
fn characters_that_come_byte_by_byte_are_read_whole() {
    let Some(place) = Place::new() else { return };
    let script = "import sys, time\n\
        for byte in 'aü€🔥你ñ'.encode() * 20:\n  \
        sys.stdout.buffer.write(bytes([byte])); sys.stdout.buffer.flush(); time.sleep(0.003)\n\
        print(); input()";
    let shell = place.open(&["--", "python3", "-c", script]);
    let mut text = String::new();
    let mut cursor = 0;
    while !text.ends_with('\n') {
        let at = cursor.to_string();
        let shown = place.shell("read", &shell, &["--cursor", &at, "--max-chars", "7"]);
        assert_eq!(shown["cursor"], cursor);
        cursor = shown["next_cursor"].as_u64().unwrap();
        text += shown["text"].as_str().unwrap();
    }
    assert_eq!(text, format!("{}\n", "aü€🔥你ñ".repeat(20)));
}

#[test]
fn what_is_typed_and_shown_may_be_any_bytes() {
    let Some(place) = Place::new() else { return };
    let script = "stty raw -echo; echo ready; head -c 100000 > typed; sha256sum typed; \
        printf '\\377\\0\\033[1mx'; cat > /dev/null";
    let shell = place.open(&["--", "sh", "-c", script]);
    place.until(&shell, &[], "ready");
    let data: Vec<u8> =
        (0..100_000_u32).map(|n| u8::try_from((n * 7 + n / 256) % 256).unwrap()).collect();
    let mut child = place
        .host
        .command(["--json", "workspace", "shell", "write", &place.id, &shell])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let written: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(written["written_bytes"], 100_000);
    let shown = place.until(&shell, &["--raw"], "x");
    assert!(shown["data_base64"].is_string(), "{shown}");
    let path = place.host.path("data");
    std::fs::write(&path, &data).unwrap();
    let own = Command::new("sha256sum").arg(&path).output().unwrap();
    let own = String::from_utf8(own.stdout).unwrap();
    assert!(shown["text"].as_str().unwrap().contains(&own[..64]), "{shown}");
    let read = ["workspace", "shell", "read", &place.id, &shell, "--raw"];
    let raw = place.host.output(read).stdout;
    assert!(raw.ends_with(b"\xff\0\x1b[1mx"), "{:?}", String::from_utf8_lossy(&raw));
}

#[test]
fn a_program_that_reads_nothing_holds_up_the_writer_and_nobody_else() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--", "sh", "-c", "stty raw -echo; echo ready; exec sleep 1000"]);
    place.until(&shell, &[], "ready");
    let text = "x".repeat(200_000);
    let write = ["workspace", "shell", "write", &place.id, &shell, "-", "--timeout-ms", "500"];
    let mut child = place
        .host
        .command(["--json"].iter().chain(&write))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["code"], "timeout", "{document}");
    place.shell("signal", &shell, &["TERM"]);
    let closed = place.until_info(&shell, |info| info["state"] == "closed");
    assert_eq!(closed["signal"], 15);
}

#[test]
fn a_wait_ends_when_the_shell_does_and_when_time_is_up() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--", "sh", "-c", "read x; echo bye"]);
    let begun = Instant::now();
    let read = ["--wait-for-idle-ms", "600000", "--timeout-ms", "600000"];
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.shell("read", &shell, &read));
        place.until_info(&shell, |_| true);
        place.shell("write", &shell, &["--enter"]);
        let shown = waiting.join().unwrap();
        assert_eq!((&shown["state"], &shown["timed_out"]), (&"closed".into(), &false.into()));
        assert!(shown["text"].as_str().unwrap().contains("bye"), "{shown}");
    });
    assert!(begun.elapsed() < Duration::from_secs(300));
    let busy = place.open(&["--", "yes"]);
    let read = ["--wait-for-idle-ms", "5000", "--timeout-ms", "300", "--max-chars", "10"];
    assert_eq!(place.shell("read", &busy, &read)["timed_out"], true);
    // It goes on, and may be ended by its key.
    place.shell("write", &busy, &["--key", "ctrl-c"]);
    assert_eq!(place.until_info(&busy, |info| info["state"] == "closed")["signal"], 2);
}

#[test]
fn an_editor_is_driven_by_its_screen() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--", "nano", "--ignorercfiles", "note.txt"]);
    let shown = place.until(&shell, &["--plain"], "GNU nano");
    assert_eq!(shown["screen"]["full_screen"], true, "{shown}");
    place.shell("write", &shell, &["first", "--enter"]);
    place.shell("write", &shell, &["secnd", "--key", "left", "--key", "left", "--key", "o"]);
    place.until(&shell, &["--plain"], "second");
    place.shell("write", &shell, &["--key", "ctrl-o", "--key", "enter"]);
    place.until(&shell, &["--plain"], "Wrote 2 lines");
    place.shell("write", &shell, &["--key", "ctrl-x"]);
    assert_eq!(place.until_info(&shell, |info| info["state"] == "closed")["exit_code"], 0);
    assert_eq!(place.host.sh(&place.id, "cat note.txt"), "first\nsecond\n");
}

/// Puts the host's vim into a workspace, if it has one that runs there.
fn bring_vim(place: &Place) -> bool {
    let vim = ["/usr/bin/vim.tiny", "/usr/bin/vim.basic"];
    let Some(vim) = vim.iter().find(|path| Path::new(path).exists()) else { return false };
    let libraries = Command::new("ldd").arg(vim).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    let libraries = libraries.lines().filter_map(|line| {
        let path = line.split("=>").nth(1)?.split_whitespace().next()?;
        // Those of the machine's own loader belong to it.
        let own = ["/libc.so", "/libm.so", "/libpthread.so"].iter().any(|own| path.contains(own));
        (!own).then(|| path.to_owned())
    });
    let tar = Command::new("tar")
        .args(["--create", "--dereference", "--absolute-names", "--transform=s,.*/,,"])
        .arg(vim)
        .args(libraries)
        .output()
        .unwrap();
    let mut child = place
        .host
        .command(["workspace", "exec", &place.id, "--", "sh", "-c"])
        .arg("mkdir /opt/vim && cd /opt/vim && tar x && mv vim.* vim && LD_LIBRARY_PATH=. ./vim --version")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
    child.wait().unwrap().success()
}

#[test]
fn vim_is_driven_by_its_screen() {
    let Some(place) = Place::new() else { return };
    if !bring_vim(&place) {
        return skip("this host has no vim that runs in debian:12");
    }
    let env = "LD_LIBRARY_PATH=/opt/vim";
    let shell = place.open(&["--env", env, "--", "/opt/vim/vim", "-u", "NONE", "note.txt"]);
    place.until(&shell, &["--plain"], "\"note.txt\" [New");
    place.shell("write", &shell, &["ihello vim", "--key", "escape"]);
    place.shell("write", &shell, &["yyp:s/hello/goodbye/", "--enter"]);
    let shown = place.until(&shell, &["--plain"], "goodbye vim");
    let text = shown["text"].as_str().unwrap();
    assert!(text.starts_with("hello vim\ngoodbye vim\n~\n"), "{text}");
    assert_eq!(shown["screen"]["cursor_row"], 2, "{shown}");
    // In another size it draws itself anew.
    place.shell("resize", &shell, &["--cols", "60", "--rows", "10"]);
    place.until(&shell, &["--plain"], "goodbye vim\n~\n~\n~\n~\n~\n~\n~");
    place.shell("write", &shell, &[":wq", "--enter"]);
    assert_eq!(place.until_info(&shell, |info| info["state"] == "closed")["exit_code"], 0);
    assert_eq!(place.host.sh(&place.id, "cat note.txt"), "hello vim\ngoodbye vim\n");
}

#[test]
fn people_attach_see_the_same_and_leave_it_running() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--env", "PS1=> ", "--", "sh"]);
    place.shell("write", &shell, &["echo before-$((1+1))", "--enter"]);
    place.until(&shell, &[], "before-2");
    let mut first = place.attach(&shell, 100, 30, &[]);
    first.sees("before-2");
    let mut second = place.attach(&shell, 90, 25, &[]);
    second.sees("before-2");
    place.until_info(&shell, |info| info["attached"] == 2);
    first.types("echo from-$((1+2))\r");
    first.sees("from-3");
    second.sees("from-3");
    second.types("stty size\r");
    first.sees("25 90");
    first.resizes(70, 20);
    let info = place.until_info(&shell, |info| info["cols"] == 70);
    assert_eq!(info["rows"], 20);
    second.types("stty size\r");
    second.sees("20 70");
    // An interrupt goes to what runs in the shell, not to the client.
    first.types("echo asleep-$((1+1)); sleep 1000\r");
    first.sees("asleep-2");
    first.types("\x03");
    place.until(&shell, &["--plain"], "^C\n>");
    first.types("echo still-$((2+2))\r");
    first.sees("still-4");
    first.types("\x10\x11");
    assert_eq!(first.leaves(), Some(0));
    first.sees("detached");
    first.finds_the_terminal_as_it_was();
    place.until_info(&shell, |info| info["attached"] == 1);
    second.types("exit 5\r");
    assert_eq!(second.leaves(), Some(5));
    second.finds_the_terminal_as_it_was();
    assert_eq!(place.info(&shell)["exit_code"], 5);
}

#[test]
fn a_client_that_is_killed_leaves_its_shell_alive() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--env", "PS1=> ", "--", "sh"]);
    let mut person = place.attach(&shell, 80, 24, &[]);
    person.sees("> ");
    person.types("echo one-$((0+1))\r");
    person.sees("one-1");
    person.signals("KILL");
    assert_eq!(person.leaves(), None);
    place.until_info(&shell, |info| info["attached"] == 0);
    assert_eq!(place.info(&shell)["state"], "running");
    place.shell("write", &shell, &["echo two-$((1+1))", "--enter"]);
    place.until(&shell, &[], "two-2\n");
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let Some(place) = Place::new() else { return };
    // A program that takes all of a terminal and leaves it so.
    let script = "stty -echo; printf '\\033[?1049h\\033[?25l\\033[?1000h\\033[?2004hfull'; cat";
    for signal in ["TERM", "HUP", "INT", "QUIT"] {
        let shell = place.open(&["--", "sh", "-c", script]);
        let mut person = place.attach(&shell, 80, 24, &[]);
        person.sees("full");
        person.signals(signal);
        assert_eq!(person.leaves(), Some(130), "{signal}");
        person.finds_the_terminal_as_it_was();
        person.sees("\x1b[?1049l");
        let seen = person.seen();
        for mode in ["\x1b[?25h", "\x1b[?1000l", "\x1b[?2004l"] {
            assert!(seen.contains(mode), "{mode:?} in {seen:?}");
        }
        assert_eq!(place.info(&shell)["state"], "running");
        place.shell("close", &shell, &[]);
    }
    // The workspace goes while somebody is attached.
    let shell = place.open(&["--", "cat"]);
    let mut person = place.attach(&shell, 80, 24, &["--detach-keys", "ctrl-a,d"]);
    person.types("typed");
    person.sees("typed");
    place.host.ok(["workspace", "stop", &place.id]);
    person.leaves();
    person.sees("the workspace was stopped");
    person.finds_the_terminal_as_it_was();
}

#[test]
fn detach_keys_are_a_choice() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--", "cat"]);
    let mut person = place.attach(&shell, 80, 24, &["--detach-keys", "ctrl-a,d"]);
    person.types("\x01x");
    person.sees("^Ax");
    person.types("\x01d");
    assert_eq!(person.leaves(), Some(0));
    let attach = ["workspace", "shell", "attach", &place.id, &shell];
    let error = place.host.error(attach, 1);
    assert_eq!(error["code"], "invalid_argument", "there is no terminal here: {error}");
}

#[test]
fn a_command_runs_on_a_persons_terminal() {
    let Some(place) = Place::new() else { return };
    let args = ["workspace", "exec", "-it", &place.id, "--", "sh", "-c"];
    let script = "tty; stty size; read line; echo got-$line; trap 'stty size; exit 9' WINCH; \
        echo set; while :; do sleep 0.1; done";
    let mut person = Person::runs(&place.host, 101, 31, &[&args[..], &[script]].concat());
    person.sees("/dev/pts/");
    person.sees("31 101");
    person.types("words\r");
    person.sees("got-words");
    person.sees("set");
    person.resizes(77, 22);
    person.sees("22 77");
    assert_eq!(person.leaves(), Some(9));
    person.finds_the_terminal_as_it_was();
    let mut person =
        Person::runs(&place.host, 80, 24, &[&args[..], &["echo up; sleep 1000"]].concat());
    person.sees("up");
    person.types("\x03");
    assert_eq!(person.leaves(), Some(130), "the command's own end");
    let mut person =
        Person::runs(&place.host, 80, 24, &[&args[..], &["echo up; sleep 1000"]].concat());
    person.sees("up");
    person.signals("KILL");
    person.leaves();
    let gone = "while pgrep -f 'sleep 100[0]' > /dev/null; do sleep 0.05; done; echo gone";
    assert_eq!(place.host.sh(&place.id, gone), "gone\n", "it ends with its client");
    let exec = ["workspace", "exec", "-t", &place.id, "--", "true"];
    let output = place.host.output(exec);
    assert_eq!(output.status.code(), Some(125), "there is no terminal here: {output:?}");
}

#[test]
fn shells_of_a_killed_supervisor_are_told_as_closed() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--name", "main"]);
    let supervisor = place.supervisor().to_string();
    assert!(Command::new("kill").args(["-9", &supervisor]).status().unwrap().success());
    place.host.wait_until_quiet();
    let info = place.info(&shell);
    assert_eq!((&info["state"], &info["name"]), (&"closed".into(), &"main".into()), "{info}");
    assert!(info["reason"].is_string());
    place.host.ok(["workspace", "start", &place.id]);
    assert_eq!(place.host.json(["workspace", "shell", "list", &place.id]), Value::Array(vec![]));
}

#[test]
fn a_paused_workspace_keeps_its_shells() {
    let Some(place) = Place::new() else { return };
    let shell = place.open(&["--env", "PS1=> ", "--", "sh"]);
    place.shell("write", &shell, &["echo before-$((1+1))", "--enter"]);
    place.until(&shell, &[], "before-2\n");
    place.host.ok(["workspace", "pause", &place.id]);
    let read = ["--plain", "--wait-for-idle-ms", "10"];
    assert!(place.shell("read", &shell, &read)["text"].as_str().unwrap().contains("before-2"));
    assert_eq!(place.info(&shell)["state"], "running");
    for refused in [&["write", "x"][..], &["signal", "INT"], &["close"]] {
        let args = ["workspace", "shell", refused[0], &place.id, &shell];
        let error = place.host.error(args.iter().chain(&refused[1..]), 1);
        assert_eq!(error["code"], "wrong_state", "{error}");
        assert!(error["hint"].as_str().unwrap().contains("resume"), "{error}");
    }
    place.host.ok(["workspace", "resume", &place.id]);
    place.shell("write", &shell, &["echo after-$((1+1))", "--enter"]);
    place.until(&shell, &[], "after-2\n");
}

#[test]
fn shells_are_bounded_in_number_and_the_oldest_closed_goes_first() {
    let Some(place) = Place::new() else { return };
    let closed = place.open(&["--", "true"]);
    place.until_info(&closed, |info| info["state"] == "closed");
    let all: Vec<String> = (0..32).map(|_| place.open(&["--", "cat"])).collect();
    let error = place.host.error(["workspace", "shell", "read", &place.id, &closed], 1);
    assert_eq!(error["code"], "not_found");
    let error = place.host.error(["workspace", "shell", "open", &place.id], 1);
    assert_eq!(error["code"], "too_large", "{error}");
    place.shell("close", &all[3], &[]);
    place.open(&[]);
}
