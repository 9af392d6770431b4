//! The real bootstrap.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use pyro_contract::environment::EnvironmentRef;
use pyro_contract::progress::Progress;

use super::child::Child;
use super::{Bootstrap, Sink};
use crate::recipe;
use crate::requirements;
use crate::{EnvironmentError, Result, env_vars};

/// Runs `mmdebstrap`, as root or in a user namespace.
pub(crate) struct Mmdebstrap;

impl Bootstrap for Mmdebstrap {
    fn root_filesystem(
        &self,
        environment: &EnvironmentRef,
        scratch: &Path,
        sink: Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut arguments = arguments("--variant=minbase")?;
        let packages = recipe::packages(environment);
        if !packages.is_empty() {
            arguments.push(format!("--include={}", packages.join(",")).into());
        }
        for option in recipe::DPKG {
            arguments.push(format!("--dpkgopt={option}").into());
        }
        arguments.push(format!("--customize-hook={}", recipe::FINISH).into());
        run(environment.as_str(), arguments, scratch, sink, progress)
    }

    fn kernel(&self, scratch: &Path, sink: Sink<'_>, progress: &dyn Progress) -> Result<()> {
        // `extract` only unpacks: no install script runs, and the host's release does not matter.
        let mut arguments = arguments("--variant=extract")?;
        arguments.push(format!("--include={}", recipe::KERNEL_PACKAGE).into());
        run("the guest kernel", arguments, scratch, sink, progress)
    }
}

/// What both uses of the program have in common.
fn arguments(variant: &str) -> Result<Vec<OsString>> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(EnvironmentError::Unsupported {
            message: format!(
                "environments are made for x86_64 only, and this host is {}",
                std::env::consts::ARCH
            ),
            hint: "run pyro on an x86_64 machine",
        });
    }
    Ok(["--mode=auto", "--format=tar", "--architectures=amd64", variant].map(Into::into).to_vec())
}

fn run(
    what: &str,
    mut arguments: Vec<OsString>,
    scratch: &Path,
    sink: Sink<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let program = requirements::find("mmdebstrap").ok_or(EnvironmentError::MissingProgram {
        program: "mmdebstrap",
        fix: requirements::INSTALL_MMDEBSTRAP,
    })?;
    // `-` is the target: standard output.
    arguments.extend(["--", recipe::SUITE, "-"].map(Into::into));
    arguments.extend(mirror()?);
    let mut command = Command::new(program);
    command.args(arguments);
    if rustix::process::geteuid().is_root() {
        // /tmp may be a small memory disk. An ordinary user keeps the default, because the user
        // namespace's subordinate ids can seldom pass through a home directory.
        command.env("TMPDIR", scratch);
    }
    Child::new(what, command).stream(sink, progress)
}

fn mirror() -> Result<Option<OsString>> {
    let Some(mirror) = std::env::var_os(env_vars::PYRO_DEBIAN_MIRROR).filter(|m| !m.is_empty())
    else {
        return Ok(None);
    };
    mirror_argument(mirror).map(Some)
}

/// Only what names a mirror may pass: `-` would read standard input, and a path would have a file
/// of the host copied into the image.
fn mirror_argument(mirror: OsString) -> Result<OsString> {
    let text = mirror.to_string_lossy();
    // Options of sources.list(5) that would have unsigned packages accepted.
    let insecure = ["trusted=", "allow-insecure=", "allow-weak="].iter().any(|o| text.contains(o));
    if !insecure && (text.contains("://") || text.starts_with("deb ")) {
        return Ok(mirror);
    }
    Err(EnvironmentError::InvalidSetting {
        variable: env_vars::PYRO_DEBIAN_MIRROR,
        value: text.into_owned(),
        expected: "mirror with signed packages",
        hint: "set it to a URL such as http://mirror.example/debian, or unset it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_url_or_a_line_of_sources_list() {
        for mirror in
            ["http://mirror.example/debian", "deb [arch=amd64] file:///mirror bookworm main"]
        {
            assert_eq!(mirror_argument(mirror.into()).unwrap(), mirror);
        }
        for other in ["-", "/etc/passwd", "--setup-hook=true", "deb [trusted=yes] http://x y z"] {
            assert!(mirror_argument(other.into()).is_err(), "{other}");
        }
    }
}
