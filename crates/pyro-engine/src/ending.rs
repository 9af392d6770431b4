//! How machines end, whatever carries them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::{EngineError, Exit};

/// How long the last words of an ended process may take to be read.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);

/// The end of a machine, which comes once. Clones await the same.
#[derive(Clone)]
pub(crate) struct End(watch::Receiver<Option<Exit>>);

/// Tells of the end.
pub(crate) struct TellEnd(watch::Sender<Option<Exit>>);

pub(crate) fn end() -> (TellEnd, End) {
    let (tell, end) = watch::channel(None);
    (TellEnd(tell), End(end))
}

impl TellEnd {
    pub(crate) fn tell(self, exit: Exit) {
        self.0.send_replace(Some(exit));
    }
}

impl End {
    /// Resolves when the machine has ended.
    pub(crate) async fn known(&self) -> Exit {
        let mut end = self.0.clone();
        let ended = end.wait_for(Option::is_some).await.map(|exit| exit.clone());
        // The witness never leaves without a word, unless the runtime itself is going down.
        ended.ok().flatten().unwrap_or_else(|| Exit::Died("nobody saw how".to_owned()))
    }

    /// Ends `process` and waits for that at most `patience`.
    pub(crate) async fn bring_about(&self, process: &Process, patience: Duration) {
        process.kill();
        let _ = tokio::time::timeout(patience, self.known()).await;
    }
}

/// Waits for those who read what an ended process said: its ends are closed, so these end too, once
/// they have read what is left.
pub(crate) async fn hear_out(words: impl IntoIterator<Item = JoinHandle<()>>) {
    let heard = async {
        for word in words {
            let _ = word.await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, heard).await;
}

/// How it ended, and what it said last, as far as it said anything.
pub(crate) fn died(how: String, said: impl IntoIterator<Item = String>) -> Exit {
    let lines = std::iter::once(how).chain(said).filter(|line| !line.is_empty());
    Exit::Died(lines.collect::<Vec<_>>().join("\n"))
}

/// The failure of a machine that ended before it was of use.
pub(crate) fn not_started(exit: Exit) -> EngineError {
    let said = match exit {
        Exit::Died(said) => said,
        Exit::PoweredOff => "the machine switched itself off".to_owned(),
    };
    EngineError::Launch { said }
}
