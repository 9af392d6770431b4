//! The writable disk of a machine: a sparse file with an ext4 filesystem.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use pyro_layers::ext4::Ext4Layer;
use pyro_layers::overlay::{EmptyLayer, SubLayer, WithoutStages};
use pyro_layers::sparse::copy_sparse;
use pyro_layers::{Layer, LayerError};

use crate::program::find_program;
use crate::{EngineError, Result, Storage};

const MKFS: &str = "mkfs.ext4";

/// The same on every host, whatever its `mke2fs.conf` says, for the guest kernel and the host's
/// reader of this disk ([`Ext4Layer`]) must both know every feature. In particular no `orphan_file`
/// (Linux 5.15) and no `resize_inode` (blocks set aside to grow, which these disks do not).
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,\
    sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Inode tables and journal stay unwritten: the file is sparse and reads as zeroes. The journal is
/// small, for it holds what a small machine has in flight; but the smallest disks take less still.
const EXTENDED: &str = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";

/// One inode for 16 KiB, mke2fs's usual ratio.
const INODE_RATIO: u64 = 16 << 10;

fn journal_mib(disk_bytes: u64) -> u32 {
    if disk_bytes < 256 << 20 { 4 } else { 16 }
}

fn arguments(disk_mib: u32) -> [String; 13] {
    let journal = journal_mib(u64::from(disk_mib) << 20);
    [
        "-q".into(),
        "-F".into(),
        // No blocks reserved for root: nobody else uses this disk.
        "-m0".into(),
        "-b4096".into(),
        "-I256".into(),
        format!("-i{INODE_RATIO}"),
        "-O".into(),
        FEATURES.into(),
        "-E".into(),
        EXTENDED.into(),
        format!("-Jsize={journal}"),
        "-L".into(),
        "pyro".into(),
    ]
}

/// Makes the filesystem in a new file; leaves nothing behind if that fails.
///
/// `mkfs` is run once for each size: it flushes several times to the host's disk, which takes longer
/// than all else, and what it makes is mostly holes. Copies of one have its UUID and the seed of its
/// directories' hashes, which mean nothing to anybody but their own machine.
pub(crate) fn create(storage: &Path, disk_mib: u32, cache: &Path) -> Result<()> {
    let mkfs = find_program(MKFS)
        .ok_or(EngineError::MissingProgram { program: MKFS, package: "e2fsprogs" })?;
    let empty = Empty::of(&mkfs, disk_mib, cache);
    if let Some(empty) = &empty
        && empty.copy_to(storage)?
    {
        return Ok(());
    }
    make(&mkfs, storage, disk_mib)?;
    if let Some(empty) = &empty
        && let Err(error) = empty.keep(storage)
    {
        tracing::debug!(%error, "the empty disk is not kept");
    }
    Ok(())
}

/// What the names of kept empty disks begin with.
pub(crate) const KEPT: &str = "disk-";

/// A disk on which nothing was written yet, kept to be copied.
struct Empty(PathBuf);

impl Empty {
    /// As this program makes it in this size.
    fn of(mkfs: &Path, disk_mib: u32, cache: &Path) -> Option<Self> {
        let meta = fs::metadata(mkfs).ok()?;
        let program = format!("{} {} {}", meta.len(), meta.mtime(), mkfs.display());
        let key = crc32c::crc32c(arguments(disk_mib).join(" ").as_bytes());
        let key = crc32c::crc32c_append(key, program.as_bytes());
        Some(Self(cache.join(format!("{KEPT}{disk_mib}-{key:08x}"))))
    }

    /// False if there is none.
    fn copy_to(&self, storage: &Path) -> Result<bool> {
        let Ok(empty) = File::open(&self.0) else { return Ok(false) };
        let file = new_file(storage)?;
        let copied = copy_sparse(&empty, &file);
        if copied.is_err() {
            let _ = fs::remove_file(storage);
        }
        copied?;
        Ok(true)
    }

    /// Keeps a copy of a new disk.
    fn keep(&self, storage: &Path) -> Result<()> {
        let failed = || EngineError::io(format!("cannot create {}", self.0.display()));
        if let Some(cache) = self.0.parent() {
            match fs::DirBuilder::new().mode(0o700).create(cache) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed()(error));
                }
                _ => {}
            }
        }
        let unfinished = self.0.with_extension(std::process::id().to_string());
        let kept = File::create(&unfinished).map_err(failed()).and_then(|file| {
            copy_sparse(&File::open(storage).map_err(failed())?, &file)?;
            // It is trusted from now on, also after a loss of power.
            file.sync_all().and_then(|()| fs::rename(&unfinished, &self.0)).map_err(failed())
        });
        kept.inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
        })
    }
}

