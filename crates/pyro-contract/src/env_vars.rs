//! Every environment variable that pyro reads, declared once.
//!
//! A flag outranks its variable, a variable the configuration file, and that the built-in default.

/// An environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it decides.
    pub about: &'static str,
}

macro_rules! variables {
    ($($name:ident: $about:literal;)*) => {
        $(#[doc = $about] pub const $name: &str = stringify!($name);)*

        /// Every variable, in the order of the reference.
        pub const ALL: &[Variable] =
            &[$(Variable { name: stringify!($name), about: $about }),*];
    };
}

variables! {
    PYRO_HOME: "Where environments and workspaces lie; `$XDG_DATA_HOME/pyro` or `~/.local/share/pyro` by default.";
    PYRO_CONFIG: "The configuration file; `$XDG_CONFIG_HOME/pyro/config.toml` or `~/.config/pyro/config.toml` by default. A file named here must exist.";
    PYRO_ENGINE: "What isolates, where nobody says it: outranks `engine` of the configuration file.";
    PYRO_VCPU_COUNT: "Virtual CPUs: outranks `shape.vcpu_count`.";
    PYRO_MEM_MIB: "Memory in MiB: outranks `shape.mem_mib`.";
    PYRO_DISK_MIB: "The most that a machine may write, in MiB: outranks `shape.disk_mib`.";
    PYRO_TEMPLATES: "`on` or `off`, whether machines may start from templates: outranks `templates.enabled`.";
    PYRO_WARM_MIB: "Memory for machines that wait warm, in MiB: outranks `templates.warm_mib`.";
    PYRO_QEMU: "The QEMU to run, a name or path: outranks `programs.qemu`.";
    PYRO_FIRECRACKER: "The firecracker to run: outranks `programs.firecracker`.";
    PYRO_JAILER: "Firecracker's jailer: outranks `programs.jailer`.";
    PYRO_OCI_RUNTIME: "The OCI runtime of the container engine: outranks `programs.oci_runtime`.";
    PYRO_FIRECRACKER_MIRROR: "Where `pyro setup firecracker` fetches releases from instead of GitHub: a URL, under which they lie as there (`v1.15.1/firecracker-v1.15.1-x86_64.tgz`). The digest is verified all the same.";
    PYRO_DEBIAN_MIRROR: "Where Debian packages come from instead of `mmdebstrap`'s own default: a URL, or a whole `deb …` line as in `sources.list`. Signatures are verified all the same, and the machine's own `sources.list` names this mirror too.";
    PYRO_DETACH_KEYS: "The keys that leave a shell which one is attached to, separated by commas; `ctrl-p,ctrl-q` by default.";
    PYRO_MCP_TOKEN: "The token of `pyro mcp serve --http`, instead of the one in a file.";
    PYRO_LOG: "Filter of pyro's own log on stderr, as in `info` or `pyro_workspace=debug`.";
    PYRO_GUEST_AGENT_BINARY: "Read when pyro is built: the path of a ready guest agent, a static executable, for packagers who build it apart.";
    XDG_CONFIG_HOME: "Where configuration files lie; `~/.config` by default.";
    XDG_DATA_HOME: "Where data lies; `~/.local/share` by default.";
    NO_COLOR: "If not empty: no colour, no spinner, like `--plain`.";
}
