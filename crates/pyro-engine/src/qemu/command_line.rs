//! The machine, described to QEMU.
//!
//! Every host file is passed as an open descriptor, so QEMU needs no right to any path. What a
//! machine has: one console, the agent's port, three disks (one of them still empty), a random number source. No network
//! device, no graphics, no USB, none of the devices that bugs live in.

use std::os::fd::RawFd;

use crate::qemu::Acceleration;

/// What the machine is made of.
pub(crate) struct Layout {
    pub(crate) acceleration: Acceleration,
    pub(crate) vcpu_count: u8,
    pub(crate) mem_mib: u32,
    /// What its memory is made of, unless it is QEMU's own.
    pub(crate) memory: Option<Memory>,
    pub(crate) start: Start,
    pub(crate) fds: Fds,
}

/// Where the machine begins.
pub(crate) enum Start {
    /// At power-on.
    Boot {
        kernel: RawFd,
        initramfs: RawFd,
        /// The host's TSC rate; used when emulating.
        tsc_khz: u64,
    },
    /// Where another stopped, whose state comes through the monitor. It is held still until told.
    Incoming(Past),
}

/// Whom a stopped machine was connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// Nobody yet.
    Unconnected,
    /// Somebody who is not there any more. The machine has to notice before it gets another: its port
    /// is empty at first.
    Connected,
}

/// Memory in a file.
pub(crate) struct Memory {
    pub(crate) file: RawFd,
    /// Whether what the machine writes goes into the file, or stays its own.
    pub(crate) shared: bool,
}

/// Descriptors as QEMU will find them.
pub(crate) struct Fds {
    pub(crate) agent: RawFd,
    pub(crate) monitor: RawFd,
    pub(crate) console: RawFd,
    pub(crate) environment: RawFd,
    pub(crate) storage: RawFd,
}

const BOARD: &str = "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=on,pcie=on";

/// `panic=-1` resets at once, which with `-no-reboot` ends the machine.
const CMDLINE: &str = "console=ttyS0 panic=-1 quiet nokaslr audit=0 lsm= cryptomgr.notests \
    init_on_alloc=0 rcupdate.rcu_expedited=1 random.trust_cpu=on 8250.nr_uarts=1";

/// Only where the CPU is emulated. `norandmaps`: QEMU 7.2 translates a program anew wherever it
/// lands, so address randomization makes each exec several times slower. `mitigations=off`: an
/// emulated CPU does not speculate.
const EMULATED_CMDLINE: &str = "tsc=reliable no_timer_check mitigations=off norandmaps";

/// The character device of the agent's port.
pub(crate) const AGENT: &str = "agent";

const ENVIRONMENT: &str = "env";
const WRITABLE: &str = "rw";
/// The disk of the baseline, by the name of its device. It starts empty.
pub(crate) const BASELINE: &str = "base";

/// QEMU filters its own system calls; see qemu(1), `-sandbox`.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// QEMU's arguments.
pub(crate) fn arguments(layout: &Layout) -> Vec<String> {
    let fds = &layout.fds;
    let mut line = Line(Vec::new());
    line.flag("-nodefaults").flag("-no-user-config").flag("-no-reboot");
    line.option("-name", "pyro").option("-display", "none").option("-sandbox", SANDBOX);
    let backend = if layout.memory.is_some() { ",memory-backend=memory" } else { "" };
    line.option("-M", format!("{BOARD}{backend}"));
    if let Some(memory) = &layout.memory {
        let (file, share) = (by_fd(memory.file), if memory.shared { "on" } else { "off" });
        line.option(
            "-object",
            format!(
                "memory-backend-file,id=memory,size={}M,mem-path={file},share={share}",
                layout.mem_mib
            ),
        );
    }
    match layout.acceleration {
        Acceleration::Hardware => line.option("-accel", "kvm").option("-cpu", "host"),
        Acceleration::Emulated => line.option("-accel", "tcg,tb-size=64").option("-cpu", "max"),
    };
    line.option("-m", layout.mem_mib).option("-smp", layout.vcpu_count);
    match layout.start {
        Start::Boot { kernel, initramfs, tsc_khz } => {
            line.option("-kernel", by_fd(kernel)).option("-initrd", by_fd(initramfs));
            line.option("-append", kernel_arguments(layout.acceleration, tsc_khz));
        }
        Start::Incoming(past) => {
            line.option("-incoming", "defer").flag("-S");
            if past == Past::Connected {
                // What Xen has saved does not begin with the machine's description.
                line.option("-global", "migration.send-configuration=off");
            }
        }
    }

    line.option("-chardev", format!("socket,id=console,fd={}", fds.console));
    line.option("-serial", "chardev:console");
    line.option("-chardev", format!("socket,id=monitor,fd={}", fds.monitor));
    line.option("-mon", "chardev=monitor,mode=control");
    match layout.start {
        Start::Incoming(Past::Connected) => line.option("-chardev", format!("null,id={AGENT}")),
        _ => line.option("-chardev", format!("socket,id={AGENT},fd={}", fds.agent)),
    };
    line.option("-device", "virtio-serial-pci,id=serial,max_ports=2,addr=3");
    line.option("-device", format!("virtserialport,bus=serial.0,chardev={AGENT},name=agent"));

    // The agent knows them by their order, which is that of their slots.
    line.disk(ENVIRONMENT, 4, fds.environment, Access::ReadOnly);
    line.disk(WRITABLE, 5, fds.storage, Access::ReadWrite);
    line.option("-blockdev", "driver=null-co,node-name=empty,read-only=on,size=4096");
    line.option("-device", format!("virtio-blk-pci,drive=empty,id={BASELINE},addr=6"));
    line.option("-object", "rng-builtin,id=rng");
    line.option("-device", "virtio-rng-pci,rng=rng,addr=7");
    line.0
}

