//! A real Firecracker, as far as it goes without hardware virtualization: up to the start of its guest.
//! `PYRO_FIRECRACKER` names it; without one the tests say so and pass.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use super::*;
use crate::Image;

fn program() -> Option<Programs> {
    let program = std::env::var_os("PYRO_FIRECRACKER").map(PathBuf::from);
    if program.is_none() {
        eprintln!("SKIPPED: PYRO_FIRECRACKER names no firecracker to test with");
    }
    program.map(|firecracker| Programs { firecracker, jailer: None })
}

/// Files of the right kind, and nothing in them.
fn spec(directory: &Path, run_as: Option<u32>) -> MachineSpec {
    let file = |name: &str| {
        let path = directory.join(name);
        std::fs::write(&path, vec![0; 4096]).unwrap();
        path
    };
    let runtime_dir = directory.join("run");
    std::fs::create_dir(&runtime_dir).unwrap();
    MachineSpec {
        image: Image {
            kernel: file("kernel"),
            initramfs: file("initramfs"),
            environment: file("environment"),
        },
        storage: file("storage"),
        cache_dir: directory.join("derived"),
        runtime_dir,
        vcpu_count: 2,
        mem_mib: 128,
        run_as,
    }
}

async fn started(programs: &Programs, spec: &MachineSpec) -> Result<FirecrackerMachine> {
    let mut own = programs.place(spec)?;
    own.lend_copy(own::KERNEL, &spec.image.kernel)?;
    own.lend_copy(own::INITRAMFS, &spec.image.initramfs)?;
    own.lend_shared(own::ENVIRONMENT, &spec.image.environment)?;
    own.lend_own(own::STORAGE, &spec.storage)?;
    let beginning = (Base::Zeroes, open(&spec.storage, false)?);
    FirecrackerMachine::start(programs, own, spec, beginning).await
}

#[tokio::test]
async fn a_real_firecracker_understands_what_a_machine_is_made_of() {
    let Some(program) = program() else { return };
    let directory = tempfile::tempdir().unwrap();
    let spec = spec(directory.path(), None);
    let begun = Instant::now();
    let machine = started(&program, &spec).await.unwrap();
    eprintln!("takes orders after {:?}", begun.elapsed());
    machine.describe(&spec).await.unwrap();
    // An order that it refuses is an error in its own words, and it goes on.
    let refused = machine.api.change_drive("no such drive", "x").await.unwrap_err();
    assert!(matches!(&refused, EngineError::Order { said, .. } if !said.is_empty()), "{refused:?}");
    assert!(machine.usage().await.unwrap().memory_bytes > 0);
    machine.kill(Duration::from_secs(5)).await;
    assert!(matches!(machine.exited().await, Exit::Died(_)));
}

#[tokio::test]
async fn it_runs_as_a_user_of_its_own_who_reaches_no_path() {
    let Some(program) = program() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can run a machine as another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let spec = spec(directory.path(), Some(987_655));
    std::fs::set_permissions(&spec.storage, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&spec.image.kernel, PermissionsExt::from_mode(0o600)).unwrap();
    let machine = started(&program, &spec).await.unwrap();
    machine.describe(&spec).await.unwrap();
    let (pid, _) = machine.process().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    };
    assert_eq!(line("Uid:").split_whitespace().next(), Some("987655"));
    assert_eq!(line("CapEff:"), "0000000000000000");
    assert_eq!(line("CapBnd:"), "0000000000000000");
    assert_eq!(line("NoNewPrivs:"), "1");
    for name in ["net", "mnt", "ipc", "uts"] {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{name}");
    }
    let seen = |path: &str| Path::new(&format!("/proc/{pid}/root/{path}")).exists();
    assert!(seen("machine/environment") && seen("dev/null"));
    assert!(!seen("etc/passwd") && !seen("proc/1") && !seen("root"));
    // A baseline of somebody else's, which it may read now and nobody may write.
    let baseline = directory.path().join("baseline");
    std::fs::write(&baseline, vec![0; 4096]).unwrap();
    std::fs::set_permissions(&baseline, PermissionsExt::from_mode(0o600)).unwrap();
    machine.own.show(own::BASELINE, &baseline).unwrap();
    let meta = std::fs::metadata(&baseline).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o440);
}

#[tokio::test]
async fn an_empty_or_damaged_template_is_refused_soon_and_told_apart() {
    let Some(program) = program() else { return };
    let directory = tempfile::tempdir().unwrap();
    let spec = spec(directory.path(), None);
    let template = directory.path().join("template");
    std::fs::create_dir(&template).unwrap();
    let files = Files::of(&template);
    for content in [None, Some(&b""[..]), Some(&[7; 5000][..])] {
        if let Some(content) = content {
            std::fs::write(&files.state, content).unwrap();
            std::fs::write(&files.memory, content).unwrap();
        }
        let begun = Instant::now();
        let refused = FirecrackerMachine::restore(&program, &files, &spec).await.err().unwrap();
        assert!(matches!(&refused, EngineError::Template { said } if !said.is_empty()));
        eprintln!("refused after {:?}: {refused:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

/// Programs that are no Firecracker at all, or one that pyro does not know.
#[tokio::test]
async fn what_is_no_firecracker_is_found_out_and_leaves_nothing_running() {
    let directory = tempfile::tempdir().unwrap();
    let spec = spec(directory.path(), None);
    let program = directory.path().join("firecracker");
    let script = |text: &str| {
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("echo cannot do that >&2; exit 3");
    let programs = Programs { firecracker: program.clone(), jailer: None };
    let refused = started(&programs, &spec).await.err().unwrap();
    assert!(
        matches!(&refused, EngineError::Launch { said } if said.contains("cannot do that")),
        "{refused:?}"
    );
    assert!(matches!(
        check("1.16.1", &program),
        Err(EngineError::WrongVersion { supported: version::SUPPORTED, fix: FIX, .. })
    ));
    check("1.15.1", &program).unwrap();
}

/// Firecracker's own jailer, as a process of which all three parts go together.
#[tokio::test]
async fn in_its_own_jailer_it_is_confined_and_dies_with_what_watches_it() {
    let Some(mut programs) = program() else { return };
    programs.jailer = std::env::var_os("PYRO_JAILER").map(PathBuf::from);
    if programs.jailer.is_none() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: PYRO_JAILER names no jailer, or this is not root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let spec = spec(directory.path(), Some(987_657));
    let begun = Instant::now();
    let machine = started(&programs, &spec).await.unwrap();
    eprintln!("takes orders after {:?}", begun.elapsed());
    machine.describe(&spec).await.unwrap();
    assert!(machine.usage().await.unwrap().memory_bytes > 0);
    let (watcher, _) = machine.process().unwrap();
    let child = |pid: &str| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().to_owned()
    };
    let first = child(&watcher.to_string());
    let worker = child(&first);
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    assert!(status.contains("Uid:\t987657"), "{status}");
    for name in ["net", "mnt", "ipc", "uts", "pid"] {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}")).unwrap();
        assert_ne!(of(&worker), of("self"), "{name}");
    }
    assert!(!Path::new(&format!("/proc/{worker}/root/usr")).exists());
    // Whoever watches it is killed, as it is when the supervisor dies.
    let raw = rustix::process::Pid::from_raw(watcher as i32).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    tokio::time::timeout(Duration::from_secs(5), machine.exited()).await.unwrap();
    let begun = Instant::now();
    while std::fs::read_link(format!("/proc/{worker}/exe")).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it lives on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
