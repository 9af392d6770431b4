//! Tests that mount things, without a trace left on the machine that runs them.

use std::{env, process::Command};

const INSIDE: &str = "PYRO_TEST_INSIDE_MOUNT_NAMESPACE";

/// Runs the test that calls it once more in a mount namespace of its own, where `body(true)` may
/// mount what it likes: all of it vanishes with the process. Where no namespace is to be had,
/// calls `body(false)`.
pub(crate) fn in_mount_namespace(body: fn(bool)) {
    if env::var_os(INSIDE).is_some() {
        return body(true);
    }
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let allowed = Command::new("unshare").args([flags, "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return body(false);
    }
    let status = Command::new("unshare")
        .arg(flags)
        .arg(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}
