use jiff::Timestamp;
use pyro_contract::command::LogsRequest;
use pyro_contract::exec::{ExecOutcome, JournalCommand, Stream};
use pyro_contract::name::WorkspaceId;

use super::*;

/// A journal in a directory of its own.
struct Books {
    temp: tempfile::TempDir,
    journal: Option<Journal>,
}

impl Books {
    fn new() -> Self {
        Self::within(JournalBounds::default())
    }

    fn within(bounds: JournalBounds) -> Self {
        let mut books = Self { temp: tempfile::tempdir().unwrap(), journal: None };
        books.open(bounds);
        books
    }

    fn open(&mut self, bounds: JournalBounds) {
        self.journal = None;
        let activity = self.temp.path().join("activity");
        self.journal = Some(Journal::open(&self.path(), activity, bounds).unwrap());
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("journal.db")
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    /// Runs a command that writes these pieces.
    async fn run(&self, pieces: impl IntoIterator<Item = (Stream, Vec<u8>)>) -> u64 {
        let sequence = begin(self.journal(), ["command"]).await.unwrap();
        let mut recorder = Recorder::default();
        for (round, (stream, bytes)) in pieces.into_iter().enumerate() {
            recorder.push(stream, &bytes);
            while let Some(block) = recorder.closed() {
                self.journal().output(sequence, block, recorder.total()).await.unwrap();
            }
            if round % 50 == 7
                && let Some(flush) = recorder.flush()
            {
                self.journal().output(sequence, flush, recorder.total()).await.unwrap();
            }
        }
        if let Some(flush) = recorder.finish() {
            self.journal().output(sequence, flush, recorder.total()).await.unwrap();
        }
        let ended = Ended::Ran(outcome(sequence));
        self.journal().end(sequence, ended, recorder.total()).await.unwrap();
        sequence
    }

    fn logs(&self) -> Vec<JournalCommand> {
        logs(&self.path(), &request(), &id(), true).unwrap()
    }

    /// All that is kept of a command, read by pages of this size, and how much was dropped.
    fn read(&self, sequence: u64, at_most: usize) -> (Vec<(Stream, Vec<u8>)>, u64) {
        let (mut from, mut dropped, mut all) = (0, 0, Vec::new());
        loop {
            let range = Range { from, at_most, stream: None };
            let page = page(&self.path(), sequence, range).unwrap();
            dropped += page.dropped;
            all.extend(page.pieces.into_iter().map(|piece| (piece.stream, piece.bytes)));
            assert!(page.at_end || page.next > from);
            from = page.next;
            if page.at_end {
                return (all, dropped);
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.temp.path().join("output"));
        entries.map_or(Vec::new(), |entries| entries.flatten().map(|e| e.path()).collect())
    }
}

fn id() -> WorkspaceId {
    "ws-aaaaaaaaaa".parse().unwrap()
}

fn request() -> LogsRequest {
    LogsRequest::new("demo".parse().unwrap())
}

fn text_of(pieces: &[(Stream, Vec<u8>)], stream: Stream) -> Vec<u8> {
    pieces.iter().filter(|(of, _)| *of == stream).flat_map(|(_, bytes)| bytes.clone()).collect()
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

fn outcome(sequence: u64) -> ExecOutcome {
    ExecOutcome {
        sequence,
        exit_code: Some(0),
        signal: None,
        timed_out: false,
        oom_killed: false,
        limits_hit: Vec::new(),
        duration_ms: 1,
    }
}

async fn begin<const N: usize>(journal: &Journal, argv: [&str; N]) -> Result<u64> {
    let caller = Caller::new(pyro_contract::journal::ClientName::new("test"));
    journal.begin(&ExecRequest::new(argv), "/workspace", &caller).await
}

#[tokio::test]
async fn events_are_numbered_and_say_who_asked() {
    let mut books = Books::new();
    let (path, journal) = (books.path(), books.journal());
    journal.record(EventKind::Started, &Caller::default()).await.unwrap();
    let sequence = begin(journal, ["true"]).await.unwrap();
    journal.end(sequence, Ended::Ran(outcome(sequence)), 0).await.unwrap();
    books.journal = None;
    append(&path, &EventKind::Paused, &Caller::default()).unwrap();
    let all = events(&path, Which::default()).unwrap();
    let seen: Vec<_> =
        all.iter().map(|event| (event.id, event.kind.as_str(), event.client.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (1, "started", None),
            (2, "command_started", Some("test")),
            (3, "command_ended", None),
            (4, "paused", None)
        ]
    );
    let later = events(&path, Which { after: 2, tail: Some(1), since: None }).unwrap();
    assert_eq!(later, all[3..]);
    let never = Which { since: Some(Timestamp::MAX), ..Which::default() };
    assert_eq!(events(&path, never).unwrap(), []);
}

/// As the first version left it: a command that ended, one that did not, and one of whose output
/// the middle was not kept.
const OLD: &str = include_str!("fixtures/version-1.sql");

#[tokio::test]
async fn a_journal_of_the_first_version_is_read_and_then_migrated() {
    let mut books = Books::new();
    books.journal = None;
    std::fs::remove_file(books.path()).unwrap();
    Connection::open(books.path()).unwrap().execute_batch(OLD).unwrap();
    let check = |commands: Vec<JournalCommand>| {
        assert_eq!(commands[0].command.argv, ["echo", "old"]);
        assert_eq!(commands[0].output[0].text, "old\n");
        assert_eq!(commands[0].command.outcome.as_ref().unwrap().exit_code, Some(0));
        assert_eq!(commands[1].command.argv, ["sleep", "100"]);
        assert_eq!(commands[2].output[0].text.len(), 70_000 + 4);
        assert_eq!(commands[2].omitted_bytes, 1000);
        commands
    };
    let all = LogsRequest { max_output_bytes: Some(1 << 20), ..request() };
    let read = |live| logs(&books.path(), &all, &id(), live).unwrap();
    assert!(check(read(true))[1].command.running);
    assert!(check(read(false))[1].command.error.is_some());
    assert_eq!(events(&books.path(), Which::default()).unwrap(), []);
    let last = Range { from: 71_000, at_most: 100, stream: None };
    let end = page(&books.path(), 3, last).unwrap();
    assert_eq!((end.pieces[0].bytes.as_slice(), end.dropped), (&b"end\n"[..], 0));

    let activity = books.temp.path().join("activity");
    let journal = Journal::open(&books.path(), activity.clone(), JournalBounds::default()).unwrap();
    assert!(check(read(true))[1].command.error.is_some());
    assert_eq!(begin(&journal, ["true"]).await.unwrap(), 4);
    let kinds = events(&books.path(), Which::default()).unwrap();
    let kinds: Vec<_> = kinds.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["command_ended", "command_started"]);
    drop(journal);
    Journal::open(&books.path(), activity, JournalBounds::default()).unwrap();
}

#[test]
fn a_journal_of_a_newer_pyro_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let opened = Journal::open(&path, temp.path().join("activity"), JournalBounds::default());
    assert_eq!(opened.err().unwrap().code, ErrorCode::Unsupported);
    assert_eq!(logs(&path, &request(), &id(), false).unwrap_err().code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn commands_are_kept_in_order_with_their_output() {
    let books = Books::new();
    for _ in 0..2 {
        let pieces = [
            // A character split over two reads.
            (Stream::Stdout, "ü".as_bytes()[..1].to_vec()),
            (Stream::Stdout, "ü".as_bytes()[1..].to_vec()),
            (Stream::Stderr, b"oops".to_vec()),
        ];
        books.run(pieces).await;
    }
    let commands = books.logs();
    assert_eq!(commands.iter().map(|c| c.command.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(commands[1].output[0].text, "ü");
    assert_eq!(commands[1].output[1].stream, Stream::Stderr);
    let last = LogsRequest { tail: Some(1), ..request() };
    assert_eq!(logs(&books.path(), &last, &id(), true).unwrap(), commands[1..]);
    assert!(books.files().is_empty(), "short outputs need no files");
}

#[tokio::test]
async fn a_long_output_is_read_whole_by_pages_of_any_size() {
    let books = Books::new();
    let mut pieces = Vec::new();
    for round in 0..300u32 {
        let stream = if round % 7 == 0 { Stream::Stderr } else { Stream::Stdout };
        let line = format!("{round:08} üñí\n").repeat(1 + (round as usize * 37) % 400);
        pieces.push((stream, line.into_bytes()));
    }
    let sequence = books.run(pieces.clone()).await;
    for at_most in [999, 50_000, 4 << 20] {
        let (all, dropped) = books.read(sequence, at_most);
        assert_eq!(dropped, 0);
        for stream in [Stream::Stdout, Stream::Stderr] {
            assert!(text_of(&all, stream) == text_of(&pieces, stream), "{at_most} {stream:?}");
        }
        assert!(all.iter().all(|(_, bytes)| bytes.len() <= at_most));
    }
    let range = Range { from: 0, at_most: 4 << 20, stream: Some(Stream::Stderr) };
    let only = page(&books.path(), sequence, range).unwrap();
    let only: Vec<u8> = only.pieces.into_iter().flat_map(|piece| piece.bytes).collect();
    assert!(only == text_of(&pieces, Stream::Stderr));
    let stored: u64 = books.files().iter().map(|file| file.metadata().unwrap().len()).sum();
    let total: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(stored * 10 < total as u64, "{stored} of {total}");
}

#[tokio::test]
async fn logs_show_both_ends_of_a_long_output_and_how_to_get_the_middle() {
    let books = Books::new();
    let pieces: Vec<_> = (0..20_000)
        .map(|line| (Stream::Stdout, format!("line {line:06}\n").into_bytes()))
        .collect();
    books.run(pieces).await;
    let shown = books.logs().remove(0);
    let text: String = shown.output.iter().map(|chunk| chunk.text.as_str()).collect();
    assert!(text.starts_with("line 000000\n") && text.ends_with("line 019999\n"));
    assert_eq!(shown.omitted_bytes + text.len() as u64, shown.command.output_bytes);
    assert_eq!(shown.command.dropped_bytes, 0);
    let place =
        pyro_contract::command::Continuation::parse(&shown.continuation.unwrap(), &id()).unwrap();
    let head = &shown.output[0].text;
    assert_eq!(place.position, head.len() as u64);
    let grep = LogsRequest { grep: Some("line 0(00007|19998)$".into()), ..request() };
    let found = logs(&books.path(), &grep, &id(), true).unwrap();
    assert_eq!(found[0].output[0].text, "line 000007\nline 019998\n");
    let none = LogsRequest { grep: Some("nowhere".into()), ..request() };
    assert_eq!(logs(&books.path(), &none, &id(), true).unwrap(), []);
    let wrong = LogsRequest { grep: Some("(".into()), ..request() };
    let error = logs(&books.path(), &wrong, &id(), true).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_flood_keeps_its_beginning_and_its_end_and_says_what_is_gone() {
    let bounds = JournalBounds { command_mib: 1, workspace_mib: 64 };
    let books = Books::within(bounds);
    let pieces: Vec<_> = (0..400).map(|at| (Stream::Stdout, noise(10_000, at))).collect();
    let sequence = books.run(pieces.clone()).await;
    let all: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let (kept, dropped) = books.read(sequence, 1 << 20);
    let kept: Vec<u8> = kept.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(kept.len() as u64 + dropped, all.len() as u64);
    assert!(dropped > 2_000_000, "{dropped}");
    assert!(
        kept[..50_000] == all[..50_000] && kept[kept.len() - 50_000..] == all[all.len() - 50_000..]
    );
    let command = command(&books.path(), sequence, true).unwrap();
    assert_eq!((command.output_bytes, command.dropped_bytes), (all.len() as u64, dropped));
    let stored: u64 = books.files().iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(stored <= 3 << 19, "{stored}");
}

#[tokio::test]
async fn a_full_journal_drops_the_oldest_commands_output_and_says_so() {
    let bounds = JournalBounds { command_mib: 1, workspace_mib: 2 };
    let books = Books::within(bounds);
    for at in 0..12 {
        books.run([(Stream::Stdout, noise(300_000, at))]).await;
    }
    let commands = books.logs();
    assert_eq!(commands.len(), 12, "that they ran stays known");
    assert_eq!(commands[0].command.dropped_bytes, 300_000);
    assert_eq!(commands[0].output, []);
    assert_eq!(commands[11].command.dropped_bytes, 0);
    let (kept, _) = books.read(12, 1 << 20);
    assert!(text_of(&kept, Stream::Stdout) == noise(300_000, 11));
    let trims: u64 = events(&books.path(), Which::default())
        .unwrap()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::JournalTrimmed { output_bytes, .. } => Some(output_bytes),
            _ => None,
        })
        .sum();
    let dropped: u64 = commands.iter().map(|entry| entry.command.dropped_bytes).sum();
    assert_eq!(trims, dropped);
    let stored: u64 = books.files().iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(stored <= 2 << 20, "{stored}");
}

#[tokio::test]
async fn what_a_crash_left_is_swept_and_its_command_closed() {
    let mut books = Books::new();
    let kept = books.run([(Stream::Stdout, noise(500_000, 1))]).await;
    let lost = begin(books.journal(), ["sleep"]).await.unwrap();
    let mut recorder = Recorder::default();
    recorder.push(Stream::Stdout, b"so far\n");
    books.journal().output(lost, recorder.flush().unwrap(), 7).await.unwrap();
    // The next one in the queue is done only after it.
    books.journal().record(EventKind::Started, &Caller::default()).await.unwrap();
    let stray = books.temp.path().join("output/99.0.zst");
    std::fs::write(&stray, "of a block that was never named").unwrap();
    books.open(JournalBounds::default());
    assert!(!stray.exists());
    assert!(text_of(&books.read(kept, 1 << 20).0, Stream::Stdout) == noise(500_000, 1));
    let commands = books.logs();
    assert!(commands[1].command.error.is_some());
    assert_eq!(commands[1].output[0].text, "so far\n");
}

#[test]
fn damage_is_named_and_nothing_is_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal.db");
    std::fs::write(&path, vec![7u8; 9000]).unwrap();
    let opened = Journal::open(&path, temp.path().join("activity"), JournalBounds::default());
    assert_eq!(opened.err().unwrap().code, ErrorCode::Damaged);
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 9000]);
}
