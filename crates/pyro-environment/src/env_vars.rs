//! Every environment variable that this crate reads, declared once.

/// Where Debian packages come from instead of `mmdebstrap`'s own default: a URL, or a whole
/// `deb …` line as in `sources.list`. The signatures are verified all the same. The machine's own
/// `sources.list` names this mirror too.
pub const PYRO_DEBIAN_MIRROR: &str = "PYRO_DEBIAN_MIRROR";

/// Read when pyro is built: the path of a ready guest agent (a static executable), for packagers
/// who build it apart. Without it the build script builds `pyro-guest`.
pub const PYRO_GUEST_AGENT_BINARY: &str = "PYRO_GUEST_AGENT_BINARY";

/// What the bootstrap's child processes inherit; all else stays out, for packages' install scripts
/// are other people's programs and have no business with the user's tokens.
pub(crate) const INHERITED: [&str; 10] = [
    "HOME",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "USER",
];
