//! The configuration file and the variables that outrank it.

use std::fs;

use crate::harness::Host;

#[test]
fn defaults_come_from_the_file_then_a_variable_then_a_flag() {
    let host = Host::new();
    let file = host.path("config/pyro/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[shape]\nmem_mib = 512\ndisk_mib = 128\nvcpu_count = 2\n").unwrap();
    let create = ["--json", "workspace", "create", "debian:12", "--vcpu-count", "1"];
    let output = host.command(create).env("PYRO_DISK_MIB", "256").output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shape = serde_json::json!({ "vcpu_count": 1, "mem_mib": 512, "disk_mib": 256 });
    assert_eq!(status["shape"], shape, "{status}");
    let checks = host.json(["doctor"]);
    let check = checks.as_array().unwrap().iter().find(|one| one["name"] == "configuration");
    assert!(check.unwrap()["found"].as_str().unwrap().contains("config/pyro/config.toml"));
}

#[test]
fn a_mistake_in_the_file_stops_every_command_and_names_file_line_and_keys() {
    let host = Host::new();
    let file = host.path("config/pyro/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "engine = \"auto\"\n[shape]\nmemory_mib = 512\n").unwrap();
    let error = host.error(["workspace", "list"], 1);
    assert_eq!(error["code"], "invalid_argument");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("pyro/config.toml, line 3:"), "{message}");
    assert!(message.contains("memory_mib"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("shape.mem_mib"), "{error}");
    fs::remove_file(&file).unwrap();
    host.ok(["workspace", "list"]);
}

#[test]
fn a_qemu_named_in_the_configuration_is_the_one_that_is_run() {
    let host = Host::new();
    let create = ["--json", "workspace", "create", "debian:12"];
    let output = host.command(create).env("PYRO_QEMU", "/no/such/qemu").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["code"], "missing_dependency");
    let hint = document["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("--engine container"), "both remedies: {hint}");
}
