//! The agent's exec over a stream in memory, with the processes of the computer that runs the test.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pyro_wire::v1::agent_client::AgentClient;
use pyro_wire::v1::exec_failed::Reason;
use pyro_wire::v1::exec_input::Input;
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{ExecExit, ExecInput, ExecOutput, ExecStart, TerminalSize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::connection::Connection;
use crate::freeze::Disk;
use crate::reaper::Reaper;
use crate::service::AgentService;

type Client = AgentClient<Channel>;

/// There is one collector of children in a process, and so one for all tests, on its own thread.
fn reaper() -> Reaper {
    static REAPER: OnceLock<Reaper> = OnceLock::new();
    REAPER
        .get_or_init(|| {
            let reaper = Reaper::default();
            let collecting = reaper.clone();
            let (begun, started) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all().build().unwrap().block_on(async {
                    let watch = collecting.watch_children().unwrap();
                    begun.send(()).unwrap();
                    watch.await;
                });
            });
            started.recv().unwrap();
            reaper
        })
        .clone()
}

fn agent() -> Client {
    let top = std::fs::File::open("/").unwrap().into();
    let service = AgentService::adopted(reaper(), Disk::new(top));
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let connection = Connection::default();
        let far = connection.watch(far);
        let _ = pyro_wire::serve(far, service.over(connection)).await;
    });
    pyro_wire::agent(near)
}

fn sh(script: &str) -> ExecStart {
    ExecStart {
        request_id: format!("{:?}{script}", Instant::now()),
        argv: ["sh", "-c", script].map(|arg| arg.as_bytes().to_vec().into()).to_vec(),
        cwd: b"/".to_vec().into(),
        ..ExecStart::default()
    }
}

struct Call {
    input: mpsc::Sender<ExecInput>,
    output: Streaming<ExecOutput>,
}

impl Call {
    async fn start(client: &mut Client, start: ExecStart) -> Result<Self, tonic::Status> {
        let (input, stream) = mpsc::channel(8);
        input.send(ExecInput { input: Some(Input::Start(start)) }).await.unwrap();
        let output = client.exec(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { input, output })
    }

    async fn send(&self, input: Input) {
        self.input.send(ExecInput { input: Some(input) }).await.unwrap();
    }

    async fn next(&mut self) -> Option<Output> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.output.message());
        next.await.unwrap().unwrap().map(|message| message.output.unwrap())
    }

    /// Standard output, standard error, and the end.
    async fn rest(&mut self) -> (Vec<u8>, Vec<u8>, ExecExit) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next().await.unwrap() {
                Output::Started(_) => {}
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                Output::Failed(failed) => panic!("{failed:?}"),
                Output::Typed(_) => {}
                Output::Exit(exit) => {
                    assert!(self.next().await.is_none(), "the exit comes last");
                    return (stdout, stderr, exit);
                }
            }
        }
    }
}

async fn run_on(client: &mut Client, start: ExecStart) {
    Call::start(client, start).await.unwrap().rest().await;
}

async fn run(start: ExecStart) -> (Vec<u8>, Vec<u8>, ExecExit) {
    Call::start(&mut agent(), start).await.unwrap().rest().await
}