fn new_file(storage: &Path) -> Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(storage)
        .map_err(EngineError::io(format!("cannot create {}", storage.display())))
}

fn make(mkfs: &Path, storage: &Path, disk_mib: u32) -> Result<()> {
    let file = new_file(storage)?;
    let made = fill(mkfs, &file, storage, disk_mib);
    if made.is_err() {
        let _ = fs::remove_file(storage);
    }
    made
}

fn fill(mkfs: &Path, file: &File, storage: &Path, disk_mib: u32) -> Result<()> {
    file.set_len(u64::from(disk_mib) << 20)
        .map_err(EngineError::io(format!("cannot size {}", storage.display())))?;
    run(Command::new(mkfs).args(arguments(disk_mib)).arg(storage), storage)
}

/// Runs one of e2fsprogs on an image.
fn run(program: &mut Command, image: &Path) -> Result<()> {
    let name = program.get_program().to_owned();
    let output = program
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(EngineError::io(format!("cannot run {}", name.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // It says so only in words.
    if said.contains("No space left on device") {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        return Err(EngineError::io(format!("cannot make {}", image.display()))(full));
    }
    Err(EngineError::Storage { said })
}

/// Makes an ext4 filesystem of `bytes` with room for `inodes` files in an empty file, to be filled
/// by [`pyro_layers::ext4::image::fill`], which wants no journal; [`add_journal`] adds it then.
pub fn format_image(image: &Path, bytes: u64, inodes: u64) -> Result<()> {
    let mkfs = find_program(MKFS)
        .ok_or(EngineError::MissingProgram { program: MKFS, package: "e2fsprogs" })?;
    File::options()
        .write(true)
        .open(image)
        .and_then(|file| file.set_len(bytes))
        .map_err(EngineError::io(format!("cannot size {}", image.display())))?;
    let features = FEATURES.replace("has_journal,", "");
    let inodes = inodes.max(bytes / INODE_RATIO).to_string();
    let fixed = ["-q", "-F", "-m0", "-b4096", "-I256", "-O", &features, "-E", EXTENDED];
    run(Command::new(mkfs).args(fixed).args(["-L", "pyro", "-N", &inodes]).arg(image), image)
}

/// Gives an image the journal that a machine wants.
pub fn add_journal(image: &Path) -> Result<()> {
    const TUNE: &str = "tune2fs";
    let tune = find_program(TUNE)
        .ok_or(EngineError::MissingProgram { program: TUNE, package: "e2fsprogs" })?;
    let length = fs::metadata(image)
        .map_err(EngineError::io(format!("cannot read {}", image.display())))?
        .len();
    let size = format!("size={}", journal_mib(length));
    run(Command::new(tune).args(["-O", "has_journal", "-J", &size]).arg(image), image)
}

/// The two writable layers that the agent keeps on the disk. A machine that never came so far has
/// written nothing.
pub(crate) fn open(storage: &Path) -> Result<Storage> {
    let disk: Arc<dyn Layer> = Arc::new(Ext4Layer::open(storage)?);
    let mut unfinished = false;
    let mut layer = |path: &[u8]| -> Result<Arc<dyn Layer>> {
        match SubLayer::new(Arc::clone(&disk), path) {
            Ok(layer) => {
                let layer = WithoutStages(layer);
                unfinished |= layer.is_unfinished()?;
                Ok(Arc::new(layer))
            }
            Err(LayerError::NotFound(_)) => Ok(Arc::new(EmptyLayer)),
            Err(error) => Err(error.into()),
        }
    };
    let machine = layer(b"/machine/upper")?;
    let workspace = layer(b"/workspace/upper")?;
    Ok(Storage { machine, workspace, unfinished })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_disk_is_sparse_and_clean() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, cache) = (directory.path().join("disk"), directory.path().join("cache"));
        // The second of a size is a copy.
        for mib in [64, 10_240, 10_240] {
            create(&disk, mib, &cache).unwrap();
            let meta = fs::metadata(&disk).unwrap();
            assert_eq!(meta.len(), u64::from(mib) << 20);
            let taken = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
            assert!(taken < 8 << 20, "{taken}");
            let check = find_program("e2fsck").unwrap();
            let output = Command::new(check).arg("-fn").arg(&disk).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            fs::remove_file(&disk).unwrap();
        }
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
    }

    #[test]
    fn a_disk_is_never_made_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        fs::write(&disk, "precious").unwrap();
        let cache = directory.path().join("cache");
        assert!(create(&disk, 64, &cache).is_err());
        create(&directory.path().join("other"), 64, &cache).unwrap();
        assert!(create(&disk, 64, &cache).is_err());
        assert_eq!(fs::read(&disk).unwrap(), b"precious");
    }
}
