//! The tie between a new supervisor and the process that spawned it.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::watch;

use super::Ending;
use crate::protocol::KEEP;

/// Watches stdin, whose other end the parent holds.
pub(super) struct Lifeline {
    kept: watch::Receiver<bool>,
}

impl Lifeline {
    /// Without [`KEEP`], or for an ephemeral workspace even with it, the parent's end is ours.
    pub(super) fn watch(ephemeral: bool, ending: watch::Sender<Option<Ending>>) -> Self {
        let (keep, kept) = watch::channel(false);
        tokio::spawn(async move {
            let mut stdin = BufReader::new(tokio::io::stdin());
            let mut line = Vec::new();
            let read = (&mut stdin).take(64).read_until(b'\n', &mut line).await;
            if read.is_ok() && line == KEEP {
                keep.send_replace(true);
                if !ephemeral {
                    return;
                }
                let _ = stdin.read(&mut [0]).await;
            }
            ending.send_if_modified(|ending| {
                let first = ending.is_none();
                ending.get_or_insert(Ending::Orphaned);
                first
            });
        });
        Self { kept }
    }

    /// True if nobody ever learnt that this workspace exists.
    pub(super) fn unwanted(&self, ending: &Ending) -> bool {
        *ending == Ending::Orphaned && !*self.kept.borrow()
    }
}