async fn gone(pid: i32) {
    let begun = Instant::now();
    while rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{pid} lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn output_and_exit_code_come_back() {
    let (stdout, stderr, exit) = run(sh("echo out; echo err >&2; exit 3")).await;
    assert_eq!((&stdout[..], &stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((exit.code, exit.signal, exit.timed_out), (3, 0, false));
}

#[tokio::test]
async fn a_signal_is_told_apart_from_an_exit() {
    let (.., exit) = run(sh("kill -TERM $$")).await;
    assert_eq!((exit.code, exit.signal), (0, 15));
}

#[tokio::test]
async fn all_output_before_the_end_is_delivered() {
    let (stdout, ..) = run(sh("head -c 3000000 /dev/zero")).await;
    assert_eq!(stdout.len(), 3_000_000);
    // Still in the pipe when the process ends.
    for _ in 0..50 {
        let (stdout, ..) = run(sh("head -c 60000 /dev/zero")).await;
        assert_eq!(stdout.len(), 60_000);
    }
}

#[tokio::test]
async fn stdin_is_passed_on_and_closed() {
    let mut client = agent();
    let start = ExecStart { stdin: true, ..sh("cat; echo end") };
    let mut call = Call::start(&mut client, start).await.unwrap();
    let writer = call.input.clone();
    tokio::spawn(async move {
        for _ in 0..100 {
            let input = Some(Input::Stdin(vec![b'x'; 10_000].into()));
            writer.send(ExecInput { input }).await.unwrap();
        }
        writer.send(ExecInput { input: Some(Input::StdinClosed(true)) }).await.unwrap();
    });
    let (stdout, ..) = call.rest().await;
    assert_eq!(stdout.len(), 1_000_004);
}

#[tokio::test]
async fn without_stdin_there_is_nothing_to_read() {
    let (stdout, _, exit) = run(sh("cat; echo end")).await;
    assert_eq!((&stdout[..], exit.code), (&b"end\n"[..], 0));
}

#[tokio::test]
async fn a_command_may_leave_its_stdin_unread() {
    let mut client = agent();
    let start = ExecStart { stdin: true, ..sh("exec <&-; sleep 0.3; echo end") };
    let mut call = Call::start(&mut client, start).await.unwrap();
    call.send(Input::Stdin(vec![0; 100_000].into())).await;
    assert_eq!(call.rest().await.0, b"end\n");
}

#[tokio::test]
async fn a_timeout_ends_the_process_group() {
    let start = ExecStart { timeout_ms: 300, ..sh("sleep 100 & echo $!; wait") };
    let (stdout, _, exit) = run(start).await;
    assert!(exit.timed_out && exit.signal == 9, "{exit:?}");
    gone(String::from_utf8(stdout).unwrap().trim().parse().unwrap()).await;
}

#[tokio::test]
async fn a_signal_reaches_the_process_group() {
    let mut client = agent();
    let mut call = Call::start(
        &mut client,
        sh("trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done"),
    )
    .await
    .unwrap();
    loop {
        if let Some(Output::Stdout(_)) = call.next().await {
            break;
        }
    }
    call.send(Input::Signal(12345)).await;
    call.send(Input::Signal(10)).await;
    // The sleep of that moment died of it too, and the shell ran its trap.
    assert_eq!(call.rest().await.2.code, 5);
}

#[tokio::test]
async fn a_daemon_keeps_nobody_waiting_and_lives_on() {
    let begun = Instant::now();
    let script = "(for i in 1 2 3 4 5 6 7 8; do echo tick; sleep 0.1; done; sleep 100) & echo $!";
    let (stdout, ..) = run(sh(script)).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    let text = String::from_utf8(stdout).unwrap();
    let pid = text.lines().find_map(|line| line.parse().ok()).unwrap();
    // It writes into the pipe it kept, and no SIGPIPE comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    // Its group is that of the command, which has ended.
    let group = rustix::process::getpgid(Some(pid)).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn dropping_the_call_ends_the_command() {
    let mut client = agent();
    let mut call = Call::start(&mut client, sh("sleep 100 & echo $!; wait")).await.unwrap();
    let pid = loop {
        if let Some(Output::Stdout(bytes)) = call.next().await {
            break String::from_utf8(bytes.to_vec()).unwrap().trim().parse().unwrap();
        }
    };
    drop(call);
    gone(pid).await;
}

#[tokio::test]
async fn a_stalled_reader_stalls_the_command() {
    let mut client = agent();
    let script = "i=0; while [ $i -lt 3000 ]; do head -c 1024 /dev/zero; i=$((i+1)); \
        echo $i > \"$COUNT\"; done";
    let count = tempfile::NamedTempFile::new().unwrap();
    let name = count.path().to_str().unwrap().to_owned();
    let env = vec![pyro_wire::v1::EnvVar { name: "COUNT".into(), value: name }];
    let mut call = Call::start(&mut client, ExecStart { env, ..sh(script) }).await.unwrap();
    let written = || std::fs::read_to_string(&count).unwrap().trim().parse::<u32>().unwrap_or(0);
    let mut before = 0;
    while before == 0 || before != written() {
        before = written();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // A window, a pipe and some chunks.
    assert!((64..1000).contains(&before), "{before} KiB");
    assert_eq!(call.rest().await.0.len(), 3000 * 1024);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let mut client = agent();
    let interpreter = tempfile::tempdir().unwrap();
    let script = interpreter.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mut mode = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    for (program, expected) in [
        ("no-such-program", Reason::CommandNotFound),
        ("/etc/passwd", Reason::NotExecutable),
        (script.to_str().unwrap(), Reason::CommandNotFound),
    ] {
        let start = ExecStart { argv: vec![program.as_bytes().to_vec().into()], ..sh("") };
        let mut call = Call::start(&mut client, start).await.unwrap();
        let Some(Output::Failed(failed)) = call.next().await else { panic!("{program} ran") };
        assert_eq!(failed.reason(), expected, "{failed:?}");
        assert!(call.next().await.is_none());
    }
}

#[tokio::test]
async fn a_replayed_request_is_refused() {
    let mut client = agent();
    let start = sh("true");
    Call::start(&mut client, start.clone()).await.unwrap().rest().await;
    let again = Call::start(&mut client, start).await.err().unwrap();
    assert_eq!(again.code(), Code::AlreadyExists);
    let nameless = ExecStart { request_id: String::new(), ..sh("true") };
    let refused = Call::start(&mut client, nameless).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn too_many_commands_at_once_are_refused() {
    let mut client = agent();
    let mut calls = Vec::new();
    for n in 0..super::COMMANDS_MAX {
        let start = ExecStart { request_id: format!("many {n}"), ..sh("sleep 100") };
        calls.push(Call::start(&mut client, start).await.unwrap());
    }
    let refused = Call::start(&mut client, sh("true")).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(calls.pop());
    let begun = Instant::now();
    while Call::start(&mut client, sh("true")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(calls);
    // They are told so before the connection goes.
    run_on(&mut client, sh("true")).await;
}

#[tokio::test]
async fn a_command_whose_connection_is_lost_goes_on() {
    let top = std::fs::File::open("/").unwrap().into();
    let service = AgentService::adopted(reaper(), Disk::new(top));
    let (near, mut middle) = tokio::io::duplex(64 * 1024);
    let (mut other, far) = tokio::io::duplex(64 * 1024);
    let link = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut middle, &mut other).await;
    });
    tokio::spawn(async move {
        let connection = Connection::default();
        let far = connection.watch(far);
        let _ = pyro_wire::serve(far, service.over(connection)).await;
    });
    let mut client = pyro_wire::agent(near);
    let directory = tempfile::tempdir().unwrap();
    let (said, done) = (directory.path().join("said"), directory.path().join("done"));
    // It says more than any pipe takes, and ends early if its stdin does.
    let script = format!(
        "exec 3<&0; cat <&3 > {said} & echo $$; trap '' PIPE; yes | head -c 1M || exit; \
         kill -0 $! && echo on > {done}.new && mv {done}.new {done}; kill $!",
        said = said.display(),
        done = done.display(),
    );
    let start = ExecStart { stdin: true, ..sh(&script) };
    let mut call = Call::start(&mut client, start).await.unwrap();
    while !matches!(call.next().await, Some(Output::Stdout(_))) {}
    link.abort();
    let begun = Instant::now();
    while !done.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn on_terminal(script: &str) -> ExecStart {
    let terminal = Some(TerminalSize { rows: 33, columns: 111 });
    ExecStart { terminal, stdin: true, ..sh(script) }
}

impl Call {
    /// Reads until this was shown.
    async fn until(&mut self, shown: &mut Vec<u8>, expected: &str) {
        while !String::from_utf8_lossy(shown).contains(expected) {
            match self.next().await {
                Some(Output::Stdout(bytes)) => shown.extend_from_slice(&bytes),
                Some(Output::Started(_) | Output::Typed(_)) => {}
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(shown)),
            }
        }
    }
}

#[tokio::test]
async fn a_command_on_a_terminal_sees_its_size_what_is_typed_and_signals() {
    let script = "stty size; trap 'stty size' WINCH; trap 'echo int' INT; read x; echo got-$x; \
        echo set; until test -n \"$stop\"; do sleep 0.05; test -e /nonexistent; done";
    let mut call = Call::start(&mut agent(), on_terminal(script)).await.unwrap();
    let mut shown = Vec::new();
    call.until(&mut shown, "33 111\r\n").await;
    call.send(Input::Stdin(b"words\r".to_vec().into())).await;
    call.until(&mut shown, "got-words\r\nset\r\n").await;
    call.send(Input::Resize(TerminalSize { rows: 10, columns: 20 })).await;
    call.until(&mut shown, "10 20\r\n").await;
    call.send(Input::Stdin(b"\x03".to_vec().into())).await;
    call.until(&mut shown, "int\r\n").await;
    call.send(Input::Signal(9)).await;
    assert_eq!(call.rest().await.2.signal, 9);
}

#[tokio::test]
async fn nothing_that_is_typed_is_lost_and_all_of_it_reported() {
    let script = "stty raw -echo; echo ready; head -c 300000 | cksum";
    let mut call = Call::start(&mut agent(), on_terminal(script)).await.unwrap();
    call.until(&mut Vec::new(), "ready").await;
    let sender = call.input.clone();
    tokio::spawn(async move {
        for _ in 0..100 {
            let input = Some(Input::Stdin(vec![b'x'; 3000].into()));
            sender.send(ExecInput { input }).await.unwrap();
        }
    });
    let (mut typed, mut shown) = (0, Vec::new());
    let exit = loop {
        match call.next().await.unwrap() {
            Output::Typed(count) => typed += count,
            Output::Stdout(bytes) => shown.extend_from_slice(&bytes),
            Output::Exit(exit) => break exit,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(exit.code, 0);
    assert!(String::from_utf8_lossy(&shown).contains(" 300000"), "{shown:?}");
    assert!((296_000..=300_000).contains(&typed), "{typed}");
}

#[tokio::test]
async fn what_is_typed_is_reported_also_if_it_ends_the_command() {
    for _ in 0..20 {
        let mut call = Call::start(&mut agent(), on_terminal("echo set; read x")).await.unwrap();
        call.until(&mut Vec::new(), "set").await;
        call.send(Input::Stdin(b"\x03".to_vec().into())).await;
        let mut typed = 0;
        let exit = loop {
            match call.next().await.unwrap() {
                Output::Typed(count) => typed += count,
                Output::Exit(exit) => break exit,
                _ => {}
            }
        };
        assert_eq!((typed, exit.signal), (1, 2));
    }
}

#[tokio::test]
async fn the_last_words_on_a_terminal_arrive() {
    for round in 0..20 {
        let script = format!("seq 3000; echo last-{round}");
        let (shown, _, exit) = run(on_terminal(&script)).await;
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.ends_with(&format!("2999\r\n3000\r\nlast-{round}\r\n")), "{shown}");
        assert_eq!(exit.code, 0);
    }
}

#[tokio::test]
async fn a_terminal_that_hangs_up_ends_its_command_with_leave_to_save() {
    let script = "trap 'echo saved; exit 3' HUP; echo set; while :; do sleep 0.05; done";
    let mut call = Call::start(&mut agent(), on_terminal(script)).await.unwrap();
    call.until(&mut Vec::new(), "set").await;
    call.send(Input::HangUp(true)).await;
    let (shown, _, exit) = call.rest().await;
    assert!(String::from_utf8_lossy(&shown).contains("saved"), "{shown:?}");
    assert_eq!(exit.code, 3);
    let stubborn = "trap '' HUP TERM; echo set; while :; do sleep 0.05; done";
    let mut call = Call::start(&mut agent(), on_terminal(stubborn)).await.unwrap();
    call.until(&mut Vec::new(), "set").await;
    call.send(Input::HangUp(true)).await;
    assert_eq!(call.rest().await.2.signal, 9);
}

#[tokio::test]
async fn a_dropped_call_ends_a_command_on_a_terminal() {
    let mut call = Call::start(&mut agent(), on_terminal("echo $$; exec sleep 999")).await.unwrap();
    let mut shown = Vec::new();
    call.until(&mut shown, "\r\n").await;
    let pid = String::from_utf8(shown).unwrap().trim().parse().unwrap();
    drop(call);
    gone(pid).await;
}
