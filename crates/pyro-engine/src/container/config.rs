//! The container as an OCI runtime is told of it: `config.json` of the OCI runtime specification.
//!
//! Written as the JSON that it is: it is one document of fixed shape, and a typed model of the
//! specification would add a dozen crates to say the same.

use serde_json::{Value, json};

use super::{filter, seccomp, stage};

/// Where PID 1's program is in the container: in memory, read-only, and of no user in there, so
/// that nobody can write to it (CVE-2019-5736).
const AGENT: &str = "/run/pyro/agent";

/// What commands get; see `pyro-guest/src/exec/privileges.rs`, which takes the rest away.
const COMMANDS: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];

/// What PID 1 needs besides: to bring `lo` up, to take on its name, to divide its cgroup.
const AGENT_ALONE: &[&str] = &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"];

/// Of `/proc` and `/sys`, what tells of the host or reaches into it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `tty`, which Debian and most others number so.
const TTY_GROUP: u32 = 5;

const NAMESPACES: [&str; 7] = ["user", "pid", "mount", "network", "ipc", "uts", "cgroup"];

/// What differs from one container to the next.
#[derive(Debug)]
pub(super) struct Container {
    /// Its filter of system calls, if that was compiled before.
    pub(super) filter: Option<Vec<u8>>,
    /// Its user ids as the runtime sees them: the first, and how many.
    pub(super) ids: (u32, u32),
    /// Its cgroup in v2.
    pub(super) cgroup: Option<String>,
    /// Bounds what it may put into memory as files.
    pub(super) mem_mib: u32,
    /// The most processes that one of its users may have.
    pub(super) processes: u64,
    /// Whether PID 1 gets a second descriptor, the counter of deaths for lack of memory.
    pub(super) oom_events: bool,
}

pub(super) fn document(container: &Container) -> Value {
    let capabilities: Vec<&str> = COMMANDS.iter().chain(AGENT_ALONE).copied().collect();
    let processes = container.processes.to_string();
    let mut argv = vec![AGENT.to_owned(), "container".to_owned(), processes];
    if container.oom_events {
        argv.push("oom".to_owned());
    }
    let (first, count) = container.ids;
    let map = json!([{"containerID": 0, "hostID": first, "size": count}]);
    let mut linux = json!({
        "namespaces": NAMESPACES.map(|kind| json!({"type": kind})),
        "uidMappings": map,
        "gidMappings": map,
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "rootfsPropagation": "private",
        "seccomp": seccomp::profile(),
    });
    if let Some(cgroup) = &container.cgroup {
        linux["cgroupsPath"] = json!(cgroup);
    }
    let mut annotations = json!({});
    if let Some(filter) = &container.filter {
        annotations["run.oci.seccomp_bpf_data"] = json!(filter::encoded(filter));
    }
    json!({
        "ociVersion": "1.0.2",
        "annotations": annotations,
        "hostname": "pyro",
        "root": {"path": "rootfs", "readonly": false},
        "process": {
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "args": argv,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            // Setuid programs work, as package managers and `sudo` expect: whatever they become is
            // of the container's own range of ids, and has no capability beyond those above.
            "noNewPrivileges": false,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "mounts": mounts(container.mem_mib, count),
        "linux": linux,
    })
}

/// No mount is of the host, but for the agent's program.
fn mounts(mem_mib: u32, ids: u32) -> Value {
    let mount = |kind: &str, path: &str, options: &[&str]| json!({"type": kind, "source": kind, "destination": path, "options": options});
    // Together less than the whole, so that files in memory leave room for processes.
    let (half, tenth) = (format!("size={}m", mem_mib / 2), format!("size={}m", mem_mib / 10));
    // The group of terminals, where there is more than one.
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    terminals.extend((ids > TTY_GROUP).then_some("gid=5"));
    json!([
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("tmpfs", "/dev", &["nosuid", "noexec", "mode=755", "size=1m"]),
        mount("devpts", "/dev/pts", &terminals),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "nodev", "mode=1777", &half]),
        mount("tmpfs", "/run", &["nosuid", "nodev", "mode=755", &tenth]),
        {
            "type": "bind",
            "source": stage::AGENT,
            "destination": AGENT,
            "options": ["bind", "ro", "nosuid", "nodev"],
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Value {
        document(&Container {
            filter: None,
            ids: (0x1000_0000, 65_536),
            cgroup: Some("/pyro.1.0/machine".into()),
            mem_mib: 256,
            processes: 100,
            oom_events: true,
        })
    }

    #[test]
    fn a_container_has_every_namespace_of_its_own_and_nothing_of_the_host() {
        let document = sample();
        let namespaces = document["linux"]["namespaces"].as_array().unwrap();
        assert_eq!(namespaces.len(), NAMESPACES.len());
        assert!(namespaces.iter().all(|namespace| namespace["path"].is_null()), "none is shared");
        for mount in document["mounts"].as_array().unwrap() {
            let bound = mount["type"] == "bind";
            assert_eq!(bound, mount["destination"] == AGENT, "{mount}");
        }
        assert_eq!(document["linux"]["uidMappings"][0]["hostID"], 0x1000_0000);
    }

    #[test]
    fn commands_may_do_less_than_their_agent() {
        for capability in AGENT_ALONE {
            assert!(!COMMANDS.contains(capability));
        }
        let allowed = sample()["process"]["capabilities"]["bounding"].to_string();
        for refused in
            ["SYS_PTRACE", "SYS_MODULE", "SYS_BOOT", "MKNOD", "NET_RAW", "SYS_TIME", "BPF"]
        {
            assert!(!allowed.contains(&format!("CAP_{refused}\"")), "{refused}");
        }
    }
}
