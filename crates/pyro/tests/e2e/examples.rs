//! The examples of the Rust SDK, run as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Host, PYRO, fill};

/// A test of the whole project builds them; a test of this crate alone does not.
fn example(name: &str) -> PathBuf {
    let path = Path::new(PYRO).parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "build it: cargo build --release -p pyro-workspace --examples");
    path
}

#[test]
fn the_main_job_of_the_rust_sdk_does_it() {
    let host = Host::new();
    let project = host.path("project");
    fill(&project, &[("README.md", "hello\n")]);
    let output = Command::new(example("main_job"))
        .args([Path::new(PYRO), &project])
        .env("PYRO_HOME", host.home())
        .env("XDG_CONFIG_HOME", host.path("config"))
        .env_remove("PYRO_CONFIG")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("2 README.md"), "{stdout}");
    assert!(stdout.contains("exit code 0"), "{stdout}");
    assert!(stdout.contains("1 changed") && stdout.contains("+improved"), "{stdout}");
    assert!(host.leftovers().is_empty());
}
