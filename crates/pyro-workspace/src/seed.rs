//! From what the user wrote after `--seed-…` to the baseline image.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::Path;

use pyro_contract::workspace::{Seed, SeedStatus};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_layers::erofs::{Content, ErofsWriter, NewNode};
use pyro_layers::seed::{ArchiveKind, GitSeed, SeedReport, pack_archive, pack_directory, pack_git};

use crate::watch::Watch;

/// Of what was left out, so much is named in the record.
const NAMED_SKIPS: usize = 100;

/// Refuses, before anything is made for it, a seed that is plainly not there.
pub(crate) fn check(seed: &Seed) -> Result<()> {
    match seed {
        Seed::Empty => Ok(()),
        Seed::Path { path } => match fs::metadata(path) {
            Ok(meta) if meta.is_dir() || meta.is_file() => Ok(()),
            Ok(_) => Err(invalid(path, "it is neither a directory nor a file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(invalid(path, "there is no such file or directory"))
            }
            Err(error) => Err(Error::io(format!("cannot seed from {path}"), &error)),
        },
        Seed::Git { .. } => git_seed(seed).map(drop),
    }
}

/// The seed with its host path made absolute, for the record.
pub(crate) fn absolute(seed: Seed) -> Result<Seed> {
    let resolve = |path: &str| {
        std::path::absolute(path)
            .map_err(|error| Error::io(format!("cannot seed from {path}"), &error))
            .map(|path| path.to_string_lossy().into_owned())
    };
    Ok(match seed {
        Seed::Path { path } => Seed::Path { path: resolve(&path)? },
        Seed::Git { repository, reference } if Path::new(&repository).exists() => {
            Seed::Git { repository: resolve(&repository)?, reference }
        }
        other => other,
    })
}

/// Packs a seed into a new image at `image`; `scratch` is a directory for what a fetch leaves.
pub(crate) fn pack(seed: &Seed, image: &Path, scratch: &Path, watch: &Watch) -> Result<SeedStatus> {
    let file = File::create_new(image)
        .map_err(|error| Error::io(format!("cannot create {}", image.display()), &error))?;
    let mut writer = ErofsWriter::create(file)?;
    let mut commit = None;
    let report = match seed {
        Seed::Empty => {
            let now = jiff::Timestamp::now().as_second();
            writer.add(b"", NewNode::of_root(0o755, now), Content::Directory)?;
            SeedReport::default()
        }
        Seed::Path { path } if Path::new(path).is_dir() => {
            pack_directory(Path::new(path), &mut writer, watch)?
        }
        Seed::Path { path } => pack_file(path, &mut writer, watch)?,
        Seed::Git { .. } => {
            let packed = pack_git(&git_seed(seed)?, scratch, &mut writer, watch)?;
            commit = Some(packed.commit);
            packed.report
        }
    };
    writer.finish()?;
    // The baseline is what every later diff is measured against.
    File::open(image)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io(format!("cannot write {}", image.display()), &error))?;
    let name =
        |skipped: &pyro_layers::seed::Skipped| format!("{}: {}", skipped.path, skipped.reason);
    Ok(SeedStatus {
        source: seed.clone(),
        commit,
        entries: report.entries,
        bytes: report.bytes,
        skipped: report.skipped.iter().take(NAMED_SKIPS).map(name).collect(),
        skipped_count: report.skipped.len() as u64,
    })
}

fn pack_file(path: &str, writer: &mut ErofsWriter, watch: &Watch) -> Result<SeedReport> {
    let failed = |error: &std::io::Error| Error::io(format!("cannot read {path}"), error);
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let mut magic = [0; 265];
    let mut head = Vec::new();
    (&mut file).take(magic.len() as u64).read_to_end(&mut head).map_err(|error| failed(&error))?;
    magic[..head.len()].copy_from_slice(&head);
    file.rewind().map_err(|error| failed(&error))?;
    if !is_archive(&magic) {
        return Err(invalid(
            path,
            "it is neither a directory nor a .tar, .tar.gz or .tar.zst archive",
        ));
    }
    Ok(pack_archive(file, writer, ArchiveKind::Seed, watch)?)
}

/// gzip (RFC 1952), zstd (RFC 8878), or `ustar` in the first header (POSIX and GNU tar).
pub(crate) fn is_archive(magic: &[u8; 265]) -> bool {
    magic.starts_with(&[0x1f, 0x8b])
        || magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || &magic[257..262] == b"ustar"
}

fn git_seed(seed: &Seed) -> Result<GitSeed> {
    let Seed::Git { repository, reference } = seed else {
        return Err(Error::new(ErrorCode::Internal, "not a git seed"));
    };
    let text = match reference {
        Some(reference) => format!("{repository}#{reference}"),
        None => repository.clone(),
    };
    Ok(GitSeed::parse(&text)?)
}

fn invalid(path: &str, reason: &str) -> Error {
    Error::new(ErrorCode::InvalidSeed, format!("cannot seed from {path}: {reason}"))
        .with_hint("--seed-path takes a directory or an archive, --seed-git a repository")
}
