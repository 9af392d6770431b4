//! The firecracker engine where it cannot run, and fetching it. Where it can, the conformance suite
//! uses it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Host, fill};

/// A program that says it is this Firecracker.
fn claiming(host: &Host, version: &str) -> PathBuf {
    let program = host.path("firecracker");
    fs::write(&program, format!("#!/bin/sh\necho Firecracker v{version}\n")).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

/// Whether a Firecracker would run here if there was one.
fn has_kvm() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap();
    let capable = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    capable && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// What `create --engine firecracker` fails with, soon and leaving nothing.
fn refused(host: &Host, variables: &[(&str, &str)]) -> serde_json::Value {
    let begun = Instant::now();
    let create = ["--json", "workspace", "create", "debian:12", "--engine", "firecracker"];
    let output = host.command(create).envs(variables.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(host.leftovers().is_empty());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["error"].clone()
}

#[test]
fn a_firecracker_that_is_missing_or_wrong_is_refused_with_its_remedy() {
    let host = Host::new();
    let missing = refused(&host, &[("PYRO_FIRECRACKER", "/no/such/firecracker")]);
    assert_eq!(missing["code"], "missing_dependency", "{missing}");
    if has_kvm() {
        assert_eq!(missing["hint"], "pyro setup firecracker");
    } else {
        let cause = missing["cause"].as_str().unwrap();
        assert!(cause.contains("vmx") || cause.contains("/dev/kvm"), "{missing}");
        assert_ne!(missing["hint"], "pyro setup firecracker", "it would be of no use");
    }
    for version in ["1.16.1", "1.13.0", "2.0.0"] {
        let program = claiming(&host, version);
        let wrong = refused(&host, &[("PYRO_FIRECRACKER", program.to_str().unwrap())]);
        assert_eq!(wrong["code"], "missing_dependency", "{wrong}");
        assert!(wrong["message"].as_str().unwrap().contains(version), "{wrong}");
        assert!(wrong["cause"].as_str().unwrap().contains("1.15"), "{wrong}");
        assert_eq!(wrong["hint"], "pyro setup firecracker");
    }
}

#[test]
fn a_jailer_that_is_named_and_missing_is_refused() {
    let host = Host::new();
    let program = claiming(&host, "1.15.1");
    let variables =
        [("PYRO_FIRECRACKER", program.to_str().unwrap()), ("PYRO_JAILER", "/no/such/jailer")];
    let error = refused(&host, &variables);
    assert_eq!(error["code"], "missing_dependency", "{error}");
    assert!(error["cause"].as_str().unwrap().contains("/no/such/jailer"), "{error}");
}

#[test]
fn doctor_says_of_every_engine_whether_it_works_and_absence_is_no_failure() {
    let host = Host::new();
    let doctor = |program: &str| -> serde_json::Value {
        let mut command = host.command(["--json", "doctor"]);
        let output = command.env("PYRO_FIRECRACKER", program).output().unwrap();
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let engine = |name: &str| {
            checks.as_array().unwrap().iter().find(|check| check["name"] == name).unwrap().clone()
        };
        assert_ne!(engine("engine qemu")["status"], "failed");
        engine("engine firecracker")
    };
    let absent = doctor("/no/such/firecracker");
    assert_eq!(absent["status"], "unavailable", "{absent}");
    assert_eq!(absent["fix"] == "pyro setup firecracker", has_kvm(), "{absent}");
    let wrong = doctor(claiming(&host, "1.16.0").to_str().unwrap());
    assert_eq!(wrong["status"], "unavailable", "{wrong}");
    assert!(wrong["found"].as_str().unwrap().contains("1.16.0"), "{wrong}");
}

#[test]
fn a_setup_that_cannot_reach_its_server_installs_nothing_and_says_what_to_do() {
    let host = Host::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = host
        .command(["--json", "setup", "firecracker"])
        .env("PYRO_FIRECRACKER_MIRROR", format!("http://{closed}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = &document["error"];
    assert_eq!(error["code"], "missing_dependency", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("PYRO_FIRECRACKER_MIRROR"), "{error}");
    let left: Vec<_> = fs::read_dir(host.home().join("programs")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// What `pyro setup` fetched is found by itself, behind what the user names.
#[test]
fn a_fetched_firecracker_is_used_unless_another_is_named() {
    let host = Host::new();
    let installed = host.home().join("programs/firecracker-1.15.1");
    fill(&installed, &[("firecracker", "#!/bin/sh\necho Firecracker v1.15.1\n")]);
    let program = installed.join("firecracker");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let found = |named: Option<&str>| {
        let mut command = host.command(["--json", "doctor"]);
        command.env_remove("PYRO_FIRECRACKER").envs(named.map(|n| ("PYRO_FIRECRACKER", n)));
        let checks: serde_json::Value =
            serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let checks = checks.as_array().unwrap();
        let engine = checks.iter().find(|check| check["name"] == "engine firecracker").unwrap();
        engine["found"].as_str().unwrap().to_owned()
    };
    assert!(found(None).contains("programs/firecracker-1.15.1/firecracker"), "{}", found(None));
    let other = claiming(&host, "1.14.4");
    assert!(found(other.to_str()).contains("1.14.4"), "{}", found(other.to_str()));
}
