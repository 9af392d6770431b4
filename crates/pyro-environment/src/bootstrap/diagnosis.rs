//! What to tell the user about a bootstrap that failed.

use std::io;

use crate::EnvironmentError;

/// What apt, dpkg or mmdebstrap say, and what to do then. The first match counts.
const KNOWN: [(&str, &str); 11] = [
    (
        "Temporary failure resolving",
        "the package mirror's name cannot be resolved: check the network, or set PYRO_DEBIAN_MIRROR",
    ),
    (
        "Could not resolve",
        "the package mirror's name cannot be resolved: check the network, or set PYRO_DEBIAN_MIRROR",
    ),
    (
        "Could not connect",
        "the package mirror does not answer: check the network and proxy, or set PYRO_DEBIAN_MIRROR",
    ),
    (
        "NO_PUBKEY",
        "the mirror's signature cannot be verified: sudo apt-get install debian-archive-keyring",
    ),
    (
        "is not signed",
        "the mirror's signature cannot be verified: sudo apt-get install debian-archive-keyring",
    ),
    (
        "Unable to locate package",
        "the mirror lacks a package: set PYRO_DEBIAN_MIRROR to a complete Debian mirror",
    ),
    (
        "unable to pick chroot mode",
        "without root, user namespaces are needed: sudo apt-get install uidmap, and give your user \
         ranges in /etc/subuid and /etc/subgid; or run as root",
    ),
    (
        "newuidmap",
        "without root, user namespaces are needed: sudo apt-get install uidmap, and give your user \
         ranges in /etc/subuid and /etc/subgid",
    ),
    (
        "unshare",
        "without root, unprivileged user namespaces are needed: allow them, or run as root",
    ),
    (
        "Failed to fetch",
        "a package could not be downloaded: check the network and try again, or set \
         PYRO_DEBIAN_MIRROR",
    ),
    ("404  Not Found", "the mirror lacks a file: try again, or set PYRO_DEBIAN_MIRROR"),
];

const OTHERWISE: &str =
    "check the network and try again; PYRO_DEBIAN_MIRROR chooses another mirror";

/// The error for a bootstrap of `what` that ended badly after printing `lines`.
pub(super) fn diagnose(what: &str, lines: &[String]) -> EnvironmentError {
    let said = |needle: &str| lines.iter().any(|line| line.contains(needle));
    if said("No space left on device") || said("You don't have enough free space") {
        let last = lines.last().cloned().unwrap_or_default();
        return EnvironmentError::Io {
            attempt: format!("cannot make {what}: the disk is full"),
            source: io::Error::new(io::ErrorKind::StorageFull, last),
        };
    }
    let hint = KNOWN.iter().find(|(needle, _)| said(needle)).map_or(OTHERWISE, |(_, hint)| hint);
    EnvironmentError::Bootstrap { what: what.to_owned(), cause: lines.join("\n"), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyro_contract::{Error, ErrorCode};

    fn error(line: &str) -> Error {
        diagnose("debian:12", &["I: running apt-get update...".to_owned(), line.to_owned()]).into()
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_network() {
        let full = error("E: write error: No space left on device");
        assert_eq!(full.code, ErrorCode::NoSpace);
        let network = error("Err:1 Temporary failure resolving 'deb.example'");
        assert_eq!(network.code, ErrorCode::EnvironmentUnavailable);
        assert!(network.hint.unwrap().contains("PYRO_DEBIAN_MIRROR"));
        assert!(network.cause.unwrap().contains("deb.example"));
    }

    #[test]
    fn an_unknown_failure_still_has_a_cause_and_a_hint() {
        let error = error("E: the moon is in the wrong quarter");
        assert!(error.cause.unwrap().contains("moon"));
        assert!(error.hint.is_some());
    }
}