fn kernel_arguments(acceleration: Acceleration, tsc_khz: u64) -> String {
    match acceleration {
        Acceleration::Hardware => CMDLINE.to_owned(),
        Acceleration::Emulated => {
            format!("{CMDLINE} {EMULATED_CMDLINE} tsc_early_khz={tsc_khz}")
        }
    }
}

/// A path that opens the inherited descriptor anew. Kernel and initramfs know no other way.
fn by_fd(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

#[derive(PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.push(name.to_owned());
        self.0.push(value.to_string());
        self
    }

    /// A virtio disk over a descriptor. QEMU's own file locks are off: the supervisor's lock on the
    /// workspace decides, and the host reads the disk while it is frozen.
    fn disk(&mut self, name: &str, slot: u8, fd: RawFd, access: Access) {
        // The number of a set is free to choose, and unique like the descriptor itself.
        self.option("-add-fd", format!("fd={fd},set={fd}"));
        let mode = match access {
            Access::ReadOnly => "read-only=on",
            // The guest's discards make holes in the sparse file.
            Access::ReadWrite => "read-only=off,discard=unmap",
        };
        self.option(
            "-blockdev",
            format!(
                "driver=raw,node-name={name},{mode},file.driver=file,file.locking=off,\
                 file.filename=/dev/fdset/{fd}"
            ),
        );
        self.option("-device", format!("virtio-blk-pci,drive={name},addr={slot}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(acceleration: Acceleration) -> Layout {
        Layout {
            acceleration,
            vcpu_count: 2,
            mem_mib: 512,
            memory: None,
            start: Start::Boot { kernel: 13, initramfs: 14, tsc_khz: 2_600_000 },
            fds: Fds { agent: 10, monitor: 11, console: 12, environment: 15, storage: 17 },
        }
    }

    #[test]
    fn an_emulated_machine_is_told_the_clock_rate_and_spared_randomization() {
        let line = arguments(&layout(Acceleration::Emulated)).join(" ");
        assert!(line.contains("-accel tcg,tb-size=64 -cpu max -m 512 -smp 2"), "{line}");
        assert!(line.contains("norandmaps tsc_early_khz=2600000"), "{line}");
    }

    #[test]
    fn a_hardware_machine_keeps_its_defences() {
        let line = arguments(&layout(Acceleration::Hardware)).join(" ");
        assert!(line.contains("-accel kvm -cpu host"), "{line}");
        for tuning in ["norandmaps", "mitigations=off", "tsc_early_khz"] {
            assert!(!line.contains(tuning), "{line}");
        }
    }

    #[test]
    fn a_restored_machine_waits_on_private_memory_and_boots_nothing() {
        let layout = Layout {
            memory: Some(Memory { file: 20, shared: false }),
            start: Start::Incoming(Past::Unconnected),
            ..layout(Acceleration::Emulated)
        };
        let line = arguments(&layout).join(" ");
        assert!(line.contains("pcie=on,memory-backend=memory"), "{line}");
        assert!(line.contains("size=512M,mem-path=/proc/self/fd/20,share=off"), "{line}");
        assert!(line.contains("-incoming defer -S") && !line.contains("-kernel"), "{line}");
    }

    #[test]
    fn a_recovered_machine_finds_its_port_empty() {
        let start = Start::Incoming(Past::Connected);
        let line = arguments(&Layout { start, ..layout(Acceleration::Emulated) }).join(" ");
        assert!(line.contains("-chardev null,id=agent -device"), "{line}");
        assert!(!line.contains("fd=10"), "{line}");
    }

    #[test]
    fn only_the_own_disk_is_writable_and_no_argument_names_a_host_path() {
        let arguments = arguments(&layout(Acceleration::Emulated));
        let writable: Vec<_> = arguments.iter().filter(|a| a.contains("read-only=off")).collect();
        assert_eq!(writable.len(), 1);
        assert!(writable[0].contains("node-name=rw") && writable[0].contains("/dev/fdset/17"));
        for argument in &arguments {
            let own = ["/proc/self/fd/", "/dev/fdset/"];
            assert!(
                !argument.contains('/') || own.iter().any(|o| argument.contains(o)),
                "{argument}"
            );
        }
        assert!(!arguments.iter().any(|a| a.contains("netdev") || a.contains("virtio-net")));
    }
}
