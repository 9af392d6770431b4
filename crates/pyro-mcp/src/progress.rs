//! What a running call tells its client: stages with their numbers, and a command's output as it
//! comes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyro_contract::progress::{Progress, Report, Unit};
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RoleServer};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A client is told at most so often.
const PACE: Duration = Duration::from_millis(100);
/// Of output that came meanwhile, this much of the end is told; the result has more.
const TOLD_BYTES: usize = 2 << 10;
/// A client that does not listen must not keep the result from others.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Collects what is to be told, and never waits for whoever is told.
#[derive(Debug, Default)]
pub(crate) struct News {
    pending: Mutex<Pending>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    stage: Option<String>,
    output: Vec<u8>,
    over: bool,
}

impl News {
    fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// A command wrote something.
    pub(crate) fn output(&self, bytes: &[u8]) {
        self.change(|pending| {
            pending.output.extend_from_slice(bytes);
            let surplus = pending.output.len().saturating_sub(TOLD_BYTES);
            pending.output.drain(..surplus);
        });
    }

    fn take(&self) -> (Option<String>, bool) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let output = std::mem::take(&mut pending.output);
        let told = match pending.stage.take() {
            _ if !output.is_empty() => Some(String::from_utf8_lossy(&output).into_owned()),
            stage => stage,
        };
        (told, pending.over)
    }
}

impl Progress for News {
    fn report(&self, report: Report) {
        self.change(|pending| pending.stage = Some(words(&report)));
    }
}

/// `fetching packages: 12.0 of 80.3 MiB`.
fn words(report: &Report) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    match (report.done, report.total, report.unit) {
        (0, None, _) => report.stage.clone(),
        (done, Some(total), Unit::Bytes) => {
            format!("{}: {:.1} of {:.1} MiB", report.stage, mib(done), mib(total))
        }
        (done, None, Unit::Bytes) => format!("{}: {:.1} MiB", report.stage, mib(done)),
        (done, Some(total), Unit::Items) => format!("{}: {done} of {total}", report.stage),
        (done, None, Unit::Items) => format!("{}: {done}", report.stage),
    }
}

/// Passes news on to the client, until it is told that there are no more.
#[derive(Debug)]
pub(crate) struct Messenger {
    news: Arc<News>,
    task: JoinHandle<()>,
}

impl Messenger {
    pub(crate) fn new(news: Arc<News>, peer: Peer<RoleServer>, token: ProgressToken) -> Self {
        let heard = Arc::clone(&news);
        let task = tokio::spawn(async move {
            // The protocol wants a number that grows; what it counts are the messages.
            for count in 1_u32.. {
                heard.changed.notified().await;
                let (told, over) = heard.take();
                if let Some(message) = told {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(count));
                    let sent = peer.notify_progress(progress.with_message(message)).await;
                    if sent.is_err() {
                        return;
                    }
                }
                if over {
                    return;
                }
                tokio::time::sleep(PACE).await;
            }
        });
        Self { news, task }
    }

    /// Tells what is left. After the result no progress may follow.
    pub(crate) async fn finish(mut self) {
        self.news.change(|pending| pending.over = true);
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.task).await;
    }
}

impl Drop for Messenger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_their_unit() {
        let report = |done, total, unit| Report { stage: "packing".into(), done, total, unit };
        assert_eq!(words(&report(0, None, Unit::Items)), "packing");
        assert_eq!(words(&report(3, Some(7), Unit::Items)), "packing: 3 of 7");
        assert_eq!(words(&report(3 << 20, Some(7 << 20), Unit::Bytes)), "packing: 3.0 of 7.0 MiB");
    }

    #[test]
    fn of_much_output_the_end_is_told() {
        let news = News::default();
        news.output(&vec![b'a'; 1 << 20]);
        news.output(b"end");
        let (told, over) = news.take();
        let told = told.unwrap();
        assert!(told.ends_with("aend") && told.len() == TOLD_BYTES && !over);
        assert_eq!(news.take().0, None);
    }
}
