//! Captures real machines and brings them back; without `PYRO_TEST_HOME` the tests say so and pass.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with the tests of booting, which need more of it")]
mod lab;
#[allow(dead_code, reason = "shared with the tests of Firecracker")]
mod living;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pyro_contract::{Error, ErrorCode};
use pyro_engine::container::ContainerEngine;
use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, EngineError, Machine, MachineSpec, Scope, Storage};
use pyro_layers::Layer;
use pyro_wire::v1::FreezeRequest;

use lab::{Client, Lab, output, shut_down};
use living::{Copy, assert_lives, bring_to_life, capture_held, copy_of};

fn container() -> Option<ContainerEngine> {
    let engine = ContainerEngine::default();
    let probe = engine.probe();
    if probe.isolation.is_none() {
        eprintln!("SKIPPED: no containers here: {}", probe.reason.unwrap_or_default());
        return None;
    }
    Some(engine)
}

/// A machine from a template of the lab's.
async fn restored(lab: &Lab) -> (Box<dyn Machine>, Client) {
    let engine = QemuEngine::default();
    let template = lab.path("template");
    fs::create_dir(&template).unwrap();
    engine.prepare(&lab.spec, &template).await.unwrap();
    let spec = MachineSpec { runtime_dir: lab.path("run2"), ..lab.spec.clone() };
    fs::create_dir(&spec.runtime_dir).unwrap();
    engine.clone_storage(&template, &spec.storage).unwrap();
    let machine = engine.restore(&template, &spec).await.unwrap();
    machine.insert_baseline(&lab.path("baseline")).await.unwrap();
    let mut client = pyro_wire::agent(machine.connect().await.unwrap());
    let mut adopting = client.clone();
    let (resumed, adopted) = tokio::join!(machine.resume(), adopting.adopt(lab::adoption()));
    resumed.unwrap();
    adopted.unwrap();
    client.set_clock(living::now()).await.unwrap();
    (machine, client)
}

async fn lives_on_in_copies(lab: &Lab, machine: Box<dyn Machine>, mut client: Client) {
    let engine = QemuEngine::default();
    let (life, held) = bring_to_life(&mut client).await;
    let capture = lab.path("capture");
    let captured = capture_held(&*machine, &mut client, &capture).await;
    assert!(!captured.stream_lost);
    assert!(captured.memory_bytes > 40 << 20, "{captured:?}");
    assert_lives(&mut client, &life).await;
    // Time stood still for it, too.
    client.set_clock(living::now()).await.unwrap();

    let mut copies = Vec::new();
    for number in 1..=2 {
        copies.push(copy_of(lab, &engine, &capture, number).await);
    }
    for copy in &mut copies {
        assert_lives(&mut copy.client, &life).await;
    }
    living::assert_unique(&mut copies, &mut client).await;

    // A copy of a copy needs neither the template nor the first capture.
    let second = lab.path("second");
    let Copy { machine: first, client: first_client } = &mut copies[0];
    output(first_client, "echo of the first > /root/mark; head -c 8M /dev/urandom > /dev/shm/more")
        .await;
    let captured = capture_held(&**first, first_client, &second).await;
    eprintln!("of a copy: {captured:?}");
    fs::remove_dir_all(&capture).unwrap();
    let _ = fs::remove_dir_all(lab.path("template"));
    let mut third = copy_of(lab, &engine, &second, 3).await;
    assert_lives(&mut third.client, &life).await;
    assert_eq!(output(&mut third.client, "cat /root/mark").await, "of the first\n");
    assert_eq!(
        output(&mut copies[1].client, "cat /root/mark 2> /dev/null || echo none").await,
        "none\n"
    );
    drop(held);
    for Copy { machine, mut client } in copies.into_iter().chain([third]) {
        shut_down(&mut client, &*machine).await;
    }
    shut_down(&mut client, &*machine).await;
    for number in 1..=3 {
        lab::assert_clean(&lab.path(&format!("disk-{number}")));
    }
}

#[tokio::test]
async fn a_machine_from_a_template_lives_on_in_copies() {
    let Some(mut lab) = Lab::new() else { return };
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // As supervisors of root do.
        lab.spec.run_as = Some(987_655);
    }
    let (machine, client) = restored(&lab).await;
    lives_on_in_copies(&lab, machine, client).await;
}

#[tokio::test]
async fn a_booted_machine_lives_on_in_copies() {
    let Some(lab) = Lab::new() else { return };
    let (machine, client) = lab.boot().await;
    lives_on_in_copies(&lab, machine, client).await;
}

