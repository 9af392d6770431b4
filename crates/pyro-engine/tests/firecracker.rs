//! Boots and restores real machines with the Firecracker that `PYRO_FIRECRACKER` names, from the
//! environments of the store that `PYRO_TEST_HOME` names. On a host without hardware virtualization
//! `tests/lab/run` gives them an emulated one.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with the tests of QEMU, which need more of it")]
mod lab;

#[allow(dead_code, reason = "shared with the tests of QEMU, which need more of it")]
mod living;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pyro_engine::firecracker::FirecrackerEngine;
use pyro_engine::{Engine, Exit, Machine, MachineSpec};
use pyro_wire::v1::{AdoptRequest, PingRequest, SetClockRequest};

use lab::{Client, Lab, assert_clean, names, output, run, shut_down, start};

fn engine() -> Option<FirecrackerEngine> {
    let engine = match std::env::var_os("PYRO_FIRECRACKER") {
        Some(program) => FirecrackerEngine::with_program(program),
        None => FirecrackerEngine::default(),
    };
    let probe = engine.probe();
    if probe.isolation.is_none() {
        let why = probe.reason.unwrap_or_default();
        eprintln!("SKIPPED: firecracker cannot run here: {}: {why}", probe.found);
        return None;
    }
    Some(engine)
}

