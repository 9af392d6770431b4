//! Holding all commands still while the host captures the machine.
//!
//! A copy of the machine begins with them held, and that is why they are: none of them shall draw a
//! random number or look at the clock before the copy is one of its own. There the connection over
//! which they are held is lost, and they go on once the copy was adopted and given the time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pyro_wire::v1::HoldReply;
use tonic::Status;

use crate::connection::Connection;
use crate::exec::Cgroups;
use crate::log;

/// Who holds this machine's commands still.
#[derive(Clone)]
pub(crate) struct Holds(Arc<Shared>);

struct Shared {
    /// None: they cannot be held.
    cgroups: Option<Cgroups>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who holds them. One whose connection is lost does so until the machine is adopted.
    holders: Vec<(u64, Connection)>,
    next: u64,
}

impl Holds {
    pub(crate) fn new(cgroups: Option<Cgroups>) -> Self {
        Self(Arc::new(Shared { cgroups, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until they stand still; the number of this holder.
    fn hold(&self, connection: &Connection) -> io::Result<u64> {
        let cgroups = self.0.cgroups.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let mut state = self.state();
        if state.holders.is_empty()
            && let Err(error) = cgroups.freeze()
        {
            self.thaw();
            return Err(error);
        }
        let number = state.next;
        state.next += 1;
        state.holders.push((number, connection.clone()));
        Ok(number)
    }

    /// Those stay that `keeps`; if none is left, the commands go on.
    fn retain(&self, keeps: impl Fn(u64, &Connection) -> bool) {
        let mut state = self.state();
        let before = state.holders.len();
        state.holders.retain(|(number, connection)| keeps(*number, connection));
        if before > 0 && state.holders.is_empty() {
            self.thaw();
        }
    }

    /// The machine is unique, and knows the time.
    pub(crate) fn go_on(&self) {
        self.retain(|_, connection| !connection.is_lost());
    }

    /// The machine ends, whoever holds it.
    pub(crate) fn give_up(&self) {
        self.retain(|_, _| false);
    }

    fn thaw(&self) {
        if let Some(Err(error)) = self.0.cgroups.as_ref().map(Cgroups::thaw) {
            log::line(&format!("cannot let the commands go on: {error}"));
        }
    }
}

/// One reply, and then silence: they are held as long as the call lasts.
pub(crate) struct HoldStream {
    answered: bool,
    holds: Holds,
    number: u64,
}

impl HoldStream {
    pub(crate) async fn begin(holds: Holds, connection: Connection) -> Result<Self, Status> {
        // Should the call be dropped meanwhile, the result is dropped where it is made.
        let holding = move || {
            let number = holds.hold(&connection)?;
            Ok(Self { answered: false, holds, number })
        };
        match tokio::task::spawn_blocking(holding).await {
            Ok(Ok(held)) => Ok(held),
            Ok(Err(error)) => {
                let error: io::Error = error;
                Err(Status::internal(format!("cannot hold the commands still: {error}")))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

impl Drop for HoldStream {
    fn drop(&mut self) {
        self.holds.retain(|number, connection| number != self.number || connection.is_lost());
    }
}

impl futures_util::Stream for HoldStream {
    type Item = Result<HoldReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.answered {
            return Poll::Pending;
        }
        self.answered = true;
        Poll::Ready(Some(Ok(HoldReply {})))
    }
}
