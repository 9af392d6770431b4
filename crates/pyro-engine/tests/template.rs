//! Freezes real machines and brings them back; without `PYRO_TEST_HOME` the tests say so and pass.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with the tests of booting, which need more of it")]
mod lab;

use std::fs;
use std::path::Path;
use std::time::Instant;

use pyro_engine::qemu::QemuEngine;
use pyro_engine::{Engine, EngineError, Machine, MachineSpec};

use lab::{Client, Lab, adoption, assert_clean, output, shut_down};

/// Freezes a machine like the lab's.
async fn freeze(lab: &Lab) -> std::path::PathBuf {
    let template = lab.path("template");
    fs::create_dir(&template).unwrap();
    let begun = Instant::now();
    QemuEngine::default().prepare(&lab.spec, &template).await.unwrap();
    eprintln!("prepare {:?}", begun.elapsed());
    for entry in fs::read_dir(&template).unwrap().flatten() {
        eprintln!("{:?} {}", entry.file_name(), entry.metadata().unwrap().len());
    }
    assert!(!lab.spec.storage.exists(), "it is used up");
    template
}

async fn restore(lab: &Lab, template: &Path, name: &str) -> (Box<dyn Machine>, Client) {
    let at = |part: &str| lab.path(&format!("{name}-{part}"));
    let spec = MachineSpec { storage: at("disk"), runtime_dir: at("run"), ..lab.spec.clone() };
    fs::create_dir(&spec.runtime_dir).unwrap();
    let engine = QemuEngine::default();
    let begun = Instant::now();
    engine.clone_storage(template, &spec.storage).unwrap();
    eprintln!("storage {:?}", begun.elapsed());
    let machine = engine.restore(template, &spec).await.unwrap();
    eprintln!("restored {:?}", begun.elapsed());
    machine.insert_baseline(&lab.path("baseline")).await.unwrap();
    let mut client = pyro_wire::agent(machine.connect().await.unwrap());
    let mut adopting = client.clone();
    let (resumed, adopted) = tokio::join!(machine.resume(), adopting.adopt(adoption()));
    resumed.unwrap();
    adopted.unwrap();
    eprintln!("adopted {:?}", begun.elapsed());
    output(&mut client, "true").await;
    eprintln!("first command {:?}", begun.elapsed());
    (machine, client)
}

#[tokio::test]
async fn a_frozen_machine_comes_back_as_often_as_wanted() {
    let Some(lab) = Lab::new() else { return };
    let template = freeze(&lab).await;
    let (one, mut first) = restore(&lab, &template, "one").await;
    let (two, mut second) = restore(&lab, &template, "two").await;
    output(&mut first, "echo one > README.md; echo one > /etc/one").await;
    assert_eq!(
        output(&mut second, "cat README.md; ls /etc/one 2>/dev/null || true").await,
        "hello\n"
    );
    output(&mut second, "cat /dev/urandom | head -c 50000000 > /root/two").await;
    assert_eq!(output(&mut first, "cat README.md").await, "one\n");
    for machine in [&one, &two] {
        eprintln!("{:?}", machine.usage().await.unwrap());
    }
    shut_down(&mut first, &*one).await;
    shut_down(&mut second, &*two).await;
    for name in ["one-disk", "two-disk"] {
        assert_clean(&lab.path(name));
    }
    // What they did is nothing to those that come later.
    let (three, mut third) = restore(&lab, &template, "three").await;
    assert_eq!(
        output(&mut third, "cat README.md; ls -d /root/two /etc/one 2>/dev/null || true").await,
        "hello\n"
    );
    shut_down(&mut third, &*three).await;
}

#[tokio::test]
async fn a_damaged_template_is_told_from_a_host_that_fails() {
    let Some(lab) = Lab::new() else { return };
    let template = freeze(&lab).await;
    let spec = MachineSpec { storage: lab.path("disk2"), ..lab.spec.clone() };
    let engine = QemuEngine::default();
    engine.clone_storage(&template, &spec.storage).unwrap();
    for part in ["memory", "state", "disk"] {
        let whole = fs::read(template.join(part)).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", &[0x5a; 10_000]] {
            fs::write(template.join(part), damaged).unwrap();
            fs::create_dir_all(lab.path("run")).unwrap();
            let outcome = match part {
                "disk" => engine.clone_storage(&template, &lab.path("disk3")),
                _ => engine.restore(&template, &spec).await.map(drop),
            };
            let error = outcome.unwrap_err();
            assert!(matches!(error, EngineError::Template { .. }), "{part}: {error:?}");
        }
        fs::write(template.join(part), whole).unwrap();
    }
    fs::remove_file(template.join("state")).unwrap();
    let error = engine.restore(&template, &spec).await.map(drop).unwrap_err();
    assert!(matches!(error, EngineError::Template { .. }), "{error:?}");
    // A full disk is the host's affair.
    let error = engine.clone_storage(&template, Path::new("/dev/full/disk")).unwrap_err();
    assert!(matches!(error, EngineError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn the_fingerprint_is_the_same_until_the_program_changes() {
    let engine = QemuEngine::default();
    let Ok(one) = engine.fingerprint() else {
        eprintln!("SKIPPED: QEMU is not installed");
        return;
    };
    assert_eq!(one, engine.fingerprint().unwrap());
    let temp = tempfile::tempdir().unwrap();
    let other = temp.path().join("qemu");
    fs::write(&other, "#!/bin/sh\necho QEMU emulator version 1.0\n").unwrap();
    assert_ne!(one, QemuEngine::with_program(&other).fingerprint().unwrap());
}