fn prepared() -> Option<(FirecrackerEngine, Lab)> {
    let (engine, mut lab) = (engine()?, Lab::new()?);
    lab.spec.mem_mib = 256;
    if is_root() {
        lab.spec.run_as = Some(987_656);
    }
    Some((engine, lab))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A clone's own files, beside those of its siblings.
fn clone_spec(lab: &Lab, engine: &dyn Engine, template: &Path, number: usize) -> MachineSpec {
    let at = |name: &str| lab.path(&format!("{name}-{number}"));
    std::fs::create_dir(at("run")).unwrap();
    engine.clone_storage(template, &at("disk")).unwrap();
    MachineSpec { storage: at("disk"), runtime_dir: at("run"), ..lab.spec.clone() }
}

async fn restore(
    lab: &Lab,
    engine: &dyn Engine,
    template: &Path,
    number: usize,
) -> (Box<dyn Machine>, Client, Duration) {
    let spec = clone_spec(lab, engine, template, number);
    // Each has a baseline of its own, as workspaces have: it changes hands.
    let baseline = lab.path(&format!("baseline-{number}"));
    std::fs::copy(lab.path("baseline"), &baseline).unwrap();
    let begun = Instant::now();
    let machine = engine.restore(template, &spec).await.unwrap();
    let restored = begun.elapsed();
    machine.insert_baseline(&baseline).await.unwrap();
    let inserted = begun.elapsed();
    machine.resume().await.unwrap();
    let resumed = begun.elapsed();
    let mut client = pyro_wire::agent(machine.connect().await.unwrap());
    client.ping(PingRequest {}).await.unwrap();
    let answered = begun.elapsed();
    eprintln!(
        "clone {number}: restored {restored:?}, baseline in {inserted:?}, resumed {resumed:?}, \
         answers {answered:?}"
    );
    (machine, client, answered)
}

async fn adopt(client: &mut Client, number: usize) {
    let begun = Instant::now();
    let request = AdoptRequest {
        hostname: format!("clone-{number}"),
        entropy: vec![number as u8; 64].into(),
        machine_id: format!("{number:032x}"),
        boot_id: format!("01234567-89ab-cdef-0123-{number:012x}"),
        goes_on: false,
        ..AdoptRequest::default()
    };
    let adopted = tokio::time::timeout(Duration::from_secs(60), client.adopt(request)).await;
    assert_eq!(adopted.unwrap().unwrap().into_inner().entropy_bytes, 64);
    client.set_clock(now()).await.unwrap();
    eprintln!("clone {number}: adopted in {:?}", begun.elapsed());
}

fn now() -> SetClockRequest {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    SetClockRequest { realtime_ns: now.as_nanos() as u64 }
}

#[tokio::test]
async fn a_machine_boots_runs_commands_and_keeps_what_they_wrote() {
    let Some((engine, lab)) = prepared() else { return };
    let (machine, mut client) = lab.boot_on(&engine).await;
    assert_eq!(
        output(&mut client, "pwd; id -u; hostname; cat README.md").await,
        "/workspace\n0\ndemo\nhello\n"
    );
    let begun = Instant::now();
    for _ in 0..10 {
        run(&mut client, start("true")).await;
    }
    eprintln!("exec sh -c true {:?}", begun.elapsed() / 10);
    eprintln!("{:?}", machine.usage().await.unwrap());
    output(&mut client, "echo changed >> README.md; echo machine > /etc/new").await;

    // Held still and let go on, what was connected is so still.
    machine.pause().await.unwrap();
    machine.resume().await.unwrap();
    assert_eq!(output(&mut client, "echo on").await, "on\n");

    shut_down(&mut client, &*machine).await;
    assert_clean(&lab.path("disk"));
    let storage = engine.open_storage(&lab.path("disk")).unwrap();
    assert_eq!(names(&*storage.workspace), ["README.md"]);
    assert_eq!(names(&*storage.machine), ["etc"]);

    let (machine, mut client) = lab.boot_on(&engine).await;
    assert_eq!(output(&mut client, "cat README.md /etc/new").await, "hello\nchanged\nmachine\n");
    // A reset is no power-off.
    let _held = client.exec(lab::say(start("echo b > /proc/sysrq-trigger"))).await;
    let exit = tokio::time::timeout(Duration::from_secs(60), machine.exited()).await.unwrap();
    assert!(matches!(exit, Exit::Died(_)), "{exit:?}");
}

#[tokio::test]
async fn what_a_guest_frees_goes_back_to_the_host() {
    let Some((engine, lab)) = prepared() else { return };
    let (machine, mut client) = lab.boot_on(&engine).await;
    let driver = "ls -d /sys/bus/virtio/drivers/virtio_balloon/virtio* 2> /dev/null | wc -l";
    if output(&mut client, driver).await != "1\n" {
        eprintln!("SKIPPED: the store's kernel was fetched before balloons were welcome in it");
        return;
    }
    let before = machine.usage().await.unwrap().memory_bytes;
    output(&mut client, "head -c 96M /dev/zero > /dev/shm/big").await;
    let full = machine.usage().await.unwrap().memory_bytes;
    assert!(full > before + (70 << 20), "{before} {full}");
    output(&mut client, "rm /dev/shm/big").await;
    let begun = Instant::now();
    loop {
        let now = machine.usage().await.unwrap().memory_bytes;
        if now < full - (60 << 20) {
            eprintln!("{before} bytes before, {full} full, {now} after {:?}", begun.elapsed());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{before} {full} {now}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_machine_that_cannot_come_up_says_why() {
    let Some((engine, mut lab)) = prepared() else { return };
    let disk = lab.path("no disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let spec = MachineSpec { storage: disk, ..lab.spec.clone() };
    let machine = engine.launch(&spec).await.unwrap();
    let Exit::Died(said) = machine.exited().await else { panic!("it powered off") };
    assert!(said.contains("pyro-guest: fatal: cannot mount the disk \"rw\""), "{said}");
    lab.spec.image.kernel = lab.path("seed/README.md");
    let refused = engine.launch(&lab.spec).await.err().unwrap();
    eprintln!("{refused:?}");
}

#[tokio::test]
async fn clones_of_a_template_differ_and_share_its_memory() {
    let Some((engine, lab)) = prepared() else { return };
    let template = lab.path("template");
    let begun = Instant::now();
    std::fs::create_dir(&template).unwrap();
    engine.prepare(&lab.spec, &template).await.unwrap();
    eprintln!("prepared in {:?}", begun.elapsed());
    assert!(!lab.path("disk").exists(), "the template has the disk now");
    for file in std::fs::read_dir(&template).unwrap() {
        use std::os::unix::fs::MetadataExt;
        let meta = file.unwrap().metadata().unwrap();
        eprintln!("{} bytes, {} on disk", meta.len(), meta.blocks() * 512);
        assert_eq!(meta.mode() & 0o222, 0, "nobody writes to a template");
    }
    let before = fingerprint(&template);

    // One after the other, so that none takes another's processor.
    let bare = bare_load(&lab, &engine, &template);
    let mut best = Duration::MAX;
    for number in 11..=15 {
        let (machine, _client, answered) = restore(&lab, &engine, &template, number).await;
        machine.kill(Duration::from_secs(10)).await;
        best = best.min(answered);
    }
    eprintln!(
        "restore to the agent's reply {best:?}, bare start and load {bare:?}, ratio {:.2}",
        best.as_secs_f64() / bare.as_secs_f64()
    );

    let mut clones = Vec::new();
    for number in 1..=4 {
        clones.push(restore(&lab, &engine, &template, number).await);
    }
    let ratio = shared(&clones);
    for (number, (_, client, _)) in clones.iter_mut().enumerate() {
        adopt(client, number + 1).await;
    }
    eprintln!("after their adoption:");
    let adopted = shared(&clones);
    let mut answers: Vec<Vec<String>> = Vec::new();
    for (number, (machine, client, _)) in clones.iter_mut().enumerate() {
        let asked = "cat /etc/machine-id; hostname; head -c 16 /dev/urandom | od -An -tx1; \
                     cat /proc/sys/kernel/random/boot_id";
        answers.push(output(client, asked).await.lines().map(str::to_owned).collect());
        let drift = clock_drift(client).await;
        assert!(drift < 0.05, "clone {number} is {drift} s off");
        output(client, &format!("echo {number} > file; sync")).await;
        assert!(machine.usage().await.unwrap().memory_bytes > 0);
    }
    for line in 0..4 {
        let mut seen: Vec<_> = answers.iter().map(|answer| answer[line].clone()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 4, "{answers:?}");
    }
    eprintln!("after some commands:");
    shared(&clones);
    for (number, (machine, mut client, _)) in clones.into_iter().enumerate() {
        assert_eq!(output(&mut client, "cat file").await, format!("{number}\n"));
        shut_down(&mut client, &*machine).await;
        assert_clean(&lab.path(&format!("disk-{}", number + 1)));
    }
    assert_eq!(fingerprint(&template), before, "a clone has altered its template");
    assert!(ratio <= 1.0 / 3.0 && adopted < 0.4, "they share too little: {ratio}, {adopted}");
}

/// What the clones take together, as a share of what they would take apart.
fn shared(clones: &[(Box<dyn Machine>, Client, Duration)]) -> f64 {
    let (mut pss, mut rss) = (0, 0);
    for (machine, _, _) in clones {
        let (pid, _) = machine.process().unwrap();
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let kib = |key: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        eprintln!(
            "PSS {} KiB, RSS {} KiB, private dirty {} KiB",
            kib("Pss:"),
            kib("Rss:"),
            kib("Private_Dirty:")
        );
        pss += kib("Pss:");
        rss += kib("Rss:");
    }
    eprintln!("4 clones: PSS {pss} KiB, RSS {rss} KiB, ratio {:.2}", pss as f64 / rss as f64);
    pss as f64 / rss as f64
}

fn fingerprint(template: &Path) -> String {
    let output = Command::new("sha256sum")
        .args(["state", "memory", "disk"])
        .current_dir(template)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// However long it takes to ask, the answer lies between the question and its return.
async fn clock_drift(client: &mut Client) -> f64 {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let before = now();
    let told: f64 = output(client, "date +%s.%N").await.trim().parse().unwrap();
    let after = now();
    (before - told).max(told - after).max(0.0)
}

/// The same Firecracker and snapshot with nothing of pyro around: from the start of the process to
/// the answer that the machine runs. The best of three.
fn bare_load(lab: &Lab, engine: &FirecrackerEngine, template: &Path) -> Duration {
    let program = std::env::var_os("PYRO_FIRECRACKER").unwrap_or("firecracker".into());
    let mut best = Duration::MAX;
    for number in 91..=93 {
        let spec = clone_spec(lab, engine, template, number);
        let directory = spec.runtime_dir;
        let link = |name: &str, to: &Path| {
            std::os::unix::fs::symlink(to, directory.join(name)).unwrap();
        };
        link("state", &template.join("state"));
        link("memory", &template.join("memory"));
        link("environment", &lab.spec.image.environment);
        link("storage", &spec.storage);
        std::fs::write(directory.join("empty"), vec![0; 4096]).unwrap();
        let begun = Instant::now();
        let mut child = Command::new(&program)
            .args(["--api-sock", "api.sock"])
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stream = loop {
            match UnixStream::connect(directory.join("api.sock")) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        let up = begun.elapsed();
        let body = r#"{"snapshot_path":"state","mem_backend":{"backend_type":"File","backend_path":"memory"},"resume_vm":true}"#;
        write!(
            stream,
            "PUT /snapshot/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).unwrap();
        let elapsed = begun.elapsed();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        child.kill().unwrap();
        child.wait().unwrap();
        eprintln!("bare: takes orders after {up:?}, runs after {elapsed:?}");
        best = best.min(elapsed);
    }
    best
}

#[tokio::test]
async fn a_damaged_template_is_refused() {
    let Some((engine, lab)) = prepared() else { return };
    let template = lab.path("template");
    std::fs::create_dir(&template).unwrap();
    engine.prepare(&lab.spec, &template).await.unwrap();
    let whole = std::fs::read(template.join("state")).unwrap();
    let damage = |content: &[u8]| {
        std::fs::remove_file(template.join("state")).unwrap();
        std::fs::write(template.join("state"), content).unwrap();
    };
    let spec = clone_spec(&lab, &engine, &template, 1);
    damage(&whole[..whole.len() / 2]);
    assert!(engine.restore(&template, &spec).await.is_err());
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x40;
    damage(&flipped);
    assert!(engine.restore(&template, &spec).await.is_err());
    damage(&whole);
    let memory = std::fs::OpenOptions::new().write(true).open(template.join("memory")).unwrap();
    memory.set_len(1 << 20).unwrap();
    assert!(engine.restore(&template, &spec).await.is_err());
}

/// A capture breaks its machine's own connection too: it is adopted again, as what it was.
async fn capture_and_go_on(
    machine: &dyn Machine,
    mut client: Client,
    capture: &Path,
    number: usize,
) -> Client {
    let captured = living::capture_held(machine, &mut client, capture).await;
    assert!(captured.stream_lost);
    assert!(client.ping(PingRequest {}).await.is_err());
    let begun = Instant::now();
    let client = pyro_wire::agent(machine.connect().await.unwrap());
    living::adopt(client.clone(), number).await;
    eprintln!("adopted again in {:?}", begun.elapsed());
    client
}

async fn lives_on_in_copies(
    lab: &Lab,
    engine: &dyn Engine,
    machine: Box<dyn Machine>,
    mut client: Client,
) {
    let (life, _held) = living::bring_to_life(&mut client).await;
    let capture = lab.path("capture");
    let mut client = capture_and_go_on(&*machine, client, &capture, 9).await;
    living::assert_lives(&mut client, &life).await;
    let mut copies = Vec::new();
    for number in 101..=102 {
        copies.push(living::copy_of(lab, engine, &capture, number).await);
    }
    for copy in &mut copies {
        living::assert_lives(&mut copy.client, &life).await;
    }
    living::assert_unique(&mut copies, &mut client).await;

    // Once more, both of the original and of a copy: what is written is what changed since.
    output(&mut client, "echo again > /root/mark").await;
    let again = lab.path("again");
    let client = capture_and_go_on(&*machine, client, &again, 9).await;
    let living::Copy { machine: first, client: first_client } = copies.remove(0);
    let second = lab.path("second");
    let first_client = capture_and_go_on(&*first, first_client, &second, 101).await;
    std::fs::remove_dir_all(&capture).unwrap();
    for (number, from, mark) in [(103, &again, "again\n"), (104, &second, "none\n")] {
        let mut copy = living::copy_of(lab, engine, from, number).await;
        living::assert_lives(&mut copy.client, &life).await;
        let told = output(&mut copy.client, "cat /root/mark 2> /dev/null || echo none").await;
        assert_eq!(told, mark);
        shut_down(&mut copy.client, &*copy.machine).await;
        assert_clean(&lab.path(&format!("disk-{number}")));
    }
    for (machine, mut client) in [(machine, client), (first, first_client)] {
        shut_down(&mut client, &*machine).await;
    }

    // Damage is found before anything runs.
    let memory = again.join("memory");
    let content = std::fs::read(&memory).unwrap();
    std::fs::remove_file(&memory).unwrap();
    let mut damaged = content.clone();
    let at = content.iter().rposition(|byte| *byte != 0).unwrap();
    damaged[at] ^= 1;
    std::fs::write(&memory, damaged).unwrap();
    let spec = MachineSpec { storage: lab.path("disk-103"), ..lab.spec.clone() };
    let refused = engine.recover(&again, &spec).await.err().unwrap();
    assert!(matches!(refused, pyro_engine::EngineError::Capture { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_captured_clone_of_a_template_lives_on_in_copies() {
    let Some((engine, lab)) = prepared() else { return };
    let template = lab.path("template");
    std::fs::create_dir(&template).unwrap();
    engine.prepare(&lab.spec, &template).await.unwrap();
    let (machine, mut client, _) = restore(&lab, &engine, &template, 1).await;
    adopt(&mut client, 1).await;
    lives_on_in_copies(&lab, &engine, machine, client).await;
}

#[tokio::test]
async fn a_captured_booted_machine_lives_on_in_copies() {
    let Some((engine, lab)) = prepared() else { return };
    let (machine, mut client) = lab.boot_on(&engine).await;
    client.set_clock(now()).await.unwrap();
    lives_on_in_copies(&lab, &engine, machine, client).await;
}
