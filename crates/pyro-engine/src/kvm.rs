//! Whether this host has hardware virtualization that ordinary guest kernels can use.
//!
//! An openable `/dev/kvm` is not enough: on hosts that virtualize in software (PVM) it answers,
//! yet stock kernels hang on it. So the CPU must say `vmx` or `svm` as well.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

/// `KVM_GET_API_VERSION`, `_IO(0xAE, 0x00)`, and the only answer there has been since Linux 2.6.22;
/// see the kernel's `Documentation/virt/kvm/api.rst`.
const GET_API_VERSION: libc::Ioctl = 0xAE00;
const API_VERSION: i32 = 12;

/// The device.
pub(crate) const DEVICE: &str = "/dev/kvm";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// Machines run on hardware.
    Usable,
    /// They do not, and why.
    Unusable(Unusable),
}

/// Why hardware virtualization cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// The kernel offers none.
    NoDevice,
    /// This user may not open the device.
    NoPermission,
    /// The device does not work.
    Broken(String),
    /// The CPU has neither `vmx` nor `svm`.
    NoCpuSupport,
}

impl Unusable {
    /// Why, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::NoDevice => {
                "there is no /dev/kvm: the kernel offers no hardware virtualization".to_owned()
            }
            Self::NoPermission => "this user may not open /dev/kvm".to_owned(),
            Self::Broken(how) => format!("/dev/kvm does not work: {how}"),
            Self::NoCpuSupport => "the CPU has neither vmx nor svm (a virtual machine without \
                nested virtualization, or switched off in the firmware)"
                .to_owned(),
        }
    }

    /// The command that mends it, where there is one.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::NoPermission => Some("sudo usermod -aG kvm \"$USER\"  # and log in again".into()),
            Self::NoDevice => Some("sudo modprobe -a kvm kvm_intel kvm_amd".into()),
            Self::Broken(_) | Self::NoCpuSupport => None,
        }
    }
}

/// Looks. Takes well under a millisecond and starts nothing.
#[must_use]
pub fn probe() -> Kvm {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    decide(&cpuinfo, device.and_then(|device| api_version(&device)))
}

/// The judgement alone.
fn decide(cpuinfo: &str, api_version: io::Result<i32>) -> Kvm {
    let unusable = match api_version {
        _ if !has_virtualization(cpuinfo) => Unusable::NoCpuSupport,
        Ok(API_VERSION) => return Kvm::Usable,
        Ok(other) => Unusable::Broken(format!("it speaks version {other} of its interface")),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Unusable::NoDevice,
            io::ErrorKind::PermissionDenied => Unusable::NoPermission,
            _ => Unusable::Broken(error.to_string()),
        },
    };
    Kvm::Unusable(unusable)
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.trim() == "flags")
        .any(|(_, flags)| flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

fn api_version(device: &File) -> io::Result<i32> {
    // SAFETY: the descriptor is open for the length of the call, which passes no memory.
    let version = unsafe { libc::ioctl(device.as_raw_fd(), GET_API_VERSION, 0) };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEL: &str = "processor\t: 0\nflags\t\t: fpu vme vmx ssse3\nvmx flags\t: ept\n";
    const AMD: &str = "flags\t\t: fpu svm\n";
    const NEITHER: &str = "flags\t\t: fpu hypervisor vmxoff svm_lock\nvmx flags\t: vmx\n";

    #[test]
    fn only_a_working_device_on_a_capable_cpu_will_do() {
        let denied = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let absent = || Err(io::Error::from(io::ErrorKind::NotFound));
        let unusable = Kvm::Unusable;
        for (cpuinfo, version, expected) in [
            (INTEL, Ok(12), Kvm::Usable),
            (AMD, Ok(12), Kvm::Usable),
            (NEITHER, Ok(12), unusable(Unusable::NoCpuSupport)),
            (NEITHER, absent(), unusable(Unusable::NoCpuSupport)),
            ("", Ok(12), unusable(Unusable::NoCpuSupport)),
            (INTEL, absent(), unusable(Unusable::NoDevice)),
            (AMD, denied(), unusable(Unusable::NoPermission)),
        ] {
            assert_eq!(decide(cpuinfo, version), expected, "{cpuinfo}");
        }
        assert!(matches!(decide(INTEL, Ok(11)), Kvm::Unusable(Unusable::Broken(_))));
    }

    #[test]
    fn probing_is_quick_and_every_reason_has_words() {
        let begun = std::time::Instant::now();
        if let Kvm::Unusable(why) = probe() {
            assert!(!why.reason().is_empty());
        }
        assert!(begun.elapsed().as_millis() < 50, "{:?}", begun.elapsed());
    }
}
