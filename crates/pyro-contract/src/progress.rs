//! Progress of anything that may take over a second, told by whoever works to whoever shows.

use serde::{Deserialize, Serialize};

/// What the numbers of a [`Report`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, packages, steps: plain things.
    Items,
}

/// One step forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What is being done, in the present tense: `packing the seed`.
    pub stage: String,
    /// How far it is.
    pub done: u64,
    /// Where it ends, if that is known.
    pub total: Option<u64>,
    /// What `done` and `total` count.
    pub unit: Unit,
}

/// Takes reports, and can say that the user has had enough.
pub trait Progress: Send + Sync {
    /// Something moved. Called often; must be cheap and must not block.
    fn report(&self, report: Report);

    /// True once the work should stop and undo what it has begun.
    fn cancelled(&self) -> bool {
        false
    }

    /// A stage without numbers.
    fn stage(&self, stage: &str) {
        self.report(Report { stage: stage.to_owned(), done: 0, total: None, unit: Unit::Items });
    }
}

/// Progress that nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: Report) {}
}
