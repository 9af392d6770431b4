//! Root inside tries to get out, or to see out.
//!
//! The scripts report whatever they find; what they must not find is a marker that lies on the host,
//! and what they must not change is compared on the host afterwards.

use std::fs;
use std::process::Command;

use crate::Bench;
use crate::harness::skip;

const SECRET: &str = "the-hosts-own-6b1f";

/// Runs a script that may fail as it likes; everything that it said.
fn attempt(bench: &Bench, id: &str, script: &str) -> String {
    let exec = ["workspace", "exec", id, "--timeout-seconds", "30", "--", "bash", "-c", script];
    let output = bench.output(exec);
    let mut said = output.stdout;
    said.extend(output.stderr);
    String::from_utf8_lossy(&said).into_owned()
}

#[track_caller]
fn alive(bench: &Bench, id: &str) {
    assert_eq!(bench.sh(id, "echo alive"), "alive\n");
}

pub(crate) fn nothing_of_the_host_is_seen(bench: &Bench) {
    let marker = bench.path("marker");
    fs::write(&marker, SECRET).unwrap();
    let mut process = Command::new("sleep").arg("98765").spawn().unwrap();
    let id = bench.create([] as [&str; 0]);
    let seen = attempt(
        bench,
        &id,
        &format!(
            "cat {m}; find / -xdev -name marker 2>/dev/null; \
             cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '; \
             cat /proc/[0-9]*/root{m} /proc/[0-9]*/cwd/marker /proc/1/root{m}; \
             cat /proc/self/mountinfo /proc/1/mountinfo; ls -R /run /mnt /media /srv",
            m = shell_words(&marker.to_string_lossy())
        ),
    );
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!seen.contains(SECRET), "{seen}");
    assert!(!seen.contains("98765"), "a process of the host: {seen}");
    assert!(!seen.contains("PYRO_HOME") && !seen.contains("CARGO"), "the host's variables: {seen}");
    let home = bench.home().to_string_lossy().replace(' ', "\\040");
    assert!(!seen.contains(&home), "a path of the host: {seen}");
    alive(bench, &id);
}

pub(crate) fn nothing_of_the_host_is_reached_by_devices_or_mounts(bench: &Bench) {
    let marker = bench.path("marker");
    fs::write(&marker, SECRET).unwrap();
    assert!(Command::new("sync").status().unwrap().success());
    let id = bench.create([] as [&str; 0]);
    // The numbers of the host's own disks, tried as devices of the guest.
    let numbers = fs::read_to_string("/proc/partitions").unwrap();
    let numbers: Vec<String> = numbers
        .lines()
        .skip(2)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{}:{}", words.next()?, words.next()?))
        })
        .take(20)
        .collect();
    let seen = attempt(
        bench,
        &id,
        &format!(
            "for n in {}; do mknod /tmp/d b ${{n%:*}} ${{n#*:}} && \
             {{ head -c 64000000 /tmp/d | grep -ao '{SECRET}'; mount /tmp/d /mnt && \
             grep -rao '{SECRET}' /mnt; umount /mnt; }}; rm -f /tmp/d; done; \
             mknod /tmp/mem c 1 1 && head -c 1000000 /tmp/mem | grep -ao '{SECRET}'; \
             mknod /tmp/kmsg c 1 11 && echo {SECRET}-kmsg > /tmp/kmsg; \
             for t in proc sysfs cgroup cgroup2 debugfs tracefs securityfs devtmpfs bpf; do \
             mkdir -p /mnt/$t; mount -t $t $t /mnt/$t; done; \
             find /mnt -maxdepth 3 -name release_agent -exec sh -c 'echo /tmp/x > \"$1\"' _ {{}} \\;; \
             find /mnt/devtmpfs -type b",
            numbers.join(" ")
        ),
    );
    assert!(!seen.contains(&format!("{SECRET}\n")), "{seen}");
    let log = Command::new("dmesg").output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&log).contains(&format!("{SECRET}-kmsg")), "the host's log");
    let agents = Command::new("sh")
        .args(["-c", "cat /sys/fs/cgroup/*/release_agent 2>/dev/null"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&agents.stdout).contains("/tmp/x"), "{agents:?}");
    alive(bench, &id);
}

pub(crate) fn the_kernels_settings_of_the_host_stay(bench: &Bench) {
    let settings = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/status",
        "/sys/kernel/uevent_helper",
        "/sys/module/overlay/parameters/redirect_dir",
    ];
    let read = || settings.map(|path| fs::read_to_string(path).unwrap_or_default());
    let before = read();
    let date = || Command::new("date").arg("+%Y").output().unwrap().stdout;
    let year = date();
    let id = bench.create([] as [&str; 0]);
    attempt(
        bench,
        &id,
        "echo '|/tmp/x' > /proc/sys/kernel/core_pattern; hostname taken-over; \
         echo /tmp/x > /proc/sys/kernel/modprobe; echo 1 > /proc/sys/vm/overcommit_memory; \
         echo /tmp/x > /sys/kernel/uevent_helper; echo Y > /sys/module/overlay/parameters/redirect_dir; \
         mount -o remount,rw /proc/sys; echo '|/tmp/x' > /proc/sys/kernel/core_pattern; \
         mount -o remount,rw /sys; echo /tmp/x > /sys/kernel/uevent_helper; \
         date -s 2001-01-01; echo h > /proc/sysrq-trigger; insmod /nothing; swapoff -a; true",
    );
    assert_eq!(read(), before);
    assert_eq!(date(), year);
    alive(bench, &id);
}

