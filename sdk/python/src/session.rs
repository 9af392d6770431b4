//! A command that runs, and is listened to while it does.

use std::sync::Arc;

use pyo3::prelude::*;
use pyro_contract::exec::Stream;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{ExecEvent, ExecInput, ExecOutput, ExecSession};
use tokio::sync::{Mutex, MutexGuard, Notify, mpsc};

use crate::pending::{NO_GRACE, Outcome, Pending};
use crate::runtime::runtime;

/// So many pieces of output may wait for a reader; then the command waits.
const WINDOW: usize = 64;

enum Event {
    Output(Stream, Vec<u8>),
    /// How it ended, as JSON; nothing follows.
    Ended(String),
}

/// What a command can be told.
enum Word {
    Stdin(Vec<u8>),
    /// All of it.
    WholeStdin(Vec<u8>),
    EndOfStdin,
    Signal(i32),
}

/// A running command. Dropping it ends the command.
#[pyclass(frozen)]
pub(crate) struct Session {
    /// The command's number in the journal.
    #[pyo3(get)]
    sequence: u64,
    events: Arc<Mutex<mpsc::Receiver<Result<Event>>>>,
    speaker: Speaker,
    pump: tokio::task::AbortHandle,
}

impl Session {
    pub(crate) fn new(session: ExecSession) -> PyResult<Self> {
        let ExecSession { sequence, output, input, .. } = session;
        let (sender, events) = mpsc::channel(WINDOW);
        // Read at all times: what acknowledges input arrives among the output.
        let pump = runtime()?.spawn(pump(output, sender)).abort_handle();
        let events = Arc::new(Mutex::new(events));
        let input = Arc::new(Mutex::new(Some(input)));
        let speaker = Speaker { input, urgent: Arc::default() };
        Ok(Self { sequence, events, speaker, pump })
    }

    /// Says something to the command, unless the session is closed.
    fn tell(&self, word: Word) -> PyResult<Pending> {
        let speaker = self.speaker.clone();
        Pending::begin(NO_GRACE, move |_| async move {
            match word {
                Word::Stdin(data) => speaker.stdin(&data).await?,
                Word::WholeStdin(data) => {
                    // A command may end, or close its stdin, before it has read all.
                    let _ = speaker.stdin(&data).await;
                    let _ = speaker.say(Word::EndOfStdin).await;
                }
                word => speaker.say(word).await?,
            }
            Ok(Outcome::Done)
        })
    }
}

/// What speaks to the command. A signal does not wait behind input that the command does not take.
#[derive(Clone)]
struct Speaker {
    input: Arc<Mutex<Option<ExecInput>>>,
    urgent: Arc<Notify>,
}

impl Speaker {
    async fn stdin(&self, data: &[u8]) -> Result<()> {
        for piece in data.chunks(ExecInput::PIECE) {
            loop {
                let mut input = self.input.lock().await;
                let input = input.as_mut().ok_or_else(closed)?;
                tokio::select! {
                    biased;
                    // Lets somebody else have the input, who waits for it already.
                    () = self.urgent.notified() => {}
                    ready = input.ready() => {
                        ready?;
                        input.stdin(piece).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn say(&self, word: Word) -> Result<()> {
        let mut input = self.lock_at_once().await;
        let input = input.as_mut().ok_or_else(closed)?;
        match word {
            Word::Signal(number) => input.signal(number).await,
            Word::Stdin(_) | Word::WholeStdin(_) | Word::EndOfStdin => input.close_stdin().await,
        }
    }

    async fn close(&self) {
        self.lock_at_once().await.take();
    }

    async fn lock_at_once(&self) -> MutexGuard<'_, Option<ExecInput>> {
        self.urgent.notify_one();
        self.input.lock().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

#[pymethods]
impl Session {
    /// The next event: (stream, bytes), or how it ended as JSON after the last of them.
    fn next(&self) -> PyResult<Pending> {
        let events = Arc::clone(&self.events);
        Pending::begin(NO_GRACE, move |_| async move {
            match events.lock().await.recv().await {
                Some(Ok(Event::Output(stream, bytes))) => Ok(Outcome::Output(stream, bytes)),
                Some(Ok(Event::Ended(result))) => Ok(Outcome::Json(result)),
                Some(Err(error)) => Err(error),
                None => Err(closed()),
            }
        })
    }

    /// Sends stdin; done once the command, or what lies between, has taken it.
    fn write(&self, data: Vec<u8>) -> PyResult<Pending> {
        self.tell(Word::Stdin(data))
    }

    /// Sends all of stdin, and ends it.
    fn feed(&self, data: Vec<u8>) -> PyResult<Pending> {
        self.tell(Word::WholeStdin(data))
    }

    /// Ends stdin.
    fn close_stdin(&self) -> PyResult<Pending> {
        self.tell(Word::EndOfStdin)
    }

    /// Sends a signal to the command's process group.
    fn signal(&self, number: i32) -> PyResult<Pending> {
        self.tell(Word::Signal(number))
    }

    /// Ends the command, if it still runs.
    fn close(&self) -> PyResult<()> {
        self.pump.abort();
        let speaker = self.speaker.clone();
        runtime()?.spawn(async move { speaker.close().await });
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::WrongState, "the command was closed")
        .with_hint("`run` and `exec` start another")
}

async fn pump(mut output: ExecOutput, sender: mpsc::Sender<Result<Event>>) {
    loop {
        let event = match output.next().await {
            Ok(Some(ExecEvent::Output(stream, bytes))) => Ok(Event::Output(stream, bytes.to_vec())),
            Ok(Some(ExecEvent::Exit(outcome))) => {
                let event = serde_json::to_string(&outcome).map(Event::Ended);
                let event = event.map_err(|error| lost().with_cause(error.to_string()));
                let _ = sender.send(event).await;
                return;
            }
            Ok(None) => Err(lost()),
            Err(error) => Err(error),
        };
        let last = event.is_err();
        if sender.send(event).await.is_err() || last {
            return;
        }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorCode::MachineFailed,
        "the connection to the workspace was lost while the command ran",
    )
    .with_hint("`status()` tells its state")
}
