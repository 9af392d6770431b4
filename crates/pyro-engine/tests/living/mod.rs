//! A machine with something going on in it that a copy must go on with.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pyro_contract::diff::FileKind;
use pyro_engine::{Captured, Engine, Machine, MachineSpec, Scope};
use pyro_layers::{Layer, Node};
use pyro_wire::v1::{AdoptRequest, ExecInput, ExecStart, HoldRequest, SetClockRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::lab::{Client, Lab, output, say, start};

/// What is known of it.
pub(crate) struct Life {
    token: String,
    sum: String,
    /// The id of the request that is under way.
    request_id: String,
}

/// A copy of it.
pub(crate) struct Copy {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) client: Client,
}

/// How much its memory is filled with, beside what is there anyway. `PYRO_TEST_DIRTY_MIB` says
/// otherwise.
const DIRTY_MIB: &str = "60";

const SERVER: &str = r#"
import os, socket
token = os.urandom(16).hex()
server = socket.socket(socket.AF_UNIX)
server.bind("/dev/shm/server")
server.listen()
while True:
    connection, _ = server.accept()
    connection.sendall(token.encode())
    connection.close()
"#;

const ASK: &str = r#"python3 -c '
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/dev/shm/server")
print(client.recv(64).decode())'"#;

/// Starts a counter, a server that knows a random number, and a command that is connected to its host
/// while it runs; fills memory, and leaves a file in the page cache.
pub(crate) async fn bring_to_life(client: &mut Client) -> (Life, impl Sized + use<>) {
    let dirty_mib = std::env::var("PYRO_TEST_DIRTY_MIB").unwrap_or(DIRTY_MIB.to_owned());
    output(
        client,
        &format!(
            "mount -o remount,size=80% /dev/shm; cat > /dev/shm/server.py <<'END'\n{SERVER}END\n\
             setsid python3 /dev/shm/server.py < /dev/null > /dev/null 2>&1 &\n\
             (i=0; while i=$((i+1)); do echo $i > /dev/shm/count.new; \
             mv /dev/shm/count.new /dev/shm/count; sleep 0.05; done) > /dev/null 2>&1 &\n\
             head -c {dirty_mib}M /dev/urandom > /dev/shm/big\n\
             while [ ! -S /dev/shm/server ]; do sleep 0.1; done\n\
             echo not synced > /root/fresh"
        ),
    )
    .await;
    let (input, said) = mpsc::channel(1);
    let connected = ExecStart { stdin: true, ..start("exec -a connected cat; sleep 4545") };
    let request_id = connected.request_id.clone();
    let argv = ["bash", "-c", "echo up; exec -a connected cat > /dev/shm/cat"];
    let argv = argv.map(|text| text.as_bytes().to_vec().into()).to_vec();
    let begin = pyro_wire::v1::exec_input::Input::Start(ExecStart { argv, ..connected });
    input.send(ExecInput { input: Some(begin) }).await.unwrap();
    let mut stream = client.exec(ReceiverStream::new(said)).await.unwrap().into_inner();
    stream.message().await.unwrap();
    stream.message().await.unwrap();
    let token = output(client, ASK).await;
    assert_eq!(token.trim().len(), 32, "{token}");
    let sum = output(client, "sha1sum < /dev/shm/big").await;
    (Life { token, sum, request_id }, (input, stream))
}

/// It goes on, and is the same.
pub(crate) async fn assert_lives(client: &mut Client, life: &Life) {
    let count = async |client: &mut Client| -> u64 {
        output(client, "cat /dev/shm/count").await.trim().parse().unwrap()
    };
    let before = count(client).await;
    assert_eq!(output(client, ASK).await, life.token);
    assert_eq!(output(client, "sha1sum < /dev/shm/big").await, life.sum);
    assert_eq!(output(client, "cat /root/fresh").await, "not synced\n");
    output(client, "pgrep -x connected || pgrep -f ^connected").await;
    let request_id = life.request_id.clone();
    let replayed = client.exec(say(ExecStart { request_id, ..start("true") })).await;
    assert_eq!(replayed.unwrap_err().code(), tonic::Code::AlreadyExists);
    let begun = Instant::now();
    while count(client).await <= before {
        assert!(begun.elapsed() < Duration::from_secs(20), "its counter stands still");
    }
}

/// Captures it as a supervisor does: with its commands held.
pub(crate) async fn capture_held(
    machine: &dyn Machine,
    client: &mut Client,
    capture: &Path,
) -> Captured {
    let begun = Instant::now();
    let mut hold = client.hold(HoldRequest {}).await.unwrap().into_inner();
    hold.message().await.unwrap().unwrap();
    let held = begun.elapsed();
    let captured = machine.capture(Scope::DiskAndMemory, capture).await.unwrap();
    drop(hold);
    eprintln!(
        "captured: held in {held:?}, paused {:?}, disk {} KiB, memory {} KiB, in all {:?}",
        captured.pause,
        captured.disk_bytes >> 10,
        captured.memory_bytes >> 10,
        begun.elapsed()
    );
    for entry in std::fs::read_dir(capture).unwrap().flatten() {
        use std::os::unix::fs::MetadataExt;
        let meta = entry.metadata().unwrap();
        eprintln!("  {:?}: {} KiB on disk", entry.file_name(), meta.blocks() / 2);
    }
    captured
}

