//! The store with a bootstrap that makes tiny environments at once.

mod concurrency;
mod damage;
mod pruning;
mod templates;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pyro_contract::progress::{Report, Silent};
use tempfile::TempDir;

use super::*;
use crate::bootstrap::Sink;

/// What the fake has been asked for, and how it should behave.
#[derive(Debug, Default)]
struct Script {
    images: AtomicUsize,
    kernels: AtomicUsize,
    fails: AtomicBool,
    /// Milliseconds that an image takes.
    takes: AtomicUsize,
    /// Bumped to make different packages, as the mirror does over time.
    day: AtomicUsize,
}

struct Fake(Arc<Script>);

impl Bootstrap for Fake {
    fn root_filesystem(
        &self,
        environment: &EnvironmentRef,
        _scratch: &Path,
        sink: Sink<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        self.0.images.fetch_add(1, Ordering::SeqCst);
        progress.stage("downloading packages");
        let takes = self.0.takes.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(u64::try_from(takes).unwrap()));
        let day = self.0.day.load(Ordering::SeqCst);
        let status = format!("Package: bash\nStatus: install ok installed\nVersion: 5.{day}\n");
        let archive = tar(&[
            ("./etc/name", environment.as_str().as_bytes()),
            ("./var/lib/dpkg/status", status.as_bytes()),
        ]);
        sink(&mut archive.as_slice())?;
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(EnvironmentError::Bootstrap {
                what: environment.to_string(),
                cause: "E: no".to_owned(),
                hint: "try again",
            });
        }
        Ok(())
    }

    fn kernel(&self, _scratch: &Path, sink: Sink<'_>, _: &dyn Progress) -> Result<()> {
        self.0.kernels.fetch_add(1, Ordering::SeqCst);
        let release = format!("6.1.0-{}", self.0.day.load(Ordering::SeqCst));
        sink(&mut kernel::fake_package(&release).as_slice())
    }
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

struct Lab {
    home: TempDir,
    script: Arc<Script>,
    store: Store,
}

impl Lab {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let script = Arc::new(Script::default());
        let store =
            Store::with_bootstrap(home.path(), Box::new(Fake(Arc::clone(&script)))).unwrap();
        Self { home, script, store }
    }

    /// A store over the same directory, as another process would have it.
    fn another(&self) -> Store {
        Store::with_bootstrap(self.home.path(), Box::new(Fake(Arc::clone(&self.script)))).unwrap()
    }

    fn images_made(&self) -> usize {
        self.script.images.load(Ordering::SeqCst)
    }

    fn kernels_made(&self) -> usize {
        self.script.kernels.load(Ordering::SeqCst)
    }

    /// Names in a directory of the store, without the files at its top.
    fn objects(&self, shelf: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.home.path().join(shelf)) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }
}

#[derive(Debug, Default)]
struct Recorder {
    stages: Mutex<Vec<String>>,
    cancelled: AtomicBool,
}

impl Recorder {
    fn heard(&self, words: &str) -> bool {
        self.stages.lock().unwrap().iter().any(|stage| stage.contains(words))
    }
}

