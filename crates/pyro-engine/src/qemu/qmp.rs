//! QEMU's monitor (QMP): orders, their answers, and why a machine ended.
//!
//! QEMU exits with 0 whether the guest powered off, panicked and reset, or was closed; only the
//! `SHUTDOWN` event tells. Its text counts as hostile: a guest may have taken QEMU over.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::qemu::command_line::AGENT;
use crate::{EngineError, Result};

/// Longest message that is looked at; the longest that QEMU sends by itself has some hundreds.
const LINE_MAX: u64 = 16 * 1024;

/// Every order that is given takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// The set of the descriptor that a state is written to; no other has this number.
const STATE_SET: u32 = 2_000_000;

/// What QEMU tells of its machine, and what it is told. Clones share it.
#[derive(Clone)]
pub(crate) struct Monitor(Arc<Shared>);

struct Shared {
    news: watch::Sender<News>,
    orders: mpsc::Sender<Order>,
    /// Taken by [`Monitor::attend`].
    inbox: Mutex<Option<mpsc::Receiver<Order>>>,
}

#[derive(Default)]
struct News {
    /// It answers, so the machine is built.
    built: bool,
    /// Why it stopped.
    reason: Option<String>,
    /// The host had no space for something that the machine wrote.
    disk_full: bool,
    /// Whether its state has gone where it should, or come from there; `None` while it travels.
    migrated: Option<bool>,
}

struct Order {
    name: &'static str,
    arguments: Value,
    descriptor: Option<OwnedFd>,
    answer: oneshot::Sender<std::result::Result<(), String>>,
}

impl Default for Monitor {
    fn default() -> Self {
        let (orders, inbox) = mpsc::channel(16);
        let news = watch::Sender::new(News::default());
        Self(Arc::new(Shared { news, orders, inbox: Mutex::new(Some(inbox)) }))
    }
}

#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    #[serde(rename = "return")]
    answer: Option<serde::de::IgnoredAny>,
    error: Option<Refusal>,
    event: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

#[derive(Deserialize)]
struct Data {
    reason: Option<String>,
    #[serde(default)]
    nospace: bool,
    status: Option<String>,
}

impl Monitor {
    /// Gives one order, with a descriptor if it is about one, and waits until it was carried out.
    pub(crate) async fn execute(
        &self,
        name: &'static str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let descriptor = descriptor
            .map(|fd| fd.try_clone_to_owned())
            .transpose()
            .map_err(EngineError::io("cannot pass a descriptor to QEMU"))?;
        let (answer, answered) = oneshot::channel();
        let order = Order { name, arguments, descriptor, answer };
        let answered = async {
            let sent = self.0.orders.send(order).await;
            sent.map_err(|_| "QEMU has ended".to_owned())?;
            answered.await.unwrap_or_else(|_| Err("QEMU has ended".to_owned()))
        };
        let outcome = tokio::time::timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        outcome.map_err(|said| EngineError::Order { order: name, said })
    }

