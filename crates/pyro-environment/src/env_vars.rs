//! The environment variables of the bootstrap; pyro's own are declared in `pyro_contract::env_vars`.

pub(crate) use pyro_contract::env_vars::PYRO_DEBIAN_MIRROR;

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
