//! From the host into a workspace.

mod changes;
mod decide;
mod listing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_contract::journal::EventKind;
use pyro_contract::path::BytePath;
use pyro_contract::progress::Progress as _;
use pyro_contract::sync::{SyncPushRequest, SyncRules, Synced};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_wire::v1::CompareStart;
use pyro_wire::v1::compare_start::Purpose;
use pyro_wire::v1::tree_change::Change;
use tokio::sync::mpsc;

use super::guest_path::GuestPath;
use super::pull::Target;
use super::record::{Fact, GuestStamp, Record};
use super::rules::Rules;
use super::scan::OnEnter;
use super::source::Source;
use super::verdicts::Verdicts;
use crate::client::sync::SyncSession;
use crate::client::tree::TreeTransaction;
use crate::home::{Home, WorkspaceDir};
use crate::pyro::blocking;
use crate::watch::{Watch, interrupted};
use changes::Sent;
use decide::{Decided, Decision};
use listing::Listing;

/// Messages on their way between a thread that reads and the socket.
const WINDOW: usize = 16;

/// What is called for each directory of the host before it is listed.
pub(super) type Entering =
    Arc<dyn Fn(std::os::fd::BorrowedFd<'_>, &[u8]) -> Result<()> + Send + Sync>;

/// A tree and where it goes; it can be pushed again and again.
pub(super) struct Push {
    dir: WorkspaceDir,
    source: Arc<Source>,
    rules: Arc<Rules>,
    asked: SyncRules,
    dest: GuestPath,
    /// The source, as the journal names it.
    shown: String,
    record: Arc<Record>,
    entering: Entering,
}

impl Push {
    /// Opens the tree. Blocks.
    pub(super) fn open(
        home: &Home,
        dir: WorkspaceDir,
        request: &SyncPushRequest,
        entering: Entering,
        watch: &Watch,
    ) -> Result<Self> {
        let dest = GuestPath::parse(request.dest.as_bytes())?;
        let rules = Rules::new(&request.rules)?;
        let path = Path::new(&request.source);
        let shown = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if Target::is_unsettled(home, path) {
            drop(Target::open(home, path)?);
        }
        let source = Source::open(path, dir.path(), watch)?;
        let record = match source.remembered_as(path) {
            Some(path) => Arc::new(Record::load(&dir, &path, &dest.bytes())),
            None => Arc::new(Record::forgotten()),
        };
        Ok(Self {
            dir,
            source: Arc::new(source),
            rules: Arc::new(rules),
            asked: request.rules.clone(),
            dest,
            shown: shown.to_string_lossy().into_owned(),
            record,
            entering,
        })
    }

    /// Makes the machine's tree like the host's, or leaves it as it is.
    pub(super) async fn run(&mut self, watch: &Watch) -> Result<Synced> {
        watch.stage("comparing");
        let waiting = || watch.stage("waiting for another sync of this workspace");
        let mut session = SyncSession::open(&self.dir, waiting).await?;
        let compared = tokio::select! {
            compared = self.compare(&mut session, watch) => compared?,
            () = watch.interrupt().triggered() => return Err(interrupted()),
        };
        let Compared { listing, verdicts, missing } = compared;
        let (source, rules, asked, record, seen) = (
            Arc::clone(&self.source),
            Arc::clone(&self.rules),
            self.asked.clone(),
            Arc::clone(&self.record),
            watch.clone(),
        );
        let decided = blocking(move || {
            let decision =
                Decision { source: &source, rules: &rules, asked: &asked, record: &record };
            Ok((decision.of(&listing, verdicts, &seen)?, listing))
        });
        let (Decided { mut synced, plan, mut facts }, listing) = decided.await?;
        synced.dry_run = self.asked.dry_run;
        synced.sort();
        if self.asked.dry_run {
            return Ok(synced);
        }
        if !plan.is_empty() {
            facts.extend(plan.links(&listing));
            let listing = Arc::new(listing);
            let event = EventKind::SyncPushed {
                source: self.shown.clone(),
                destination: BytePath::new(self.dest.bytes()),
                written: synced.sent + synced.made + synced.modes,
                removed: synced.removed,
                bytes: synced.bytes,
            };
            let (sent, bytes) = self.change(listing, plan, missing, &event, watch).await?;
            synced.bytes = bytes;
            // What was written stands; that its stamps are not known costs time at the next push.
            if let Ok(stamps) = self.stamp(&mut session, &sent).await {
                facts.extend(learned(sent, &stamps));
            }
        }
        let files = synced.sent + synced.unchanged;
        Arc::make_mut(&mut self.record).learn(facts, files);
        Ok(synced)
    }

    async fn compare(&self, session: &mut SyncSession, watch: &Watch) -> Result<Compared> {
        let purpose = if self.asked.delete { Purpose::CompareBothWays } else { Purpose::Compare };
        let start = CompareStart { root: self.dest.bytes().into(), purpose: purpose.into() };
        let (directories, inputs) = mpsc::channel(WINDOW);
        let mut listing = Listing::new(directories, Arc::clone(&self.record));
        let counted = listing.counter();
        let (source, rules, entering, seen) = (
            Arc::clone(&self.source),
            Arc::clone(&self.rules),
            Arc::clone(&self.entering),
            watch.clone(),
        );
        let listed = tokio::task::spawn_blocking(move || {
            let on_enter: OnEnter<'_> = &*entering;
            let scanned = source.scan(&rules, on_enter, &seen, |directory| listing.add(directory));
            listing.finish(scanned)
        });
        let mut verdicts = Verdicts::default();
        let compared = session
            .compare(start, inputs, |output| verdicts.take(output, counted.load(Ordering::Acquire)))
            .await;
        // Its own failure has come through the comparison.
        let listed = listed.await.map_err(|error| {
            Error::new(ErrorCode::Internal, "a background task of pyro failed")
                .with_cause(error.to_string())
        })?;
        let missing = compared?.missing;
        Ok(Compared { listing: listed?, verdicts, missing })
    }

    async fn change(
        &self,
        listing: Arc<Listing>,
        plan: decide::Plan,
        missing: u32,
        event: &EventKind,
        watch: &Watch,
    ) -> Result<(Vec<Sent>, u64)> {
        let senseless = || crate::agent::misbehaved("the machine has no such tree");
        let (root, prefix) = self.dest.divide(missing).ok_or_else(senseless)?;
        let (changes, outputs) = mpsc::channel(WINDOW);
        // Whoever takes this first decides: an interrupt, or the commit.
        let decided = Arc::new(AtomicBool::new(false));
        let sender = changes::Sender {
            source: Arc::clone(&self.source),
            prefix: prefix.to_vec(),
            changes,
            committing: Arc::clone(&decided),
            watch: watch.clone(),
            batch: changes::Batch::default(),
        };
        let sending = tokio::task::spawn_blocking(move || sender.send(&listing, &plan));
        let interrupt = async {
            watch.interrupt().triggered().await;
            if decided.swap(true, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        };
        let root = BytePath::new(root);
        tokio::select! {
            changed = self.transact(&root, event, outputs) => changed?,
            () = interrupt => return Err(interrupted()),
        }
        sending.await.map_err(|error| {
            Error::new(ErrorCode::Internal, "a background task of pyro failed")
                .with_cause(error.to_string())
        })?
    }

    /// Makes all changes that come, the last of which commits, or none.
    async fn transact(
        &self,
        root: &BytePath,
        event: &EventKind,
        mut changes: mpsc::Receiver<Result<Change>>,
    ) -> Result<()> {
        let mut transaction = TreeTransaction::begin(&self.dir, root).await?;
        while let Some(change) = changes.recv().await {
            match change? {
                Change::Commit(commit) => {
                    transaction.note(event).await?;
                    return transaction.commit(commit.dry_run).await?.done();
                }
                change => transaction.change(change).await?,
            }
        }
        Err(Error::new(ErrorCode::Internal, "the changes did not come whole"))
    }

    /// The stamps of what was sent, as far as nobody has written to it since.
    async fn stamp(
        &self,
        session: &mut SyncSession,
        sent: &[Sent],
    ) -> Result<HashMap<u32, GuestStamp>> {
        let start = CompareStart { root: self.dest.bytes().into(), purpose: Purpose::Stamp.into() };
        let directories = listing::to_stamp(sent);
        let (sender, inputs) = mpsc::channel(WINDOW);
        let feeding = tokio::spawn(async move {
            for directory in directories {
                if sender.send(Ok(directory)).await.is_err() {
                    break;
                }
            }
        });
        let count = u32::try_from(sent.len()).unwrap_or(u32::MAX);
        let mut verdicts = Verdicts::default();
        let compared = session.compare(start, inputs, |output| verdicts.take(output, count)).await;
        feeding.abort();
        compared?;
        Ok(verdicts
            .digests
            .into_iter()
            .filter_map(|(number, (_, stamp))| Some((number, stamp?)))
            .collect())
    }
}

struct Compared {
    listing: Listing,
    verdicts: Verdicts,
    missing: u32,
}

fn learned(
    sent: Vec<Sent>,
    stamps: &HashMap<u32, GuestStamp>,
) -> impl Iterator<Item = (Vec<u8>, Fact)> {
    let stamps: Vec<Option<GuestStamp>> =
        (0..).take(sent.len()).map(|number| stamps.get(&number).copied()).collect();
    sent.into_iter()
        .zip(stamps)
        .map(|(sent, guest)| (sent.path, Fact { sha256: sent.sha256, host: sent.stamp, guest }))
}
