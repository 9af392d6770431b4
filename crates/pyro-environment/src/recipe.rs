//! What goes into each environment.

use pyro_contract::environment::EnvironmentRef;

/// Bumped whenever a recipe or the image's layout changes in a way that old images should not
/// outlive; it names the store's bucket of pointers (`environments/v1`).
pub(crate) const FORMAT: u32 = 1;

/// The package that depends on the newest kernel for virtual machines.
pub(crate) const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// The Debian release that all present environments and the kernel come from.
pub(crate) const SUITE: &str = "bookworm";

const USUAL: [&str; 11] = [
    "ca-certificates",
    "curl",
    "git",
    "iproute2",
    "less",
    "nano",
    "patch",
    "procps",
    "python3",
    "unzip",
    "xz-utils",
];

const COMPILERS: [&str; 6] =
    ["build-essential", "cmake", "pkg-config", "python3-dev", "python3-pip", "python3-venv"];

/// The packages to install beyond Debian's essential ones and apt.
pub(crate) fn packages(environment: &EnvironmentRef) -> Vec<&'static str> {
    match environment.as_str() {
        "debian:12" => USUAL.to_vec(),
        "debian:12-build" => [USUAL.as_slice(), COMPILERS.as_slice()].concat(),
        _ => Vec::new(),
    }
}

/// Run by the shell with the new root directory as `$1`, after all packages are installed.
///
/// `mmdebstrap` copies the host's `resolv.conf` and `hostname` for the install scripts' sake; both
/// belong to the machine, not to the image. `machine-id` exists but is empty, which machine-id(5)
/// defines as "to be filled at first boot".
pub(crate) const FINISH: &str = r#"set -eu
mkdir -p "$1/workspace"
rm -f "$1/etc/resolv.conf" "$1/etc/machine-id" "$1/var/lib/dbus/machine-id"
: > "$1/etc/machine-id"
echo localhost > "$1/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$1/etc/hosts"
echo LANG=C.UTF-8 > "$1/etc/default/locale"
rm -rf "$1"/var/log/apt "$1"/var/log/*.log "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
"#;

/// Settings of dpkg, in force while the image is made and in the machine later.
///
/// Documentation that nobody reads in a machine made for a task is left out, the same that Debian's
/// "slim" container images lack; copyright notices stay. And dpkg need not sync every file: an image
/// half made is thrown away, and a machine can be reset.
pub(crate) const DPKG: [&str; 8] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/lintian/*",
];
