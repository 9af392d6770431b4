//! Builds the guest agent, a static executable that the library carries along.
//!
//! Cargo cannot yet depend on another package's binary with its own target and flags (artifact
//! dependencies are unstable), so this runs a second cargo. It has its own target directory, for
//! two cargos that share one wait for each other forever.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const READY_MADE: &str = "PYRO_GUEST_AGENT_BINARY";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={READY_MADE}");
    match agent().and_then(checked) {
        Ok(agent) => {
            println!("cargo::rustc-env=PYRO_GUEST_AGENT={}", agent.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn agent() -> Result<PathBuf, String> {
    if let Some(agent) = env::var_os(READY_MADE) {
        let agent = std::path::absolute(&agent).map_err(|error| error.to_string())?;
        println!("cargo::rerun-if-changed={}", agent.display());
        return Ok(agent);
    }
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package.ancestors().nth(2).ok_or("the crate is not in a workspace")?;
    for source in ["crates/pyro-guest", "crates/pyro-wire", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    build(workspace)
}

/// Refuses an agent that would need a dynamic loader: there is none in the initramfs, and the
/// kernel would panic without a word about why.
fn checked(agent: PathBuf) -> Result<PathBuf, String> {
    let elf = std::fs::read(&agent).map_err(|e| format!("cannot read {}: {e}", agent.display()))?;
    match has_interpreter(&elf) {
        Some(false) => Ok(agent),
        Some(true) => Err(format!("{} is not statically linked", agent.display())),
        None => Err(format!("{} is not an x86_64 executable", agent.display())),
    }
}

/// Whether a 64-bit ELF for x86_64 has a program header of type PT_INTERP, see elf(5).
fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const EM_X86_64: usize = 62;
    const PT_INTERP: usize = 3;
    let number = |offset: usize, length: usize| {
        let bytes = elf.get(offset..offset.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") || number(18, 2)? != EM_X86_64 {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut types = (0..count).map(|index| number(table.checked_add(index * size)?, 4));
    types.try_fold(false, |found, kind| Some(found || kind? == PT_INTERP))
}

fn build(workspace: &Path) -> Result<PathBuf, String> {
    // OUT_DIR is TARGET_DIR/[TRIPLE/]PROFILE/build/NAME-HASH/out. The agent's target directory lies
    // beside the profiles, so that debug, release, check and clippy share one build of it.
    let out = PathBuf::from(variable("OUT_DIR")?);
    let build = out.ancestors().find(|dir| dir.ends_with("build")).ok_or("OUT_DIR is odd")?;
    let target = build.ancestors().nth(2).ok_or("OUT_DIR is odd")?.join("guest");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--package", "pyro-guest", "--bin", "pyro-guest", "--profile", "guest"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target);
    // What the outer cargo says of itself and of this package (its wrappers: clippy's driver, a
    // coverage tool) must not reach the inner one. MAKEFLAGS and CARGO_MAKEFLAGS do: they carry the
    // jobserver, so that both together use no more processors than the user allowed.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let outer =
            ["CARGO_PKG_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PROFILE_", "DEP_", "CLIPPY_"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if outer {
            cargo.env_remove(&*name);
        }
    }
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_MANIFEST_LINKS",
        "CARGO_PRIMARY_PACKAGE",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "RUSTDOCFLAGS",
        "OUT_DIR",
        "OPT_LEVEL",
        "DEBUG",
        "PROFILE",
        "TARGET",
        "HOST",
        "NUM_JOBS",
    ] {
        cargo.env_remove(name);
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the guest agent does not build ({status}); see above"));
    }
    let agent = target.join(TARGET).join("guest").join("pyro-guest");
    // The file is linked anew at its path on each build, while the library includes it by path:
    // a copy of one's own cannot change in the midst of that.
    let copy = out.join("pyro-guest");
    std::fs::copy(&agent, &copy)
        .map_err(|error| format!("cannot copy {}: {error}", agent.display()))?;
    Ok(copy)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
