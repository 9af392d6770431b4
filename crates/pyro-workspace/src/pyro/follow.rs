//! Following a workspace: what happens in it, and what its commands write, as it comes.

use std::collections::{BTreeMap, VecDeque};

use pyro_contract::Result;
use pyro_contract::exec::{CommandInfo, Stream};
use pyro_contract::journal::{Event, EventKind};
use pyro_contract::name::WorkspaceRef;

use super::{Pyro, blocking};
use crate::client;
use crate::home::WorkspaceDir;
use crate::journal::{self, Range, Wanted, Which};
use crate::reconcile;

/// How much of one command is read before the next one's turn.
const TURN: usize = 64 << 10;

/// From where to follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FollowFrom {
    /// Events with a higher number.
    pub after: u64,
    /// Only this command.
    pub sequence: Option<u64>,
}

/// Something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Something happened.
    Event(Event),
    /// A command wrote something.
    Output {
        /// Its number.
        sequence: u64,
        /// To which stream.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// A part of a command's output is not kept.
    Dropped {
        /// Its number.
        sequence: u64,
        /// How much.
        bytes: u64,
    },
    /// A command has ended, and all that it wrote came before this.
    Ended(Box<CommandInfo>),
}

/// Somebody who follows a workspace. He reads the journal for himself, and is told when there is
/// something new in it; so he may be as slow as he likes.
#[derive(Debug)]
pub struct Follower {
    dir: WorkspaceDir,
    bell: Option<client::Bell>,
    from: FollowFrom,
    /// The commands that may still write, and how far each was read.
    open: BTreeMap<u64, u64>,
    found: VecDeque<Followed>,
    /// There is more to be read at once.
    behind: bool,
    stopped: bool,
}

impl Pyro {
    /// Follows a workspace until it stops; of one that does not run, what is there already. Commands
    /// that run now are followed from the beginning of their output.
    pub async fn follow(&self, workspace: &WorkspaceRef, from: FollowFrom) -> Result<Follower> {
        let (dir, record) = self.find(workspace).await?;
        let (file, live) = (dir.journal_file(), record.state.is_running());
        let open = blocking(move || match from.sequence {
            Some(sequence) => journal::command(&file, sequence, live).map(|one| vec![one]),
            None => journal::commands(&file, Wanted { open: true, ..Wanted::default() }, live),
        })
        .await?;
        let bell = match live {
            true => client::bell(&dir).await.ok(),
            false => None,
        };
        Ok(Follower {
            stopped: bell.is_none(),
            dir,
            bell,
            from,
            open: open.into_iter().map(|command| (command.sequence, 0)).collect(),
            found: VecDeque::new(),
            behind: true,
        })
    }
}

impl Follower {
    /// What came next; `None` once the workspace has stopped, or the one command has ended.
    pub async fn next(&mut self) -> Result<Option<Followed>> {
        loop {
            if let Some(next) = self.found.pop_front() {
                return Ok(Some(next));
            }
            if self.from.sequence.is_some() && self.open.is_empty() {
                return Ok(None);
            }
            if !self.behind {
                let Some(bell) = self.bell.as_mut().filter(|_| !self.stopped) else {
                    return Ok(None);
                };
                // One last look at what was written before the end.
                self.stopped = !bell.rung().await;
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        let (dir, from, open) = (self.dir.clone(), self.from, std::mem::take(&mut self.open));
        let read = blocking(move || read(&dir, from, open)).await?;
        self.behind = read.behind;
        self.open = read.open;
        self.from.after = read.after;
        self.found = read.found;
        Ok(())
    }
}

struct Read {
    after: u64,
    open: BTreeMap<u64, u64>,
    found: VecDeque<Followed>,
    behind: bool,
}

fn read(dir: &WorkspaceDir, from: FollowFrom, open: BTreeMap<u64, u64>) -> Result<Read> {
    let file = dir.journal_file();
    let live = reconcile::load(dir)?.is_some_and(|record| record.state.is_running());
    let mut read = Read { after: from.after, open, found: VecDeque::new(), behind: false };
    if from.sequence.is_none() {
        let which = Which { after: from.after, ..Which::default() };
        for event in journal::events(&file, which)? {
            read.after = event.id;
            if let EventKind::CommandStarted { sequence, .. } = event.kind {
                read.open.entry(sequence).or_insert(0);
            }
            read.found.push_back(Followed::Event(event));
        }
    }
    let turns: Vec<(u64, u64)> = read.open.iter().map(|(key, at)| (*key, *at)).collect();
    for (sequence, position) in turns {
        // In this order: a command that has ended by now has written all.
        let Ok(command) = journal::command(&file, sequence, live) else {
            // Dropped with the oldest.
            read.open.remove(&sequence);
            continue;
        };
        let range = Range { from: position, at_most: TURN, stream: None };
        let page = journal::page(&file, sequence, range)?;
        if page.dropped > 0 {
            read.found.push_back(Followed::Dropped { sequence, bytes: page.dropped });
        }
        for piece in page.pieces {
            let (stream, bytes) = (piece.stream, piece.bytes);
            read.found.push_back(Followed::Output { sequence, stream, bytes });
        }
        read.open.insert(sequence, page.next);
        if !page.at_end {
            read.behind = true;
        } else if !command.running {
            read.open.remove(&sequence);
            read.found.push_back(Followed::Ended(Box::new(command)));
        }
    }
    Ok(read)
}