#[tokio::test]
async fn a_machine_goes_back_to_where_it_was_in_place() {
    let Some(lab) = Lab::new() else { return };
    let engine = QemuEngine::default();
    let (machine, mut client) = lab.boot().await;
    let (life, _held) = bring_to_life(&mut client).await;
    let capture = lab.path("capture");
    machine.pause().await.unwrap();
    let captured = machine.capture(Scope::DiskAndMemory, &capture).await.unwrap();
    assert_eq!(captured.pause, Duration::ZERO, "it stood still before");
    machine.resume().await.unwrap();
    output(&mut client, "rm -r /workspace/*; echo after > /root/after; pkill python3").await;
    machine.kill(Duration::from_secs(10)).await;
    engine.recover_storage(&capture, &lab.spec.storage).await.unwrap();
    let mut back = living::recover(&lab, &engine, &capture, lab.spec.clone(), 1).await;
    assert_lives(&mut back.client, &life).await;
    assert_eq!(
        output(&mut back.client, "cat README.md; ls /root/after 2> /dev/null || echo none").await,
        "hello\nnone\n"
    );
    shut_down(&mut back.client, &*back.machine).await;
}

/// All files below a directory of a layer, with what is in them.
fn tree(layer: &dyn Layer) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut left) = (Vec::new(), vec![(String::new(), layer.root())]);
    while let Some((path, node)) = left.pop() {
        for entry in layer.read_dir(node).unwrap() {
            let path = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
            let content = living::content(layer, entry.node);
            match content {
                Some(content) => found.push((path, content)),
                None => left.push((path, entry.node)),
            }
        }
    }
    found.sort();
    found
}

/// Holds the disk still as a supervisor does, and captures it.
async fn capture_disk(machine: &dyn Machine, client: &mut Client, capture: &Path) {
    let begun = Instant::now();
    let still = machine.stand_still().await.unwrap();
    let mut freeze = None;
    if still.is_none() {
        let mut held = client.freeze(FreezeRequest {}).await.unwrap().into_inner();
        held.message().await.unwrap().unwrap();
        freeze = Some(held);
    }
    let captured = machine.capture(Scope::Disk, capture).await.unwrap();
    eprintln!("{captured:?}, in all {:?}", begun.elapsed());
    drop((still, freeze));
}

