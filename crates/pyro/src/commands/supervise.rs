//! The process that owns a running workspace. Users never call this; `workspace create` does.

use std::os::fd::{FromRawFd as _, OwnedFd};

use pyro_contract::journal::ClientName;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::Home;
use pyro_workspace::supervisor::warm::{self, WarmOrders};
use pyro_workspace::supervisor::{Orders, supervise};
use serde::de::DeserializeOwned;

use crate::cli::{SuperviseArgs, WarmArgs};

pub(super) async fn run(args: SuperviseArgs) -> Result<u8> {
    let orders = Orders {
        home: Home::from_environment()?,
        id: args.id,
        lock: inherited(args.lock_fd)?,
        ephemeral: args.ephemeral,
        boot: passed_on("--boot", &args.boot)?,
        settings: passed_on("--settings", &args.settings)?,
        client: args.client.as_deref().and_then(ClientName::new),
    };
    supervise(orders).await?;
    Ok(0)
}

/// The same without a workspace yet.
pub(super) async fn warm(args: WarmArgs) -> Result<u8> {
    let orders = WarmOrders {
        home: Home::from_environment()?,
        directory: args.directory,
        keeper: inherited(args.keeper_fd)?,
        engine: passed_on("--engine", &args.engine)?,
        shape: passed_on("--shape", &args.shape)?,
        boot: passed_on("--boot", &args.boot)?,
        settings: passed_on("--settings", &args.settings)?,
    };
    warm::wait(orders).await?;
    Ok(0)
}

/// A value that pyro passes to itself as JSON.
pub(super) fn passed_on<T: DeserializeOwned>(flag: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorCode::InvalidArgument, format!("{flag} is not what pyro passes on"))
            .with_cause(error.to_string())
    })
}

/// Closes every descriptor that the parent's parent happened to have open: a supervisor lives on,
/// and must not hold other people's locks and pipes. To be called before anything is opened.
#[allow(unsafe_code)]
pub(crate) fn close_strangers(lock_fd: i32) -> Result<()> {
    let above = u32::try_from(lock_fd).unwrap_or(2) + 1;
    // SAFETY: no memory is passed; nothing in this process has opened a descriptor yet, so nothing
    // that it closes has an owner here. See close_range(2).
    let closed = unsafe { libc::syscall(libc::SYS_close_range, above, u32::MAX, 0) };
    match std::io::Error::last_os_error() {
        // A kernel before 5.9: then they stay open, as they did for everybody then.
        error if closed != 0 && error.raw_os_error() != Some(libc::ENOSYS) => {
            Err(Error::io("cannot close inherited descriptors", &error))
        }
        _ => Ok(()),
    }
}

/// Takes ownership of a descriptor that the parent process passed on by number.
#[allow(unsafe_code)]
fn inherited(fd: i32) -> Result<OwnedFd> {
    if fd <= 2 {
        return Err(Error::new(ErrorCode::InvalidArgument, "a standard stream is nothing to own"));
    }
    // SAFETY: the parent opened this descriptor for us and says so by its number, nothing else in
    // this process knows of it, and this function is called once, before anything is opened.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
