use std::cell::Cell;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

thread_local! {
    /// How many more steps this thread may make before it is as good as killed.
    static LIFE: Cell<Option<u32>> = const { Cell::new(None) };
}

pub(super) fn may_live() -> Result<()> {
    LIFE.with(|life| match life.get() {
        None => Ok(()),
        Some(0) => Err(Error::new(ErrorCode::Internal, "killed")),
        Some(left) => {
            life.set(Some(left - 1));
            Ok(())
        }
    })
}

struct Scene {
    temp: TempDir,
    home: Home,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(&temp.path().join("home")).unwrap();
        let scene = Self { temp, home };
        for (path, content) in
            [("keep", "k"), ("old", "o"), ("gone/a", "a"), ("gone/b", "b"), ("was", "f")]
        {
            let path = scene.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.temp.path().join("tree").join(path)
    }

    /// Replaces, removes, makes; `was` becomes a directory.
    fn change(&self) -> Result<()> {
        let target = Arc::new(Target::open(&self.home, &self.at(""))?);
        let mut stage = Stage::open(&target)?;
        let mut steps = Vec::new();
        let path = |text: &str| BytePath::new(text);
        for gone in ["gone", "was"] {
            steps.push(Step::Remove { path: path(gone), number: stage.number() });
        }
        steps.push(Step::Directory { path: path("was") });
        steps.push(Step::Directory { path: path("was/deep") });
        for (place, content) in [("old", "new"), ("was/deep/f", "inner"), ("gone", "now a file")] {
            let number = stage.number();
            let file = self.at(".pyro-sync").join(number.to_string());
            fs::write(file, content).unwrap();
            steps.push(Step::Place { path: path(place), number });
        }
        steps.push(Step::Mode { path: path("was"), mode: 0o555 });
        steps.push(Step::Mode { path: path("keep"), mode: 0o600 });
        stage.commit(steps)
    }

    fn listing(&self) -> Vec<(String, u32, String)> {
        fn walk(at: &Path, prefix: &str, all: &mut Vec<(String, u32, String)>) {
            for entry in fs::read_dir(at).unwrap().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                let meta = entry.metadata().unwrap();
                let mode = meta.permissions().mode() & 0o777;
                if meta.is_dir() {
                    all.push((name.clone(), mode, String::new()));
                    walk(&entry.path(), &format!("{name}/"), all);
                } else {
                    all.push((name, mode, fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        let mut all = Vec::new();
        walk(&self.at(""), "", &mut all);
        all.sort();
        all
    }
}

#[test]
fn killed_after_any_step_it_is_the_old_tree_or_becomes_the_new_one() {
    let old = Scene::new().listing();
    let whole = Scene::new();
    whole.change().unwrap();
    let new = whole.listing();
    assert_ne!(old, new);
    assert!(!whole.at(".pyro-sync").exists());
    let mut became = (0, 0);
    for life in 0..40 {
        let scene = Scene::new();
        LIFE.set(Some(life));
        let outcome = scene.change();
        LIFE.set(None);
        let Err(_) = outcome else {
            assert_eq!(scene.listing(), new);
            continue;
        };
        // As the next sync finds it; killed again amid that, too.
        LIFE.set(Some(life / 2));
        let _ = Target::open(&scene.home, &scene.at(""));
        LIFE.set(None);
        drop(Target::open(&scene.home, &scene.at("")).unwrap());
        let found = scene.listing();
        if found == old {
            became.0 += 1;
        } else {
            assert_eq!(found, new, "after {life} steps");
            became.1 += 1;
        }
    }
    assert!(became.0 > 0 && became.1 > 5, "{became:?}");
}

#[test]
fn two_at_once_are_refused() {
    let scene = Scene::new();
    let _held = Target::open(&scene.home, &scene.at("")).unwrap();
    assert_eq!(Target::open(&scene.home, &scene.at("")).unwrap_err().code, ErrorCode::Busy);
}

#[test]
fn a_link_on_the_way_is_not_gone_through() {
    let scene = Scene::new();
    let outside = scene.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, scene.at("way")).unwrap();
    let target = Arc::new(Target::open(&scene.home, &scene.at("")).unwrap());
    let mut stage = Stage::open(&target).unwrap();
    let number = stage.number();
    fs::write(scene.at(".pyro-sync").join(number.to_string()), "x").unwrap();
    let path = BytePath::new("way/f");
    stage.commit(vec![Step::Place { path, number }]).unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!scene.at(".pyro-sync").exists(), "nothing is left");
}

#[test]
fn steps_that_somebody_else_put_into_the_directory_are_not_made() {
    let scene = Scene::new();
    fs::create_dir(scene.at(".pyro-sync")).unwrap();
    fs::write(scene.at(".pyro-sync/1"), "evil").unwrap();
    let journal = r#"{"version":1,"device":0,"inode":0,"steps":[{"place":{"path":{"path":"x"},"number":1}}]}"#;
    fs::write(scene.at(".pyro-sync/journal"), journal).unwrap();
    drop(Target::open(&scene.home, &scene.at("")).unwrap());
    assert!(!scene.at("x").exists() && !scene.at(".pyro-sync").exists());
}