/// CVE-2019-5736 and its kin: PID 1's program, memory and descriptors as seen from inside.
pub(crate) fn the_agent_cannot_be_taken_over(bench: &Bench) {
    let program = || fs::read(crate::harness::PYRO).unwrap().len();
    let before = program();
    let id = bench.create([] as [&str; 0]);
    let second = bench.create([] as [&str; 0]);
    attempt(
        bench,
        &id,
        "cp /proc/1/exe /tmp/agent; printf XXXX > /proc/1/exe; \
         for f in /proc/1/fd/*; do printf garbage > $f & done; sleep 1; \
         printf '#!/proc/self/exe\\n' > /tmp/bad; chmod 755 /tmp/bad; /tmp/bad; \
         python3 -c 'import os,ctypes\nl=ctypes.CDLL(None,use_errno=True)\nprint(l.ptrace(16,1,0,0),ctypes.get_errno())'; \
         kill -STOP 1; kill -KILL 1; sleep 1",
    );
    // Whatever became of that machine, the host, the program and the neighbour are well.
    assert_eq!(program(), before);
    alive(bench, &second);
    let third = bench.create([] as [&str; 0]);
    alive(bench, &third);
    let state = bench.status(&id)["state"].as_str().unwrap().to_owned();
    // A guest that silences its agent harms itself; it can be stopped, and comes back.
    let exec = ["workspace", "exec", &id, "--timeout-seconds", "5", "--", "true"];
    if state == "started" && !bench.output(exec).status.success() {
        bench.ok(["workspace", "stop", &id]);
    }
    bench.ok(["workspace", "start", &id]);
    alive(bench, &id);
}

/// CVE-2024-21626: a directory of the host that the runtime left open.
pub(crate) fn no_descriptor_leads_out(bench: &Bench) {
    let marker = bench.path("marker");
    fs::write(&marker, SECRET).unwrap();
    let id = bench.create([] as [&str; 0]);
    let script = format!(
        "for p in self 1; do for f in /proc/$p/fd/*; do readlink $f; \
         cat \"$f/../../../../../../..\"{m} \"$f\"{m}; ls $f/; done; done; \
         cd /proc/self/fd/7 && pwd && ls",
        m = shell_words(&marker.to_string_lossy())
    );
    let seen = attempt(bench, &id, &script);
    assert!(!seen.contains(SECRET), "{seen}");
    for number in 3..12 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = bench.output(["workspace", "exec", &id, "--cwd", &cwd, "--", "ls", "../.."]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() || !said.contains("workspaces"), "{cwd}: {said}");
    }
    alive(bench, &id);
}

pub(crate) fn user_namespaces_give_no_way_out(bench: &Bench) {
    let marker = bench.path("marker");
    fs::write(&marker, SECRET).unwrap();
    let id = bench.create([] as [&str; 0]);
    let seen = attempt(
        bench,
        &id,
        &format!(
            "unshare -Urmpf --mount-proc sh -c 'id -u; cat {m}; mount -t tmpfs t /mnt; \
             ls /proc/1/root{m}; cat /proc/1/root{m}'; \
             unshare -Ur sh -c 'echo 0 0 4294967295 > /proc/self/uid_map; cat {m}'; \
             nsenter -t 1 -a cat {m}; chroot /proc/1/root cat {m}; \
             setpriv --inh-caps=+all --ambient-caps=+all cat {m}; \
             setarch -R cat {m}",
            m = shell_words(&marker.to_string_lossy())
        ),
    );
    assert!(!seen.contains(SECRET), "{seen}");
    alive(bench, &id);
}

pub(crate) fn workspaces_do_not_see_each_other(bench: &Bench) {
    let one = bench.create(["--name", "one"]);
    let two = bench.create(["--name", "two"]);
    bench.sh(&one, &format!("echo {SECRET} > mine; echo {SECRET} > /dev/shm/mine; (exec -a {SECRET} sleep 60) >/dev/null 2>&1 &"));
    let seen = attempt(
        bench,
        &two,
        "ls -R /workspace /dev/shm; cat /dev/shm/mine; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; \
         ipcs; cat /proc/net/unix; kill -9 -1",
    );
    assert!(!seen.contains(SECRET), "{seen}");
    assert_eq!(bench.sh(&one, "cat mine"), format!("{SECRET}\n"));
    alive(bench, &two);
}