async fn keeps_what_was_written(lab: &Lab, engine: &dyn Engine) {
    let (machine, mut client) = lab.boot_on(engine).await;
    let mut model: Vec<(String, Vec<u8>)> = Vec::new();
    let mut script = String::from("mkdir -p a/b; ");
    for number in 0..40 {
        let path = format!("a/b/f{number}");
        script.push_str(&format!("seq {number} {} > {path}; ", number + 500));
        let content: String = (number..=number + 500).map(|n| format!("{n}\n")).collect();
        model.push((format!("/{path}"), content.into_bytes()));
    }
    model.sort();
    output(&mut client, &script).await;
    let capture = lab.path("capture");
    capture_disk(&*machine, &mut client, &capture).await;
    output(&mut client, "rm -r a; echo later > later").await;
    shut_down(&mut client, &*machine).await;
    drop(machine);

    let kept = |storage: Storage| tree(&*storage.workspace);
    assert_eq!(kept(engine.open_capture(&capture).unwrap()), model);
    engine.recover_storage(&capture, &lab.spec.storage).await.unwrap();
    assert_eq!(kept(engine.open_storage(&lab.spec.storage).unwrap()), model);
    fs::remove_dir_all(lab.path("run")).unwrap();
    fs::create_dir(lab.path("run")).unwrap();
    let (machine, mut client) = lab.boot_on(engine).await;
    assert_eq!(output(&mut client, "ls; ls a/b | wc -l").await, "README.md\na\ndir\n40\n");
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_captured_disk_has_what_was_written_with_qemu() {
    let Some(lab) = Lab::new() else { return };
    keeps_what_was_written(&lab, &QemuEngine::default()).await;
}

#[tokio::test]
async fn a_captured_disk_has_what_was_written_in_a_container() {
    let (Some(engine), Some(lab)) = (container(), Lab::new()) else { return };
    keeps_what_was_written(&lab, &engine).await;
}

async fn survives_writers(lab: &Lab, engine: &dyn Engine) {
    let (machine, mut client) = lab.boot_on(engine).await;
    output(
        &mut client,
        "(i=0; while i=$((i+1)); do mkdir -p d$((i%7)); seq $i $((i+3000)) > d$((i%7))/$((i%50)); \
         [ $((i%9)) != 0 ] || rm -rf d$((i%5)); done) > /dev/null 2>&1 & \
         (while :; do head -c 3M /dev/urandom > big; sync; rm big; done) > /dev/null 2>&1 &",
    )
    .await;
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let capture = lab.path(&format!("capture-{round}"));
        // Nobody asks the machine to be ready for it.
        let captured = machine.capture(Scope::Disk, &capture).await.unwrap();
        eprintln!("{captured:?}");
        let disk = lab.path(&format!("copy-{round}"));
        engine.recover_storage(&capture, &disk).await.unwrap();
        let check = |how: &str| Command::new("/sbin/e2fsck").arg(how).arg(&disk).output().unwrap();
        // As after a power cut: the journal is replayed, and then nothing is wrong.
        let replayed = Command::new("/sbin/e2fsck")
            .args(["-p", "-E", "journal_only"])
            .arg(&disk)
            .output()
            .unwrap();
        assert!(replayed.status.code().is_some_and(|code| code <= 1), "{replayed:?}");
        let checked = check("-fn");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    machine.kill(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_disk_captured_under_writers_is_as_after_a_power_cut_with_qemu() {
    let Some(lab) = Lab::new() else { return };
    survives_writers(&lab, &QemuEngine::default()).await;
}

#[tokio::test]
async fn a_disk_captured_under_writers_is_as_after_a_power_cut_in_a_container() {
    let (Some(engine), Some(lab)) = (container(), Lab::new()) else { return };
    survives_writers(&lab, &engine).await;
}

#[tokio::test]
async fn a_container_says_why_its_memory_cannot_be_captured() {
    let (Some(engine), Some(lab)) = (container(), Lab::new()) else { return };
    assert_eq!(engine.capabilities().captures, Some(Scope::Disk));
    let reason = engine.capabilities().no_memory_because.unwrap();
    let (machine, mut client) = lab.boot_on(&engine).await;
    let refused = machine.capture(Scope::DiskAndMemory, &lab.path("capture")).await.unwrap_err();
    let refused = Error::from(refused);
    assert_eq!((refused.code, refused.cause.as_deref()), (ErrorCode::Unsupported, Some(reason)));
    assert!(!lab.path("capture").exists());
    shut_down(&mut client, &*machine).await;
}

#[tokio::test]
async fn a_damaged_capture_is_refused_and_nothing_is_lost() {
    let Some(lab) = Lab::new() else { return };
    let engine = QemuEngine::default();
    let (machine, mut client) = restored(&lab).await;
    output(&mut client, "echo something > file; sync").await;
    let capture = lab.path("capture");
    machine.capture(Scope::DiskAndMemory, &capture).await.unwrap();
    shut_down(&mut client, &*machine).await;
    drop(machine);
    let storage = lab.path("storage");
    fs::write(&storage, "precious").unwrap();
    let recover = async || {
        fs::create_dir_all(lab.path("run3")).unwrap();
        engine.recover_storage(&capture, &storage).await?;
        let spec = MachineSpec {
            storage: storage.clone(),
            runtime_dir: lab.path("run3"),
            ..lab.spec.clone()
        };
        engine.recover(&capture, &spec).await.map(drop)
    };
    for part in ["disk", "memory", "pages", "base", "state", "capture.json"] {
        let path = capture.join(part);
        let whole = fs::read(&path).unwrap();
        // A capture shares its base with the template.
        fs::remove_file(&path).unwrap();
        let content = whole.iter().position(|byte| *byte != 0).unwrap();
        let mut flipped = whole.clone();
        flipped[content + 8] ^= 0x10;
        for damaged in [flipped, whole[..whole.len() / 2].to_vec(), Vec::new()] {
            fs::write(&path, damaged).unwrap();
            let error = recover().await.unwrap_err();
            assert!(matches!(error, EngineError::Capture { .. }), "{part}: {error:?}");
            if part == "disk" {
                assert_eq!(fs::read(&storage).unwrap(), b"precious");
            }
        }
        fs::remove_file(&path).unwrap();
        let error = recover().await.unwrap_err();
        assert!(matches!(error, EngineError::Capture { .. }), "{part}: {error:?}");
        fs::write(&path, whole).unwrap();
    }
    recover().await.unwrap();
    let other = MachineSpec { mem_mib: 256, ..lab.spec.clone() };
    let error = engine.recover(&capture, &other).await.err().unwrap();
    assert!(matches!(error, EngineError::Misfit { .. }), "{error:?}");
    let left: Vec<_> = fs::read_dir(lab.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A filesystem in memory, unmounted when this is dropped.
struct SmallSpace(PathBuf);

impl SmallSpace {
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "small"])
            .arg(&path)
            .output()
            .unwrap();
        if !mounted.status.success() {
            eprintln!("SKIPPED: only root can mount");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for SmallSpace {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

async fn has_no_space(lab: &Lab, engine: &dyn Engine, scope: Scope) {
    let Some(small) = SmallSpace::new(lab.path("small"), "12m") else { return };
    let (machine, mut client) = lab.boot_on(engine).await;
    output(&mut client, "head -c 20M /dev/urandom > big; sync").await;
    for _ in 0..2 {
        let refused = machine.capture(scope, &small.0.join("capture")).await.unwrap_err();
        assert_eq!(Error::from(refused).code, ErrorCode::NoSpace);
        assert_eq!(fs::read_dir(&small.0).unwrap().count(), 0);
        // It goes on.
        assert_eq!(output(&mut client, "echo on").await, "on\n");
    }
    machine.capture(Scope::Disk, &lab.path("capture")).await.unwrap();
    let refused = engine.recover_storage(&lab.path("capture"), &small.0.join("disk")).await;
    assert_eq!(Error::from(refused.unwrap_err()).code, ErrorCode::NoSpace);
    assert_eq!(fs::read_dir(&small.0).unwrap().count(), 0);
    shut_down(&mut client, &*machine).await;
    drop(small);
}

#[tokio::test]
async fn a_capture_without_space_leaves_nothing_behind_with_qemu() {
    let Some(lab) = Lab::new() else { return };
    has_no_space(&lab, &QemuEngine::default(), Scope::DiskAndMemory).await;
}

#[tokio::test]
async fn a_capture_without_space_leaves_nothing_behind_in_a_container() {
    let (Some(engine), Some(lab)) = (container(), Lab::new()) else { return };
    has_no_space(&lab, &engine, Scope::Disk).await;
}

/// A disk of which 20 MiB of 200 are written.
fn written_disk(path: &Path) {
    let disk = File::create_new(path).unwrap();
    disk.set_len(200 << 20).unwrap();
    for at in 0..20_u64 {
        disk.write_all_at(&vec![at as u8 + 1; 1 << 20], (at * 10) << 20).unwrap();
    }
}

#[tokio::test]
async fn a_capture_at_rest_costs_what_was_written_and_replaces_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, capture) = (temp.path().join("disk"), temp.path().join("capture"));
    written_disk(&disk);
    let engine = QemuEngine::default();
    let captured = engine.capture(&disk, &capture).await.unwrap();
    assert_eq!((captured.disk_bytes, captured.pause), (20 << 20, Duration::ZERO));
    let taken = fs::metadata(capture.join("disk")).unwrap().blocks() * 512;
    assert!(taken < 24 << 20, "{taken}");
    assert!(engine.capture(&disk, &capture).await.is_err(), "the name is taken");
    assert!(matches!(
        ContainerEngine::default().recover_storage(&capture, &disk).await,
        Err(EngineError::Misfit { .. })
    ));
    let whole = fs::read(&disk).unwrap();
    File::options().write(true).open(&disk).unwrap().write_all_at(b"changed", 5000).unwrap();
    engine.recover_storage(&capture, &disk).await.unwrap();
    assert!(fs::read(&disk).unwrap() == whole);
}

/// Not a test: the process that the next one kills.
#[tokio::test]
#[ignore = "run by a_capture_that_is_killed_is_whole_or_not_there"]
async fn captor_to_be_killed() {
    let home = PathBuf::from(std::env::var_os("PYRO_TEST_CAPTURES").unwrap());
    let engine = QemuEngine::default();
    for number in 0.. {
        let capture = home.join(format!("{}-{number}", std::process::id()));
        engine.capture(&home.join("disk"), &capture).await.unwrap();
        engine.recover_storage(&capture, &home.join("storage")).await.unwrap();
    }
}

#[tokio::test]
async fn a_capture_that_is_killed_is_whole_or_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, storage) = (temp.path().join("disk"), temp.path().join("storage"));
    written_disk(&disk);
    let whole = fs::read(&disk).unwrap();
    fs::write(&storage, "old").unwrap();
    let engine = QemuEngine::default();
    let (mut published, mut interrupted) = (0, 0);
    for round in 0..20_u64 {
        let mut captor = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "captor_to_be_killed"])
            .env("PYRO_TEST_CAPTURES", temp.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20 + round * 37 % 300)).await;
        captor.kill().unwrap();
        captor.wait().unwrap();
        for entry in fs::read_dir(temp.path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('.') {
                interrupted += 1;
            } else if path.is_dir() {
                engine.recover_storage(&path, &temp.path().join("check")).await.unwrap();
                fs::remove_dir_all(&path).unwrap();
                published += 1;
            }
        }
        let now = fs::read(&storage).unwrap();
        assert!(now == b"old" || now == whole, "the old or the new");
        pyro_engine::sweep_captures(temp.path()).unwrap();
    }
    eprintln!("{published} published, {interrupted} interrupted");
    assert!(interrupted > 0);
    assert!(fs::read(temp.path().join("check")).unwrap() == whole);
}
