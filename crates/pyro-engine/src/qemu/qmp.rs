//! QEMU's monitor (QMP), as far as it is needed: that the machine runs, and why it ended.
//!
//! QEMU exits with 0 whether the guest powered off, panicked and reset, or was closed; only the
//! `SHUTDOWN` event tells. Its text counts as hostile: a guest may have taken QEMU over.

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Longest message that is looked at; the longest that QEMU sends by itself has some hundreds.
const LINE_MAX: u64 = 16 * 1024;

/// A machine that the host has no space for is held still by QEMU, for as long as that lasts, and
/// everybody who waits for it with it. It is ended instead: what it has synced is on its disk.
const QUIT: &[u8] = b"{\"execute\":\"quit\"}\n";

/// Without it no events are sent.
const GREETING: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// What QEMU tells of its machine. Clones share it.
#[derive(Clone)]
pub(crate) struct Monitor(watch::Sender<News>);

#[derive(Default)]
struct News {
    /// It answers, so the machine is built and runs.
    built: bool,
    /// Why it stopped.
    reason: Option<String>,
    /// The host had no space for something that the machine wrote.
    disk_full: bool,
}

impl Default for Monitor {
    fn default() -> Self {
        Self(watch::Sender::new(News::default()))
    }
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "return")]
    answer: Option<serde::de::IgnoredAny>,
    event: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    reason: Option<String>,
    #[serde(default)]
    nospace: bool,
}

impl Monitor {
    /// Listens until QEMU closes the monitor.
    pub(crate) async fn listen(self, monitor: UnixStream) {
        let (reader, mut writer) = monitor.into_split();
        if writer.write_all(GREETING).await.is_err() {
            return;
        }
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await {
                Ok(1..) => self.note(&line),
                _ => return,
            }
            if self.is_disk_full() && writer.write_all(QUIT).await.is_err() {
                return;
            }
        }
    }

    fn note(&self, line: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Message>(line) else { return };
        if message.answer.is_some() {
            self.0.send_modify(|news| news.built = true);
        }
        match (message.event.as_deref(), message.data) {
            (Some("SHUTDOWN"), data) => {
                let reason = data.and_then(|data| data.reason);
                self.0.send_modify(|news| news.reason = reason);
            }
            (Some("BLOCK_IO_ERROR"), Some(Data { nospace: true, .. })) => {
                self.0.send_modify(|news| news.disk_full = true);
            }
            _ => {}
        }
    }

    /// Resolves once QEMU has built the machine and runs it.
    pub(crate) async fn until_built(&self) {
        let _ = self.0.subscribe().wait_for(|news| news.built).await;
    }

    /// True if the host had no space for something that the machine wrote.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.0.borrow().disk_full
    }

    /// True if the guest powered itself off, rather than reset or died.
    pub(crate) fn is_power_off(&self) -> bool {
        self.0.borrow().reason.as_deref() == Some("guest-shutdown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_space_is_a_full_disk() {
        let say = |nospace: bool| {
            let monitor = Monitor::default();
            let line = format!(
                r#"{{"event":"BLOCK_IO_ERROR","data":{{"device":"","nospace":{nospace},"action":"stop"}}}}"#
            );
            monitor.note(line.as_bytes());
            monitor.is_disk_full()
        };
        assert!(say(true));
        assert!(!say(false));
    }

    #[test]
    fn only_a_guests_own_shutdown_is_a_power_off() {
        let say = |line: &str| {
            let monitor = Monitor::default();
            monitor.note(line.as_bytes());
            monitor.is_power_off()
        };
        let event = |reason: &str| {
            format!(
                r#"{{"timestamp":{{}},"event":"SHUTDOWN","data":{{"guest":true,"reason":"{reason}"}}}}"#
            )
        };
        assert!(say(&event("guest-shutdown")));
        assert!(!say(&event("guest-reset")));
        assert!(!say(&event("guest-panic")));
        assert!(!say(r#"{"return":{}}"#));
        assert!(!say(r#"{"event":"POWERDOWN"}"#));
        assert!(!say("not json"));
    }
}