pub(crate) fn there_is_no_network(bench: &Bench) {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let id = bench.create([] as [&str; 0]);
    assert_eq!(
        bench.sh(
            &id,
            "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
        ),
        "lo\n"
    );
    attempt(
        bench,
        &id,
        &format!(
            "for a in 127.0.0.1 10.0.2.2 169.254.169.254 172.17.0.1; do \
             timeout 2 bash -c \"echo x > /dev/tcp/$a/{port}\"; done"
        ),
    );
    assert!(listener.accept().is_err(), "something from inside reached the host");
    alive(bench, &id);
}

/// System calls that reach parts of the kernel that no namespace divides, or that have had holes:
/// their numbers on x86-64 with arguments that an unfiltered kernel takes from root.
const REFUSED_CALLS: &str = r"
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, number, *args):
    if libc.syscall(number, *args) != -1: print('allowed:', name)
    elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        print('not refused:', name, os.strerror(ctypes.get_errno()))
refused('keyctl', 250, 0, -3, 1)
refused('add_key', 248, b'user', b'x', b'y', 1, -3)
refused('bpf', 321, 0, 0, 0)
refused('userfaultfd', 323, 0)
refused('io_uring_setup', 425, 1, ctypes.create_string_buffer(120))
refused('perf_event_open', 298, ctypes.create_string_buffer(128), 0, -1, -1, 0)
refused('init_module', 175, b'', 0, b'')
refused('kexec_load', 246, 0, 0, 0, 0)
refused('open_by_handle_at', 304, -1, 0, 0)
refused('unshare user', 272, 0x10000000)
refused('unshare mount', 272, 0x20000)
refused('clone3', 435, 0, 0)
refused('setns', 308, -1, 0)
refused('mount', 165, b'none', b'/mnt', b'tmpfs', 0, 0)
refused('fsopen', 430, b'tmpfs', 0)
refused('pivot_root', 155, b'/', b'/')
refused('reboot', 169, 0xfee1dead, 672274793, 0x1234567, 0)
refused('ptrace of the agent', 101, 16, 1, 0, 0)
refused('settimeofday', 164, ctypes.create_string_buffer(16), 0)
for family in (socket.AF_VSOCK, socket.AF_ALG, socket.AF_PACKET):
    try: print('allowed:', socket.socket(family, socket.SOCK_DGRAM))
    except OSError: pass
for path in ('/proc/1/mem', '/proc/1/environ', '/proc/1/maps', '/proc/1/fd/3', '/proc/1/root/etc/passwd'):
    try: open(path, 'rb').read(1); print('read:', path)
    except OSError: pass
for path in ('/proc/1/fd/0', '/proc/1/fd/3', '/proc/1/exe', '/proc/1/cwd'):
    try: print('seen:', path, os.readlink(path))
    except OSError: pass
for path in ('/proc/1/exe', '/run/pyro/agent', '/sys/fs/cgroup/cgroup.procs', '/proc/sys/kernel/hostname'):
    try: open(path, 'r+b').write(b'0'); print('written:', path)
    except OSError: pass
try: os.mkdir('/sys/fs/cgroup/mine'); print('a cgroup was made')
except OSError: pass
print('CapBnd', [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapBnd')][0])
print('first id', open('/proc/self/uid_map').read().split()[1])
";

/// Where the host's kernel is shared, the wall is what root may not ask of it.
pub(crate) fn root_in_a_container_has_little_of_a_kernel(bench: &Bench) {
    if bench.is_virtual_machine() {
        skip("root in a virtual machine owns its kernel, and may do to it what it likes");
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let id = bench.create([] as [&str; 0]);
    assert_eq!(mounts(), before, "a container's mounts are in no namespace of the host");
    // The first one leaves its filter for others: it must be as tight when it is used again.
    let again = bench.create([] as [&str; 0]);
    let calls =
        |id: &str| bench.ok(["workspace", "exec", id, "--", "python3", "-c", REFUSED_CALLS]);
    let seen = calls(&id);
    let of_all = |seen: &str| seen.split("first id").next().unwrap().to_owned();
    assert_eq!(of_all(&calls(&again)), of_all(&seen));
    let lines: Vec<&str> = seen.lines().collect();
    let [capabilities, first_id] = lines[..] else { panic!("something was allowed: {seen}") };
    assert_eq!(capabilities, "CapBnd 00000000800405fb");
    let first_id: u32 = first_id.strip_prefix("first id ").unwrap().parse().unwrap();
    match bench.boundless {
        // An ordinary user's range as the namespace around the container has it, where 0 is he.
        true => assert_eq!(first_id, 1),
        false => assert!(first_id >= 0x1000_0000, "{first_id:#x} may be somebody's on the host"),
    }
    // Setuid programs work, and lead to nothing but what is the container's.
    let script = "cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; su -s /bin/sh nobody -c '/tmp/id -u'";
    assert_eq!(bench.sh(&id, script), "0\n");
    alive(bench, &id);
}

/// A path as one word of the shell.
fn shell_words(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}