impl Progress for Recorder {
    fn report(&self, report: Report) {
        self.stages.lock().unwrap().push(report.stage);
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

fn debian() -> EnvironmentRef {
    EnvironmentRef::default()
}

fn base() -> EnvironmentRef {
    "debian:12-base".parse().unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_pulled_is_there_and_made_once() {
    let lab = Lab::new();
    assert!(lab.store.get(&debian()).unwrap().is_none());
    let pulled = lab.store.pull(&debian(), &Silent).unwrap();
    let again = lab.another().pull(&debian(), &Silent).unwrap();
    assert_eq!((pulled.digest, pulled.image), (again.digest, again.image.clone()));
    assert_eq!((lab.images_made(), lab.kernels_made()), (1, 1));
    assert!(again.image.is_file() && again.kernel.vmlinux.is_file());
    assert_eq!(again.kernel.release, "6.1.0-0");
    assert_eq!(lab.objects("images").len(), 1, "no partial is left");
}

#[test]
fn environments_share_the_kernel() {
    let lab = Lab::new();
    let one = lab.store.pull(&debian(), &Silent).unwrap();
    let two = lab.store.pull(&base(), &Silent).unwrap();
    assert_eq!(one.kernel.digest, two.kernel.digest);
    assert_ne!(one.digest, two.digest);
    assert_eq!(lab.kernels_made(), 1);
}

#[test]
fn files_are_readable_by_another_user_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    let boot = lab.store.boot_image(&environment.kernel, b"agent").unwrap();
    for file in [&environment.image, &boot.kernel, &boot.initramfs] {
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file), 0o644, "{}", file.display());
        assert_eq!(mode(file.parent().unwrap()), 0o755);
        assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o755);
    }
}

#[test]
fn a_list_shows_what_is_here_and_what_could_be() {
    let lab = Lab::new();
    lab.store.pull(&debian(), &Silent).unwrap();
    let list = lab.store.list().unwrap();
    assert_eq!(list.len(), EnvironmentRef::known().count());
    for info in list {
        assert_eq!(info.cached, info.name == debian());
        assert_eq!(info.cached, info.digest.is_some());
        assert!(!info.description.is_empty());
    }
}

#[test]
fn an_inspection_knows_the_packages() {
    let lab = Lab::new();
    let absent = lab.store.inspect(&debian()).unwrap();
    assert!(!absent.info.cached && absent.packages.is_empty());
    lab.store.pull(&debian(), &Silent).unwrap();
    let details = lab.store.inspect(&debian()).unwrap();
    assert_eq!(details.info.package_count, Some(1));
    assert_eq!((&*details.packages[0].name, &*details.packages[0].version), ("bash", "5.0"));
}

#[test]
fn a_failed_bootstrap_leaves_nothing() {
    let lab = Lab::new();
    lab.script.fails.store(true, Ordering::SeqCst);
    let error = pyro_contract::Error::from(lab.store.pull(&debian(), &Silent).unwrap_err());
    assert_eq!(error.code, pyro_contract::ErrorCode::EnvironmentUnavailable);
    assert_eq!((error.cause.as_deref(), error.hint.as_deref()), (Some("E: no"), Some("try again")));
    assert!(lab.objects("images").is_empty());
    assert!(lab.store.get(&debian()).unwrap().is_none());
}

#[test]
fn a_refresh_takes_new_packages_and_leaves_the_old_image_to_its_workspaces() {
    let lab = Lab::new();
    let old = lab.store.pull(&debian(), &Silent).unwrap();
    lab.script.day.store(1, Ordering::SeqCst);
    let new = lab.store.refresh(&debian(), &Silent).unwrap();
    assert_ne!(old.digest, new.digest);
    assert_eq!(new.kernel.release, "6.1.0-1");
    let pinned = lab.store.pinned(&debian(), &old.digest, &old.kernel.digest).unwrap().unwrap();
    assert_eq!(pinned.image, old.image);
    assert_eq!(lab.store.get(&debian()).unwrap().unwrap().digest, new.digest);
}

#[test]
fn a_boot_image_follows_the_agent_and_the_kernel() {
    let lab = Lab::new();
    let kernel = lab.store.pull(&debian(), &Silent).unwrap().kernel;
    let one = lab.store.boot_image(&kernel, b"agent 1").unwrap();
    let same = lab.another().boot_image(&kernel, b"agent 1").unwrap();
    let other = lab.store.boot_image(&kernel, b"agent 2").unwrap();
    assert_eq!(one.initramfs, same.initramfs);
    assert_ne!(one.digest, other.digest);
    let bytes = read(&one.initramfs);
    assert!(bytes.windows(7).any(|window| window == b"agent 1"));
}
