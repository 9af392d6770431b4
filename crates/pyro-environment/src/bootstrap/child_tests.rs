//! A child gives its output, explains its failure, and never survives.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_contract::progress::Silent;
use pyro_contract::{Error, ErrorCode};

use super::*;

fn shell(script: &str) -> Child<'static> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    Child::new("a test", command)
}

fn collect(child: Child<'_>, progress: &dyn Progress) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    child.stream(
        &mut |output| {
            output.read_to_end(&mut bytes).map_err(EnvironmentError::io("reading"))?;
            Ok(())
        },
        progress,
    )?;
    Ok(bytes)
}

/// Whether a process exists; a zombie that nobody has reaped yet does not count.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until_dead(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Default)]
struct Recorder {
    stages: Mutex<Vec<String>>,
    cancelled: AtomicBool,
}

impl Progress for Recorder {
    fn report(&self, report: Report) {
        self.stages.lock().unwrap().push(report.stage);
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

#[test]
fn the_output_arrives_whole_and_messages_become_stages() {
    let recorder = Recorder::default();
    let script = "echo 'I: downloading packages with apt...' >&2; head -c 300000 /dev/zero";
    assert_eq!(collect(shell(script), &recorder).unwrap(), vec![0; 300_000]);
    assert_eq!(*recorder.stages.lock().unwrap(), ["downloading packages"]);
}

#[test]
fn a_failure_is_told_in_the_programs_own_words() {
    let error = collect(shell("echo some; echo 'E: too bad' >&2; exit 3"), &Silent).unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.code, ErrorCode::EnvironmentUnavailable);
    assert_eq!(error.cause.as_deref(), Some("E: too bad"));
}

#[test]
fn a_child_may_go_on_after_its_output_has_ended() {
    // Standard input is the watchdog's; closing it too early would end the child.
    let bytes = collect(shell("echo done; exec >&-; sleep 0.5"), &Silent).unwrap();
    assert_eq!(bytes, b"done\n");
}

#[test]
fn a_cancelled_child_dies_with_its_descendants() {
    let recorder = Recorder::default();
    let pids = tempfile::tempdir().unwrap();
    let file = pids.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| collect(shell(&script), &recorder));
        while !file.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        recorder.cancelled.store(true, Ordering::Relaxed);
        let error = running.join().unwrap().unwrap_err();
        assert!(matches!(error, EnvironmentError::Cancelled), "{error}");
    });
    wait_until_dead(&std::fs::read_to_string(&file).unwrap());
}

#[test]
fn a_sink_that_fails_ends_the_child_and_keeps_its_own_error() {
    let started = Instant::now();
    let failed = shell("sleep 1000 & yes")
        .stream(&mut |_| Err(EnvironmentError::Kernel("no such thing".to_owned())), &Silent);
    assert!(matches!(failed, Err(EnvironmentError::Kernel(_))));
    assert!(started.elapsed() < GRACE);
}

#[test]
fn the_watchdog_ends_the_group_when_pyro_is_gone() {
    let mut child = shell("trap '' HUP; sleep 1000 & echo $!; wait").command.spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    assert!(alive(&pid));
    // What the kernel does with pyro's descriptors when pyro is killed.
    drop(child.stdin.take());
    child.wait().unwrap();
    wait_until_dead(&pid);
}

#[test]
fn the_users_tokens_stay_out_of_the_child() {
    let mut command = Command::new("env");
    command.env("TMPDIR", "/elsewhere");
    let bytes = collect(Child::new("a test", command), &Silent).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("TMPDIR=/elsewhere\n"), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
}