    /// Passes orders on and listens, until QEMU closes the monitor.
    pub(crate) async fn attend(self, monitor: UnixStream) {
        let inbox = self.0.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut inbox) = inbox else { return };
        let mut waiting = HashMap::new();
        let mut last = 0_u64;
        // Without it no events are sent.
        if write(&monitor, "qmp_capabilities", &json!({}), last, None).await.is_err() {
            return;
        }
        let (reader, writer) = monitor.into_split();
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            let mut limited = (&mut reader).take(LINE_MAX.saturating_sub(line.len() as u64));
            tokio::select! {
                read = limited.read_until(b'\n', &mut line) => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                    self.note(&line, &mut waiting);
                    line.clear();
                    // A machine that the host has no space for is held still by QEMU, for as long
                    // as that lasts, and everybody who waits for it with it. It is ended instead:
                    // what it has synced is on its disk.
                    last += 1;
                    if self.is_disk_full()
                        && write(writer.as_ref(), "quit", &json!({}), last, None).await.is_err()
                    {
                        return;
                    }
                }
                Some(order) = inbox.recv() => {
                    last += 1;
                    let Order { name, arguments, descriptor, answer } = order;
                    let descriptor = descriptor.as_ref().map(AsFd::as_fd);
                    if write(writer.as_ref(), name, &arguments, last, descriptor).await.is_err() {
                        return;
                    }
                    waiting.insert(last, answer);
                }
            }
        }
    }

    fn note(&self, line: &[u8], waiting: &mut Waiting) {
        let Ok(message) = serde_json::from_slice::<Message>(line) else { return };
        let news = &self.0.news;
        let outcome = match message.error {
            Some(refusal) => Err(refusal.desc.chars().filter(|c| !c.is_control()).collect()),
            None => Ok(()),
        };
        if let Some(answer) = message.id.and_then(|id| waiting.remove(&id)) {
            let _ = answer.send(outcome);
        }
        if message.answer.is_some() {
            news.send_if_modified(|news| !std::mem::replace(&mut news.built, true));
        }
        match (message.event.as_deref(), message.data) {
            (Some("SHUTDOWN"), data) => {
                let reason = data.and_then(|data| data.reason);
                news.send_modify(|news| news.reason = reason);
            }
            (Some("MIGRATION"), Some(Data { status: Some(status), .. })) => {
                let migrated = match status.as_str() {
                    "completed" => Some(true),
                    "failed" | "cancelled" => Some(false),
                    _ => None,
                };
                news.send_modify(|news| news.migrated = migrated);
            }
            (Some("BLOCK_IO_ERROR"), Some(Data { nospace: true, .. })) => {
                news.send_modify(|news| news.disk_full = true);
            }
            _ => {}
        }
    }

    /// Writes the machine's state to a file and waits until it is through. Memory that is shared
    /// with a file stays out of it.
    pub(crate) async fn migrate_to(&self, state: BorrowedFd<'_>) -> Result<()> {
        let name = json!({"fdname": "state"});
        self.execute("getfd", name, Some(state)).await?;
        self.migrate("migrate", "state").await
    }

    /// Writes the state of the devices to a file that is open for writing alone. The machine must be
    /// held still, and goes on to have its disks.
    pub(crate) async fn save_devices(&self, state: BorrowedFd<'_>) -> Result<()> {
        let set = json!({"fdset-id": STATE_SET});
        self.execute("add-fd", set.clone(), Some(state)).await?;
        let file = json!({"filename": format!("/dev/fdset/{STATE_SET}"), "live": false});
        let saved = self.execute("xen-save-devices-state", file, None).await;
        self.execute("remove-fd", set, None).await?;
        saved
    }

    /// Holds the machine still.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.execute("stop", json!({}), None).await
    }

    /// Lets it go on.
    pub(crate) async fn go_on(&self) -> Result<()> {
        self.execute("cont", json!({}), None).await
    }

    /// Connects the agent's port, which was empty, to this socket.
    pub(crate) async fn connect_agent(&self, socket: BorrowedFd<'_>) -> Result<()> {
        self.execute("getfd", json!({"fdname": AGENT}), Some(socket)).await?;
        let address = json!({"type": "fd", "data": {"str": AGENT}});
        let backend = json!({"type": "socket", "data": {"addr": address, "server": false}});
        self.execute("chardev-change", json!({"id": AGENT, "backend": backend}), None).await
    }

    /// Takes a state from a descriptor that QEMU has, and waits until it is through.
    pub(crate) async fn migrate_from(&self, fd: RawFd) -> Result<()> {
        self.migrate("migrate-incoming", &fd.to_string()).await
    }

    async fn migrate(&self, order: &'static str, fd: &str) -> Result<()> {
        let on = |name: &str| json!({"capability": name, "state": true});
        let capabilities = json!({"capabilities": [on("x-ignore-shared"), on("events")]});
        // Written one after the other, answered later: QEMU takes them in their order.
        let (prepared, begun) = tokio::join!(
            self.execute("migrate-set-capabilities", capabilities, None),
            self.execute(order, json!({"uri": format!("fd:{fd}")}), None),
        );
        prepared.and(begun)?;
        let mut news = self.0.news.subscribe();
        let through = news.wait_for(|news| news.migrated.is_some());
        let migrated = tokio::time::timeout(PATIENCE, through).await;
        match migrated.ok().and_then(|news| news.ok()?.migrated) {
            Some(true) => Ok(()),
            Some(false) => Err(EngineError::Order { order, said: "it failed".to_owned() }),
            None => Err(EngineError::Order { order, said: "it did not end".to_owned() }),
        }
    }

    /// Resolves once QEMU has built the machine.
    pub(crate) async fn until_built(&self) {
        let _ = self.0.news.subscribe().wait_for(|news| news.built).await;
    }

    /// True if the host had no space for something that the machine wrote.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.0.news.borrow().disk_full
    }

    /// True if the guest powered itself off, rather than reset or died.
    pub(crate) fn is_power_off(&self) -> bool {
        self.0.news.borrow().reason.as_deref() == Some("guest-shutdown")
    }
}

