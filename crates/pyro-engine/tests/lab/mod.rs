//! What every test here needs: a machine's files, and a few words with its agent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_contract::environment::EnvironmentRef;
use pyro_contract::progress::Silent;
use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, Exit, Image, Machine, MachineSpec};
use pyro_environment::{GUEST_AGENT, Store};
use pyro_layers::Layer;
use pyro_wire::v1::agent_client::AgentClient;
use pyro_wire::v1::exec_input::Input;
use pyro_wire::v1::exec_output::Output;
use pyro_wire::v1::{AdoptRequest, ExecExit, ExecInput, ExecStart, ShutdownRequest};
use tempfile::TempDir;
use tonic::transport::Channel;

pub(crate) type Client = AgentClient<Channel>;

/// Files of a machine, in a directory that only their owner may enter.
pub(crate) struct Lab {
    pub(crate) directory: TempDir,
    pub(crate) spec: MachineSpec,
}

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        let Some(home) = std::env::var_os("PYRO_TEST_HOME") else {
            eprintln!("SKIPPED: PYRO_TEST_HOME names no store of environments; `make test` does");
            return None;
        };
        let store = Store::open(Path::new(&home)).unwrap();
        let environment = store.pull(&EnvironmentRef::default(), &Silent).unwrap();
        let boot = store.boot_image(&environment.kernel, GUEST_AGENT).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("seed/dir")).unwrap();
        std::fs::write(at("seed/README.md"), "hello\n").unwrap();
        let mkfs = std::process::Command::new("mkfs.erofs")
            .arg(at("baseline"))
            .arg(at("seed"))
            .output()
            .unwrap();
        assert!(mkfs.status.success(), "{mkfs:?}");
        std::fs::create_dir(at("run")).unwrap();
        let begun = Instant::now();
        QemuEngine::default().create_storage(&at("disk"), 512, &at("derived")).unwrap();
        eprintln!("disk made in {:?}", begun.elapsed());
        let spec = MachineSpec {
            image: Image {
                kernel: boot.kernel,
                initramfs: boot.initramfs,
                environment: environment.image,
            },
            storage: at("disk"),
            cache_dir: at("derived"),
            runtime_dir: at("run"),
            vcpu_count: 1,
            mem_mib: 512,
            run_as: None,
        };
        Some(Self { directory, spec })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn boot(&self) -> (Box<dyn Machine>, Client) {
        self.boot_on(&QemuEngine::default()).await
    }

    pub(crate) async fn boot_on(&self, engine: &dyn Engine) -> (Box<dyn Machine>, Client) {
        let begun = Instant::now();
        let machine = engine.launch(&self.spec).await.unwrap();
        eprintln!("launch {:?}", begun.elapsed());
        machine.insert_baseline(&self.path("baseline")).await.unwrap();
        let mut client = pyro_wire::agent(machine.connect().await.unwrap());
        let adopted = tokio::select! {
            adopted = client.adopt(adoption()) => adopted,
            exit = machine.exited() => panic!("{exit:?}"),
        };
        eprintln!("adopted after {:?}: {:?}", begun.elapsed(), adopted.unwrap().into_inner());
        (machine, client)
    }
}

pub(crate) fn adoption() -> AdoptRequest {
    AdoptRequest {
        hostname: "demo".into(),
        entropy: vec![0x5a; 64].into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        boot_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
        ..AdoptRequest::default()
    }
}

pub(crate) fn start(script: &str) -> ExecStart {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let argv = ["sh", "-c", script].map(|arg| arg.as_bytes().to_vec().into()).to_vec();
    let request_id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    ExecStart { request_id, argv, ..ExecStart::default() }
}

pub(crate) fn say(start: ExecStart) -> tokio_stream::Once<ExecInput> {
    tokio_stream::once(ExecInput { input: Some(Input::Start(start)) })
}

pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit: ExecExit,
}

pub(crate) async fn run(client: &mut Client, start: ExecStart) -> Ran {
    let mut stream = client.exec(say(start)).await.unwrap().into_inner();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        match message.output.unwrap() {
            Output::Started(_) => {}
            Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            Output::Exit(exit) => {
                return Ran {
                    stdout: String::from_utf8(stdout).unwrap(),
                    stderr: String::from_utf8(stderr).unwrap(),
                    exit,
                };
            }
            Output::Failed(failed) => panic!("{failed:?}"),
            Output::Typed(_) => {}
        }
    }
    panic!("no exit");
}

pub(crate) async fn output(client: &mut Client, script: &str) -> String {
    let ran = run(client, start(script)).await;
    assert_eq!((ran.exit.code, ran.exit.signal), (0, 0), "{script}: {} {}", ran.stdout, ran.stderr);
    ran.stdout
}

pub(crate) async fn shut_down(client: &mut Client, machine: &dyn Machine) {
    client.shutdown(ShutdownRequest { grace_ms: 2000 }).await.unwrap();
    let exit = tokio::time::timeout(Duration::from_secs(10), machine.exited()).await.unwrap();
    assert_eq!(exit, Exit::PoweredOff);
}

pub(crate) fn names(layer: &dyn Layer) -> Vec<String> {
    let entries = layer.read_dir(layer.root()).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}

pub(crate) fn assert_clean(disk: &Path) {
    let check = std::process::Command::new("/sbin/e2fsck").arg("-fn").arg(disk).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}");
    assert!(!said.contains("journal"), "{said}");
}
