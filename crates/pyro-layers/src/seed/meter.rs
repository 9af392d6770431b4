//! Counting, reporting and stopping, the same for every kind of seed.

use std::time::{Duration, Instant};

use pyro_contract::path::BytePath;
use pyro_contract::progress::{Progress, Report, Unit};

use super::{SeedReport, Skipped};
use crate::erofs::Source;
use crate::layer::{LayerError, Result};

/// How often progress is reported at most.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Keeps the count of a packing, and ends it when the user has had enough.
pub(super) struct Meter<'a> {
    progress: &'a dyn Progress,
    stage: &'static str,
    total: Option<u64>,
    reported: Instant,
    report: SeedReport,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a dyn Progress, stage: &'static str) -> Self {
        progress.stage(stage);
        Self {
            progress,
            stage,
            total: None,
            reported: Instant::now(),
            report: SeedReport::default(),
        }
    }

    /// Says how many entries there will be, once that is known.
    pub(super) fn expect(&mut self, total: u64) {
        self.total = Some(total);
    }

    /// Counts an entry with `bytes` of content.
    pub(super) fn entry(&mut self, bytes: u64) -> Result<()> {
        self.report.entries += 1;
        self.report.bytes += bytes;
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            self.progress.report(Report {
                stage: self.stage.to_owned(),
                done: self.report.entries,
                total: self.total,
                unit: Unit::Items,
            });
        }
        self.check()
    }

    /// Notes something that is left out.
    pub(super) fn skip(&mut self, path: &[u8], reason: &'static str) {
        self.report.skipped.push(Skipped { path: BytePath::new(path), reason });
    }

    /// [`LayerError::Cancelled`] once the user has had enough.
    pub(super) fn check(&self) -> Result<()> {
        if self.progress.cancelled() { Err(LayerError::Cancelled) } else { Ok(()) }
    }

    /// A source that ends with [`LayerError::Cancelled`] once the user has had enough, also in the
    /// middle of one large file.
    pub(super) fn watch<S: Source>(&self, source: S) -> Watched<'a, S> {
        Watched { source, progress: self.progress }
    }

    pub(super) fn finish(self) -> SeedReport {
        self.report
    }
}

/// See [`Meter::watch`].
pub(super) struct Watched<'a, S> {
    source: S,
    progress: &'a dyn Progress,
}

impl<S> Watched<'_, S> {
    pub(super) fn into_inner(self) -> S {
        self.source
    }
}

impl<S: Source> Source for Watched<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        self.source.read(buffer)
    }

    fn skip_hole(&mut self, limit: u64) -> Result<u64> {
        self.source.skip_hole(limit)
    }
}