/// Who waits for the answer to which order.
type Waiting = HashMap<u64, oneshot::Sender<std::result::Result<(), String>>>;

/// Writes one order; a descriptor travels with its first byte.
async fn write(
    monitor: &UnixStream,
    name: &str,
    arguments: &Value,
    id: u64,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut text = json!({ "execute": name, "arguments": arguments, "id": id }).to_string();
    text.push('\n');
    let mut rest = text.as_bytes();
    let mut descriptor = descriptor.as_slice();
    while !rest.is_empty() {
        monitor.writable().await?;
        let sent = monitor.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptor.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptor));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(monitor, &[IoSlice::new(rest)], &mut ancillary, flags)?)
        });
        match sent {
            Ok(length) => {
                rest = &rest[length..];
                descriptor = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Monitor {
        let monitor = Monitor::default();
        monitor.note(line.as_bytes(), &mut Waiting::new());
        monitor
    }

    #[test]
    fn only_a_lack_of_space_is_a_full_disk() {
        let say = |nospace: bool| {
            let line = format!(
                r#"{{"event":"BLOCK_IO_ERROR","data":{{"device":"","nospace":{nospace},"action":"stop"}}}}"#
            );
            told(&line).is_disk_full()
        };
        assert!(say(true));
        assert!(!say(false));
    }

    #[test]
    fn a_state_is_through_only_when_it_says_so() {
        let say = |status: &str| {
            let line = format!(r#"{{"event":"MIGRATION","data":{{"status":"{status}"}}}}"#);
            told(&line).0.news.borrow().migrated
        };
        assert_eq!(say("active"), None);
        assert_eq!(say("completed"), Some(true));
        assert_eq!(say("failed"), Some(false));
    }

    #[test]
    fn only_a_guests_own_shutdown_is_a_power_off() {
        let event = |reason: &str| {
            format!(
                r#"{{"timestamp":{{}},"event":"SHUTDOWN","data":{{"guest":true,"reason":"{reason}"}}}}"#
            )
        };
        assert!(told(&event("guest-shutdown")).is_power_off());
        assert!(!told(&event("guest-reset")).is_power_off());
        assert!(!told(&event("guest-panic")).is_power_off());
        assert!(!told(r#"{"return":{}}"#).is_power_off());
        assert!(!told(r#"{"event":"POWERDOWN"}"#).is_power_off());
        assert!(!told("not json").is_power_off());
    }

    #[tokio::test]
    async fn an_order_takes_its_descriptor_along_and_gets_its_own_answer() {
        use std::io::{Read as _, Write as _};
        use std::os::unix::net::UnixStream as Std;
        let (ours, theirs) = Std::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let monitor = Monitor::default();
        tokio::spawn(monitor.clone().attend(UnixStream::from_std(ours).unwrap()));
        let qemu = std::thread::spawn(move || {
            let mut theirs = theirs;
            let mut seen = String::new();
            while seen.lines().count() < 3 || !seen.ends_with('\n') {
                let mut buffer = [0; 4096];
                let length = theirs.read(&mut buffer).unwrap();
                seen.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            // Answers may come in any order, between events.
            theirs.write_all(b"{\"return\":{},\"id\":0}\n{\"event\":\"STOP\"}\n").unwrap();
            theirs
                .write_all(b"{\"error\":{\"class\":\"X\",\"desc\":\"no\"},\"id\":2}\n{\"return\":{},\"id\":1}\n")
                .unwrap();
            (seen, theirs)
        });
        let null = std::fs::File::open("/dev/null").unwrap();
        let (first, second) = tokio::join!(
            monitor.execute("add-fd", json!({}), Some(null.as_fd())),
            monitor.execute("stop", json!({}), None),
        );
        first.unwrap();
        assert!(second.unwrap_err().to_string().contains("stop"));
        let (seen, _open) = qemu.join().unwrap();
        assert!(seen.lines().nth(1).unwrap().contains("add-fd"));
    }
}
