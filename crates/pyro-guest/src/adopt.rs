//! Making a machine unique: randomness, name, identity, project; and then its clock.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use pyro_wire::v1::{AdoptReply, AdoptRequest};
use rustix::time::{ClockId, Timespec, clock_settime};
use tonic::Status;

use crate::project::Project;
use crate::{log, sys, tree};

/// tmpfs: what is bound over files of `/etc` is no change of the machine's disk.
const RUN: &str = "/run/pyro";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// linux/utsname.h: `__NEW_UTS_LEN`.
const HOSTNAME_MAX: usize = 64;

/// Whose kernel the agent runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The machine's own: its random generator and its clock are the agent's to set.
    Own,
    /// The host's, in a container. Its generator was never copied, and its clock is everybody's.
    Hosts,
}

/// Takes on the identity that the host chose. Blocking.
pub(crate) fn adopt(
    request: &AdoptRequest,
    kernel: Kernel,
    project: Option<&Project>,
) -> Result<AdoptReply, Status> {
    check(request)?;
    // First, for everything after it may draw random numbers.
    let entropy = match kernel {
        Kernel::Own => fs::File::open("/dev/random")
            .and_then(|random| sys::add_entropy(random.as_fd(), &request.entropy))
            .map_err(failed("add entropy"))?,
        Kernel::Hosts => 0,
    };
    rustix::system::sethostname(request.hostname.as_bytes())
        .map_err(|e| failed("set the host name")(e.into()))?;
    write_identity(request).map_err(failed("write the identity"))?;
    // What runs in a machine that goes on has files of its project open.
    if let Some(project) = project.filter(|_| !request.goes_on) {
        project.open().map_err(|error| Status::internal(log::chain(&error)))?;
    }
    // Not in a test on somebody's computer.
    if sys::is_init() {
        for top in ["/workspace", "/"] {
            tree::recover(Path::new(top));
        }
    }
    Ok(AdoptReply {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: read_trimmed("/proc/sys/kernel/osrelease")?,
        boot_id: read_trimmed(BOOT_ID)?,
        entropy_bytes: entropy as u32,
        host_kernel: kernel == Kernel::Hosts,
    })
}

/// Sets the clock, in nanoseconds since 1970.
pub(crate) fn set_clock(realtime_ns: u64) -> Result<(), Status> {
    let now = Timespec {
        tv_sec: (realtime_ns / 1_000_000_000) as i64,
        tv_nsec: (realtime_ns % 1_000_000_000) as i64,
    };
    clock_settime(ClockId::Realtime, now).map_err(|e| failed("set the clock")(e.into()))
}

fn check(request: &AdoptRequest) -> Result<(), Status> {
    let hostname = request.hostname.as_bytes();
    let name_char = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if hostname.is_empty() || hostname.len() > HOSTNAME_MAX || !hostname.iter().all(name_char) {
        return Err(Status::invalid_argument("this is no host name"));
    }
    let id = request.machine_id.as_bytes();
    if id.len() != 32 || !id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Status::invalid_argument("a machine id has 32 lower-case hex digits"));
    }
    let is_uuid = request.boot_id.len() == 36
        && request.boot_id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !is_uuid {
        return Err(Status::invalid_argument("a boot id is a UUID"));
    }
    if request.entropy.len() < 32 {
        return Err(Status::invalid_argument("at least 32 bytes of entropy are needed"));
    }
    Ok(())
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Status {
    move |error| Status::internal(format!("cannot {what}: {error}"))
}

fn read_trimmed(path: &str) -> Result<String, Status> {
    let text = fs::read_to_string(path).map_err(failed("read the kernel's version"))?;
    Ok(text.trim_end().to_owned())
}

fn write_identity(request: &AdoptRequest) -> io::Result<()> {
    fs::create_dir_all(RUN)?;
    let name = &request.hostname;
    present("hostname", "/etc/hostname", &format!("{name}\n"))?;
    present("machine-id", "/etc/machine-id", &format!("{}\n", request.machine_id))?;
    present("boot-id", BOOT_ID, &format!("{}\n", request.boot_id))?;
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n127.0.1.1\t{name}\n");
    present("hosts", "/etc/hosts", &hosts)
}

/// Shows `content` at `target` by a bind mount of a file in memory, as container runtimes do. A
/// target that is not in the environment is left out rather than made: that would be a change.
fn present(name: &str, target: &str, content: &str) -> io::Result<()> {
    let source = Path::new(RUN).join(name);
    let bound = source.exists();
    fs::write(&source, content)?;
    // Adopted again after a restore: the old mount shows the new content already.
    if bound || !Path::new(target).is_file() {
        return Ok(());
    }
    Ok(rustix::mount::mount_bind(&source, target)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> AdoptRequest {
        AdoptRequest {
            hostname: "demo".into(),
            entropy: vec![7; 32].into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            boot_id: "01234567-89ab-cdef-0123-456789abcdef".into(),
            ..AdoptRequest::default()
        }
    }

    #[test]
    fn an_identity_is_checked_before_anything_is_changed() {
        assert!(check(&request()).is_ok());
        assert!(check(&AdoptRequest { hostname: "a b".into(), ..request() }).is_err());
        assert!(check(&AdoptRequest { hostname: String::new(), ..request() }).is_err());
        assert!(check(&AdoptRequest { machine_id: "0".into(), ..request() }).is_err());
        for id in
            ["", "0123456789abcdef0123456789abcdef0123", "0123456-789ab-cdef-0123-456789abcdef"]
        {
            assert!(check(&AdoptRequest { boot_id: id.into(), ..request() }).is_err());
        }
        assert!(check(&AdoptRequest { entropy: vec![0; 8].into(), ..request() }).is_err());
    }
}
