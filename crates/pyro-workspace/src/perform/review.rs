//! Reviews in one piece: the workspace is held, read and let go within the call.

use std::io::{self, Write};
use std::path::Path;

use pyro_contract::diff::{DiffRequest, WorkspaceDiff};
use pyro_contract::operation::{ExportRequest, Exported};
use pyro_contract::{Error, ErrorCode, Result};

use crate::pyro::{Pyro, blocking};
use crate::review::{ExportTarget, Review};
use crate::watch::Watch;

impl Pyro {
    /// What changed in `/workspace` since it was seeded, with as much of the patch as is wanted.
    pub async fn diff(&self, request: &DiffRequest, watch: &Watch) -> Result<WorkspaceDiff> {
        let review = self.review(&request.workspace).await?;
        let (watch, room) = (watch.clone(), request.patch.then_some(request.max_patch_bytes));
        read(review, move |review| match room {
            Some(room) => {
                let mut patch = Capped::new(room);
                let diff = review.patch(&mut patch, &watch)?;
                Ok(WorkspaceDiff::with_patch(diff, patch.bytes, patch.omitted))
            }
            // Written to nowhere, because what a patch cannot carry is found by writing one.
            None => Ok(WorkspaceDiff {
                diff: review.patch(&mut io::sink(), &watch)?,
                ..WorkspaceDiff::default()
            }),
        })
        .await
    }

    /// Copies a file or tree out of a workspace, to a path of the host.
    pub async fn export(&self, request: &ExportRequest, watch: &Watch) -> Result<Exported> {
        if request.output == "-" {
            return Err(Error::new(
                ErrorCode::Unsupported,
                "an archive on stdout is for the command line",
            )
            .with_hint("name a path for `output`"));
        }
        let review = self.review(&request.workspace).await?;
        let (request, watch) = (request.clone(), watch.clone());
        read(review, move |review| {
            let target =
                ExportTarget::Path { path: Path::new(&request.output), force: request.force };
            review.export(request.path.as_bytes(), target, &watch)
        })
        .await
    }
}

/// Reads off the async threads, and makes sure that the workspace stood still all the while.
async fn read<T: Send + 'static>(
    review: Review,
    work: impl FnOnce(&Review) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (result, review) = blocking(move || Ok((work(&review)?, review))).await?;
    review.release().await?;
    Ok(result)
}

/// Keeps the first bytes and counts the rest.
struct Capped {
    bytes: Vec<u8>,
    room: u64,
    omitted: u64,
}

impl Capped {
    fn new(room: u64) -> Self {
        Self { bytes: Vec::new(), room, omitted: 0 }
    }
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (kept, rest) = bytes.split_at(fits);
        self.bytes.extend_from_slice(kept);
        self.room -= kept.len() as u64;
        self.omitted += rest.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_cap_is_counted() {
        let mut capped = Capped::new(5);
        capped.write_all(b"abc").unwrap();
        capped.write_all(b"defg").unwrap();
        assert_eq!((capped.bytes, capped.omitted), (b"abcde".to_vec(), 2));
    }
}