pub(crate) async fn copy_of(lab: &Lab, engine: &dyn Engine, capture: &Path, number: usize) -> Copy {
    let at = |name: &str| lab.path(&format!("{name}-{number}"));
    std::fs::create_dir(at("run")).unwrap();
    let begun = Instant::now();
    engine.recover_storage(capture, &at("disk")).await.unwrap();
    eprintln!("copy {number}: storage {:?}", begun.elapsed());
    let spec = MachineSpec { storage: at("disk"), runtime_dir: at("run"), ..lab.spec.clone() };
    recover(lab, engine, capture, spec, number).await
}

pub(crate) async fn recover(
    lab: &Lab,
    engine: &dyn Engine,
    capture: &Path,
    spec: MachineSpec,
    number: usize,
) -> Copy {
    let begun = Instant::now();
    let machine = engine.recover(capture, &spec).await.unwrap();
    eprintln!("copy {number}: recovered {:?}", begun.elapsed());
    // Each has its own, as workspaces have.
    let baseline = lab.path(&format!("baseline-{number}"));
    std::fs::copy(lab.path("baseline"), &baseline).unwrap();
    machine.insert_baseline(&baseline).await.unwrap();
    let mut client = pyro_wire::agent(machine.connect().await.unwrap());
    let adopting = client.clone();
    let (resumed, ()) = tokio::join!(machine.resume(), adopt(adopting, number));
    resumed.unwrap();
    eprintln!("copy {number}: adopted {:?}", begun.elapsed());
    output(&mut client, "true").await;
    eprintln!("copy {number}: first command {:?}", begun.elapsed());
    Copy { machine, client }
}

/// Adopts a machine that goes on.
pub(crate) async fn adopt(mut client: Client, number: usize) {
    let request = AdoptRequest {
        hostname: format!("copy-{number}"),
        entropy: vec![number as u8; 64].into(),
        machine_id: format!("{number:032x}"),
        boot_id: format!("01234567-89ab-cdef-0123-{number:012x}"),
        goes_on: true,
        ..AdoptRequest::default()
    };
    let adopted = tokio::time::timeout(Duration::from_secs(60), client.adopt(request)).await;
    assert_eq!(adopted.unwrap().unwrap().into_inner().entropy_bytes, 64);
    client.set_clock(now()).await.unwrap();
}

pub(crate) fn now() -> SetClockRequest {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    SetClockRequest { realtime_ns: now.as_nanos() as u64 }
}

/// Copies and original differ in all that makes a machine one of its own, and know the time.
pub(crate) async fn assert_unique(copies: &mut [Copy], original: &mut Client) {
    let asked = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; \
        head -c 16 /dev/urandom | od -An -tx1; \
        python3 -c 'import os; print(os.getrandom(16).hex())'";
    let mut answers: Vec<Vec<String>> = Vec::new();
    let clients = copies.iter_mut().map(|copy| &mut copy.client).chain([original]);
    for (number, client) in clients.enumerate() {
        let told = output(client, asked).await;
        answers.push(told.lines().map(str::to_owned).collect());
        let before = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let told: f64 = output(client, "date +%s.%N").await.trim().parse().unwrap();
        let after = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(told > before - 1.0 && told < after + 1.0, "{number}: {before} {told} {after}");
        // What one writes is its own.
        output(client, &format!("echo {number} > /root/own; echo {number} > own")).await;
    }
    for line in 0..5 {
        let mut told: Vec<_> = answers.iter().map(|answer| &answer[line]).collect();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), answers.len(), "{answers:?}");
    }
    for (number, copy) in copies.iter_mut().enumerate() {
        let own = output(&mut copy.client, "cat /root/own own").await;
        assert_eq!(own, format!("{number}\n{number}\n"));
    }
}

/// What is in a regular file; `None` if it is none.
pub(crate) fn content(layer: &dyn Layer, node: Node) -> Option<Vec<u8>> {
    let meta = layer.meta(node).unwrap();
    if meta.kind != FileKind::File {
        return None;
    }
    let mut content = vec![0; meta.size as usize];
    let mut at = 0;
    while at < content.len() {
        match layer.read_at(node, at as u64, &mut content[at..]).unwrap() {
            0 => break,
            read => at += read,
        }
    }
    content.truncate(at);
    Some(content)
}
