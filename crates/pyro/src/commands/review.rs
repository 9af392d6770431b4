//! `workspace diff` and `workspace export`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Seek as _, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use pyro_contract::diff::{Diff, DiffRequest};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::diffstat;
use pyro_layers::terminal::TerminalPatch;
use pyro_workspace::{Detail, ExportTarget, Pyro, Review, Watch};

use crate::ui::{Ui, write_stdout};
use tempfile::SpooledTempFile;

/// How to show a diff.
pub(super) enum DiffForm {
    Patch,
    PatchFile(PathBuf),
    Stat,
    NameOnly { nul: bool },
}

impl DiffForm {
    pub(super) fn new(stat: bool, name_only: bool, nul: bool, output: Option<PathBuf>) -> Self {
        match (stat, name_only, output) {
            (true, _, _) => Self::Stat,
            (_, true, _) => Self::NameOnly { nul },
            (_, _, Some(path)) => Self::PatchFile(path),
            _ => Self::Patch,
        }
    }
}

pub(super) async fn diff(
    pyro: &Pyro,
    workspace: &WorkspaceRef,
    form: DiffForm,
    ui: &Ui,
) -> Result<u8> {
    let review = pyro.review(workspace).await?;
    let bar = ui.progress();
    let watch = bar.watch();
    let (ui_of_worker, colour) = (*ui, ui.colour());
    let read = off_thread(move || {
        let read = Read::from(&review, &form, &watch)?;
        Ok((review, form, read))
    })
    .await;
    // The workspace goes on before anybody, perhaps a pager, has taken what was read of it.
    let (form, read) = match read {
        Ok((review, form, read)) => {
            review.release().await?;
            (form, read)
        }
        Err(error) => return Err(error),
    };
    bar.finish();
    let diff = off_thread(move || show(read, &form, &ui_of_worker, colour)).await?;
    for path in diff.not_in_patch.iter().take(20) {
        ui.note(&format!("a git patch cannot carry the change of {path}; `export` can"));
    }
    if diff.not_in_patch.len() > 20 {
        ui.note(&format!(
            "… nor those of {} more paths (--json lists them)",
            diff.not_in_patch.len() - 20
        ));
    }
    Ok(0)
}

/// The same as one JSON document.
pub(super) async fn diff_document(pyro: &Pyro, request: &DiffRequest, ui: &Ui) -> Result<u8> {
    let bar = ui.progress();
    let diff = pyro.diff(request, &bar.watch()).await;
    bar.finish();
    ui.print_json(&diff?).map(|()| 0)
}

/// Patches up to this size are kept in memory, larger ones in an unnamed file.
const SPOOL_BYTES: usize = 8 << 20;

/// What was read of a workspace.
struct Read {
    diff: Diff,
    patch: SpooledTempFile,
}

impl Read {
    fn from(review: &Review, form: &DiffForm, watch: &Watch) -> Result<Self> {
        let mut patch = SpooledTempFile::new(SPOOL_BYTES);
        let diff = match form {
            DiffForm::Stat => review.diff(Detail::Lines, watch)?,
            DiffForm::NameOnly { .. } => review.diff(Detail::Names, watch)?,
            DiffForm::Patch | DiffForm::PatchFile(_) => review.patch(&mut patch, watch)?,
        };
        patch.rewind().map_err(|error| Error::io("cannot keep the patch", &error))?;
        Ok(Self { diff, patch })
    }
}

fn show(mut read: Read, form: &DiffForm, ui: &Ui, colour: bool) -> Result<Diff> {
    if let DiffForm::PatchFile(path) = form {
        write_file(&mut read.patch, path)?;
    }
    if ui.json() {
        ui.print_json(&read.diff)?;
        // They are in the document.
        read.diff.not_in_patch.clear();
        return Ok(read.diff);
    }
    match form {
        DiffForm::Stat => write_stdout(diffstat::render(&read.diff, 80).as_bytes())?,
        DiffForm::NameOnly { nul } => {
            let mut names = Vec::new();
            diffstat::write_names(&read.diff, *nul, &mut names)
                .map_err(|error| Error::io("cannot list the names", &error))?;
            write_stdout(&names)?;
        }
        DiffForm::PatchFile(_) => {}
        DiffForm::Patch => {
            let mut stdout = Stdout::default();
            let written = if io::stdout().is_terminal() {
                // A hostile file must not drive the terminal; a pipe gets the very bytes.
                let mut shown = TerminalPatch::new(&mut stdout, colour);
                io::copy(&mut read.patch, &mut shown).and_then(|_| shown.finish().map(drop))
            } else {
                io::copy(&mut read.patch, &mut stdout).map(drop)
            };
            stdout.outcome(written.map_err(|error| Error::io("cannot show the patch", &error)))?;
        }
    }
    Ok(read.diff)
}

/// All of the patch, or no file.
fn write_file(patch: &mut SpooledTempFile, path: &Path) -> Result<()> {
    let failed = |error: &io::Error| {
        let made = Error::io(format!("cannot write {}", path.display()), error);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return made.with_hint("choose another name, or remove it first");
        }
        made
    };
    let mut file = File::create_new(path).map_err(|error| failed(&error))?;
    io::copy(patch, &mut file).map(drop).map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(&error)
    })
}

/// Stdout that remembers why it failed, so that a reader who has gone is told from a full disk.
#[derive(Default)]
struct Stdout {
    failed: Option<Error>,
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_stdout(bytes).map_err(|error| {
            self.failed = Some(error);
            io::Error::other("cannot write to stdout")
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stdout {
    fn outcome<T>(self, written: Result<T>) -> Result<T> {
        match self.failed {
            Some(error) => Err(error),
            None => written,
        }
    }
}

pub(super) async fn export(
    pyro: &Pyro,
    workspace: &WorkspaceRef,
    path: OsString,
    output: PathBuf,
    force: bool,
    ui: &Ui,
) -> Result<u8> {
    let to_stdout = output == Path::new("-");
    if to_stdout && ui.json() {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            "stdout cannot carry both the archive and the JSON document",
        )
        .with_hint("export to a path, or leave out --json"));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Error::new(ErrorCode::InvalidArgument, "a terminal cannot take an archive")
            .with_hint("pipe it: `… --output - | tar t`"));
    }
    let review = pyro.review(workspace).await?;
    let bar = ui.progress();
    let watch = bar.watch();
    let path = path.into_vec();
    let destination = output.clone();
    let exported = off_thread(move || {
        if to_stdout {
            let mut stdout = Stdout::default();
            let written = {
                let mut out = BufWriter::with_capacity(256 << 10, &mut stdout);
                review.export(&path, ExportTarget::Tar(&mut out), &watch).and_then(|exported| {
                    out.flush().map_err(|error| Error::io("cannot write the archive", &error))?;
                    Ok(exported)
                })
            };
            return Ok((stdout.outcome(written)?, review));
        }
        let target = ExportTarget::Path { path: &destination, force };
        Ok((review.export(&path, target, &watch)?, review))
    })
    .await;
    let exported = match exported {
        Ok((exported, review)) => review.release().await.map(|()| exported),
        Err(error) => Err(error),
    };
    bar.finish();
    let exported = exported?;
    if ui.json() {
        ui.print_json(&exported)?;
    }
    for path in &exported.skipped {
        ui.note(&format!("left out, because a host file cannot be that: {path}"));
    }
    if !to_stdout && !ui.json() {
        let shown = output.display();
        ui.note(&format!("{} files, {} bytes to {shown}", exported.files, exported.bytes));
    }
    Ok(0)
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorCode::Internal, "a background task failed")
            .with_cause(error.to_string()))
    })
}
