//! The law of diff and patch: `git apply` of what was found on a copy of the seed gives the
//! workspace, and `git apply -R` gives the seed back.
//!
//! Random trees are changed by random operations through a real overlayfs, so that whiteouts and
//! opaque directories are the kernel's own. Where no mount namespace is to be had, the upper layer
//! is made up from the difference.

mod own;
mod tree;
mod world;

use std::{
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use pyro_contract::{diff::Diff, progress::Silent};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::write_patch;
use crate::{
    diff::{Detail, DiffOptions, summarize},
    export::export_to_path,
    hostdir::HostDirLayer,
    layer::Layer,
    namespace::in_mount_namespace,
    overlay::OverlayLayer,
};
use tree::{Tree, copy_tree};
use world::{Rng, World};

const CASES: u64 = 400;
const SEED: &str = "PYRO_TEST_SEED";

#[test]
fn apply_inverse() {
    in_mount_namespace(run_all);
}

fn run_all(overlayfs: bool) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let scratch = tempfile::tempdir().unwrap();
    if overlayfs {
        mount("none", scratch.path(), "tmpfs", MountFlags::empty(), None).unwrap();
    }
    let seeds = match env::var(SEED) {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) if overlayfs => (1..=CASES).collect(),
        // On a real disk instead of a tmpfs: slower.
        Err(_) => (1..=CASES / 4).collect(),
    };
    let (mut given_up, all) = (0, seeds.len());
    for seed in seeds {
        let case = Case { root: scratch.path().join(seed.to_string()), overlayfs };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.run(seed)));
        match result {
            Ok(flow) => given_up += usize::from(flow.is_break()),
            Err(_) => panic!("case {seed} failed; {SEED}={seed} runs it alone"),
        }
        fs::remove_dir_all(&case.root).unwrap();
    }
    assert!(given_up * 100 <= all, "git gave up on {given_up} of {all}");
    if overlayfs {
        unmount(scratch.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// One random tree and what becomes of it.
struct Case {
    root: PathBuf,
    overlayfs: bool,
}

impl Case {
    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Breaks off if git could not apply the patch for a reason of its own.
    fn run(&self, seed: u64) -> ControlFlow<()> {
        for name in ["lower", "upper", "work", "merged", "applied"] {
            fs::create_dir_all(self.dir(name)).unwrap();
        }
        let mut rng = Rng::new(seed);
        World::new(&self.dir("lower"), &mut rng).build();
        let seed_tree = Tree::read(&self.dir("lower"));

        self.mount();
        let mut world = World::new(&self.dir("merged"), &mut rng);
        let story = world.change();
        let workspace = Tree::read(&self.dir("merged"));

        let lower: Arc<dyn Layer> = Arc::new(HostDirLayer::open(&self.dir("lower")).unwrap());
        let upper: Arc<dyn Layer> = if self.overlayfs {
            Arc::new(HostDirLayer::open(&self.dir("upper")).unwrap())
        } else {
            Arc::new(tree::made_up_upper(&seed_tree, &workspace))
        };
        self.check_export(&lower, &upper, &workspace);
        let mut patch = Vec::new();
        let options = DiffOptions::default();
        let found = write_patch(&*upper, &*lower, &options, &Silent, &mut patch).unwrap();

        let told = || {
            let not_in_patch = &found.not_in_patch;
            let patch = String::from_utf8_lossy(&patch);
            let lines = patch.lines().filter(|line| !line.starts_with('z')).take(200);
            let patch: Vec<_> = lines.map(|line| format!("{:.100}", line.escape_debug())).collect();
            format!("{}\n{patch:#?}\nnot in patch: {not_in_patch:?}", story.join("\n"))
        };
        assert_eq!(tree::short(&found), seed_tree.changes(&workspace), "{}", told());
        check_counts(&found, &*upper, &*lower);

        copy_tree(&self.dir("lower"), &self.dir("applied"));
        self.unmount();
        git_apply(&self.dir("applied"), &patch, &[], &told)?;
        let applied = Tree::read(&self.dir("applied"));
        tree::assert_same(&applied, &workspace, &found.not_in_patch, None, &told);
        own::check(&self.dir("lower"), &self.dir("applied"), &patch, &told);
        own::check_renames(&self.root, &self.dir("lower"), &self.dir("applied"), &told)?;
        git_apply(&self.dir("applied"), &patch, &["-R"], &told)?;
        let reversed = Tree::read(&self.dir("applied"));
        tree::assert_same(&reversed, &seed_tree, &found.not_in_patch, Some(&workspace), &told);
        ControlFlow::Continue(())
    }

    /// The merged view, taken out, is what the mount shows.
    fn check_export(&self, lower: &Arc<dyn Layer>, upper: &Arc<dyn Layer>, workspace: &Tree) {
        let merged = OverlayLayer::new(vec![Arc::clone(upper), Arc::clone(lower)]).unwrap();
        let dest = self.dir("exported");
        export_to_path(&merged, merged.root(), &dest, false, &Silent).unwrap();
        assert!(Tree::read(&dest) == workspace.without_setuid());
    }

    fn mount(&self) {
        if !self.overlayfs {
            return copy_tree(&self.dir("lower"), &self.dir("merged"));
        }
        let [lower, upper, work] =
            ["lower", "upper", "work"].map(|name| self.dir(name).display().to_string());
        // As machines mount it. `userxattr` is for mounts inside of a user namespace.
        let user = if rustix::process::geteuid().is_root() && is_init_user_namespace() {
            "redirect_dir=off,metacopy=off,index=off"
        } else {
            "userxattr"
        };
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},{user}\0");
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap();
        mount("overlay", self.dir("merged"), "overlay", MountFlags::empty(), Some(options))
            .unwrap();
    }

    fn unmount(&self) {
        if self.overlayfs {
            unmount(self.dir("merged"), UnmountFlags::empty()).unwrap();
        }
    }
}

fn is_init_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295")
}

/// The numbers that come with the patch are those of a diff that was asked for them.
fn check_counts(with_patch: &Diff, upper: &dyn Layer, lower: &dyn Layer) {
    let options = DiffOptions { detail: Detail::Lines, ..DiffOptions::default() };
    let alone = summarize(upper, lower, &options, &Silent).unwrap();
    for (a, b) in with_patch.entries.iter().zip(&alone.entries) {
        assert_eq!(a, b);
    }
}

/// Breaks off where git itself gives up, with its own patches too: when a link has become a
/// directory, it looks for what is in the directory through the link, and stumbles over a link that
/// leads in circles, or to more links.
fn git_apply(
    dir: &Path,
    patch: &[u8],
    flags: &[&str],
    told: &dyn Fn() -> String,
) -> ControlFlow<()> {
    if patch.is_empty() {
        return ControlFlow::Continue(()); // git calls that an error
    }
    let file = dir.with_extension("patch");
    fs::write(&file, patch).unwrap();
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .args(flags)
        .arg(&file)
        .current_dir(dir)
        // Outside of any repository, even if the tree has a `.git` of its own at the top.
        .env("GIT_DIR", dir.with_extension("no-repository"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    if ["Too many levels of symbolic links", "is beyond a symbolic link"]
        .iter()
        .any(|words_of_git| words.contains(words_of_git))
    {
        return ControlFlow::Break(());
    }
    assert!(output.status.success(), "git apply {flags:?}: {words}\n{}", told());
    ControlFlow::Continue(())
}
