//! What prune takes, and what it must not.

use super::*;
use std::collections::BTreeSet;

/// Pulls and lets go, as a command that has ended.
fn pull(lab: &Lab, reference: &EnvironmentRef) -> (Digest, Digest) {
    let environment = lab.store.pull(reference, &Silent).unwrap();
    lab.store.boot_image(&environment.kernel, b"agent").unwrap();
    (environment.digest, environment.kernel.digest.clone())
}

#[test]
fn an_unused_environment_goes_and_a_used_one_stays() {
    let lab = Lab::new();
    let (used, _) = pull(&lab, &debian());
    pull(&lab, &base());
    let report = lab.store.prune(&BTreeSet::from([used]), false, &Silent).unwrap();
    assert!(lab.store.get(&debian()).unwrap().is_some());
    assert!(lab.store.get(&base()).unwrap().is_none());
    assert_eq!(report.removed[0], "debian:12-base");
    assert_eq!(report.removed.len(), 2, "{report:?}");
    assert!(report.freed_bytes > 0);
    assert_eq!(lab.objects("boot").len(), 1);
}

#[test]
fn the_kernel_is_kept_for_the_next_pull_unless_all_is_asked_for() {
    let lab = Lab::new();
    pull(&lab, &debian());
    lab.store.prune(&BTreeSet::new(), false, &Silent).unwrap();
    assert_eq!((lab.objects("images").len(), lab.objects("kernels").len()), (0, 1));
    lab.store.prune(&BTreeSet::new(), true, &Silent).unwrap();
    for shelf in ["images", "kernels", "boot"] {
        assert!(lab.objects(shelf).is_empty(), "{shelf}");
    }
    pull(&lab, &debian());
    assert_eq!((lab.images_made(), lab.kernels_made()), (2, 2));
}

#[test]
fn an_old_image_stays_as_long_as_a_workspace_stands_on_it() {
    let lab = Lab::new();
    let (image, kernel) = pull(&lab, &debian());
    lab.script.day.store(1, Ordering::SeqCst);
    lab.store.refresh(&debian(), &Silent).unwrap();
    let used = BTreeSet::from([image.clone(), kernel.clone()]);
    lab.store.prune(&used, true, &Silent).unwrap();
    assert!(lab.store.pinned(&debian(), &image, &kernel).unwrap().is_some());
    lab.store.prune(&BTreeSet::new(), false, &Silent).unwrap();
    assert!(lab.store.pinned(&debian(), &image, &kernel).unwrap().is_none());
}

#[test]
fn what_is_held_stays_even_if_no_workspace_names_it() {
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    let boot = lab.store.boot_image(&environment.kernel, b"agent").unwrap();
    lab.another().prune(&BTreeSet::new(), true, &Silent).unwrap();
    for file in [&environment.image, &boot.kernel, &boot.initramfs] {
        assert!(file.is_file(), "{}", file.display());
    }
}

#[test]
fn a_live_builder_loses_nothing() {
    let lab = Lab::new();
    lab.script.takes.store(300, Ordering::SeqCst);
    let recorder = Recorder::default();
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| lab.another().pull(&debian(), &recorder).unwrap());
        while !recorder.heard("downloading") {
            std::thread::sleep(Duration::from_millis(5));
        }
        lab.store.prune(&BTreeSet::new(), true, &Silent).unwrap();
        let environment = pull.join().unwrap();
        assert!(environment.image.is_file() && environment.kernel.vmlinux.is_file());
    });
    assert!(lab.store.get(&debian()).unwrap().is_some());
}

#[test]
fn remains_of_dead_builders_are_counted() {
    let lab = Lab::new();
    let dead = lab.home.path().join("images/.dead.partial");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join(IMAGE), [1; 10_000]).unwrap();
    let report = lab.store.prune(&BTreeSet::new(), false, &Silent).unwrap();
    assert_eq!(report.removed, ["1 unfinished images"]);
    assert!(report.freed_bytes >= 10_000 && !dead.exists());
}

#[test]
fn pruning_an_empty_home_is_nothing() {
    let lab = Lab::new();
    assert_eq!(lab.store.prune(&BTreeSet::new(), true, &Silent).unwrap().removed.len(), 0);
}
