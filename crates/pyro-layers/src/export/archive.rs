//! Trees as tar archives.

use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use pyro_contract::{diff::FileKind, path::BytePath, progress::Progress};
use tar::{Builder, EntryType, Header};

use super::{
    Exported,
    plan::{Plan, Sink},
};
use crate::{
    content::Content,
    layer::{Layer, LayerError, Node, Result},
};

/// Writes a directory, file or link as a tar archive, in the order of names. Everything in it lies
/// below `name`. Owners are kept as they are in the layer, times are, and modes but for the setuid
/// and setgid bits. Memory is bounded, whatever the tree.
///
/// # Errors
/// [`LayerError::UnsafeTarget`] if `name` is no plain name, `TooLarge` for a tree beyond bounds,
/// `Io` if `out` fails, or `Cancelled`.
pub fn export_to_tar(
    layer: &dyn Layer,
    node: Node,
    name: &[u8],
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Exported> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| b"/\0".contains(byte)) {
        return Err(LayerError::UnsafeTarget(format!(
            "an archive cannot begin with the name '{}'",
            BytePath::new(name)
        )));
    }
    let mut archive = Archive { builder: Builder::new(out), path: PathBuf::new(), progress };
    let exported = match Plan::new(layer, progress).run(name, node, &mut archive) {
        Ok(exported) => exported,
        Err(error) => {
            // Dropping the builder would end the archive properly, as if it were complete.
            std::mem::forget(archive);
            return Err(error);
        }
    };
    archive
        .builder
        .into_inner()
        .and_then(|out| out.flush())
        .map_err(LayerError::io("cannot write the archive"))?;
    Ok(exported)
}

struct Archive<'w> {
    builder: Builder<&'w mut dyn Write>,
    path: PathBuf,
    progress: &'w dyn Progress,
}

impl Archive<'_> {
    fn header(content: &Content<'_>, kind: EntryType) -> Header {
        let meta = content.meta();
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(u32::from(meta.mode & 0o1777));
        header.set_uid(u64::from(meta.uid));
        header.set_gid(u64::from(meta.gid));
        // The format has no time before the epoch.
        header.set_mtime(u64::try_from(meta.mtime).unwrap_or(0));
        header.set_size(if kind == EntryType::Regular { meta.size } else { 0 });
        header
    }

    fn append(&mut self, path: &Path, file: &Content<'_>) -> Result<()> {
        let failed = |error: io::Error| match error.downcast::<LayerError>() {
            Ok(inner) => inner,
            Err(error) => {
                LayerError::Io { attempt: "cannot write the archive".to_owned(), source: error }
            }
        };
        match file.meta().kind {
            FileKind::Symlink => {
                let target = file.target()?.unwrap_or_else(|| BytePath::new(&b""[..]));
                let mut header = Self::header(file, EntryType::Symlink);
                // Not by `append_link`, which tidies paths up: a link's bytes are its own.
                let target = target.as_bytes();
                if header.set_link_name_literal(target).is_err() {
                    let extension = [("linkpath", target)];
                    self.builder.append_pax_extensions(extension).map_err(failed)?;
                }
                self.builder.append_data(&mut header, path, io::empty()).map_err(failed)
            }
            FileKind::File => {
                let mut header = Self::header(file, EntryType::Regular);
                let reader = Reader { file, offset: 0, progress: self.progress };
                self.builder.append_data(&mut header, path, reader).map_err(failed)
            }
            kind => {
                let kind =
                    if kind == FileKind::Fifo { EntryType::Fifo } else { EntryType::Directory };
                let mut header = Self::header(file, kind);
                self.builder.append_data(&mut header, path, io::empty()).map_err(failed)
            }
        }
    }
}

impl Sink for Archive<'_> {
    fn enter(&mut self, name: &[u8], dir: &Content<'_>) -> Result<()> {
        self.path.push(OsStr::from_bytes(name));
        // The slash at the end tells it from a file to those who read only names.
        let mut path = self.path.clone().into_os_string();
        path.push("/");
        self.append(Path::new(&path), dir)
    }

    fn leave(&mut self, _: &Content<'_>) -> Result<()> {
        self.path.pop();
        Ok(())
    }

    fn put(&mut self, name: &[u8], file: &Content<'_>) -> Result<()> {
        self.append(&self.path.join(OsStr::from_bytes(name)), file)
    }
}

/// A file's content as a stream that passes its own errors on.
struct Reader<'r, 'a> {
    file: &'r Content<'a>,
    offset: u64,
    progress: &'r dyn Progress,
}

impl Read for Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancelled() {
            return Err(io::Error::other(LayerError::Cancelled));
        }
        let count = self.file.fill(self.offset, buffer).map_err(io::Error::other)?;
        self.offset += count as u64;
        Ok(count)
    }
}
