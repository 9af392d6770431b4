//! Several pulls at once, and builders that die.

use super::*;

#[test]
fn two_pulls_at_once_do_the_work_once() {
    let lab = Lab::new();
    lab.script.takes.store(300, Ordering::SeqCst);
    let (one, two) = (Recorder::default(), Recorder::default());
    std::thread::scope(|scope| {
        let pulls = [&one, &two].map(|recorder| {
            scope.spawn(|| lab.another().pull(&debian(), recorder).unwrap().digest)
        });
        let [first, second] = pulls.map(|pull| pull.join().unwrap());
        assert_eq!(first, second);
    });
    assert_eq!((lab.images_made(), lab.kernels_made()), (1, 1));
    assert!(one.heard("waiting for another pyro") != two.heard("waiting for another pyro"));
}

#[test]
fn different_environments_at_once_fetch_the_kernel_once() {
    let lab = Lab::new();
    std::thread::scope(|scope| {
        for reference in EnvironmentRef::known() {
            let store = lab.another();
            scope.spawn(move || store.pull(&reference, &Silent).unwrap());
        }
    });
    assert_eq!((lab.images_made(), lab.kernels_made()), (3, 1));
}

#[test]
fn waiting_for_another_can_be_cancelled() {
    let lab = Lab::new();
    let _other = lab.store.locks.try_lock("debian:12").unwrap().unwrap();
    let recorder = Recorder::default();
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| lab.another().pull(&debian(), &recorder));
        while !recorder.heard("waiting for another pyro") {
            std::thread::sleep(Duration::from_millis(5));
        }
        recorder.cancelled.store(true, Ordering::SeqCst);
        assert!(matches!(pull.join().unwrap(), Err(EnvironmentError::Cancelled)));
    });
    assert_eq!(lab.images_made(), 0);
}

#[test]
fn a_cancelled_pull_leaves_nothing() {
    let lab = Lab::new();
    let recorder = Recorder::default();
    recorder.cancelled.store(true, Ordering::SeqCst);
    let error = pyro_contract::Error::from(lab.store.pull(&debian(), &recorder).unwrap_err());
    assert_eq!(error.code, pyro_contract::ErrorCode::Cancelled);
    assert!(lab.objects("images").is_empty() && lab.objects("kernels").is_empty());
}

#[test]
fn the_partial_of_a_dead_builder_is_swept_and_that_of_a_live_one_is_not() {
    let lab = Lab::new();
    let live = lab.store.images.begin().unwrap();
    std::fs::write(live.path(IMAGE), "half").unwrap();
    // What a builder leaves behind when it is killed: the directory without the lock.
    let dead = lab.home.path().join("images/.dead.partial");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join(IMAGE), "half").unwrap();
    lab.another().pull(&debian(), &Silent).unwrap();
    assert!(!dead.exists());
    assert!(live.path(IMAGE).exists());
    let dir = live.dir().to_owned();
    drop(live);
    assert!(!dir.exists());
}

#[test]
fn publishing_what_is_there_already_gives_what_is_there() {
    let lab = Lab::new();
    let first = lab.store.pull(&debian(), &Silent).unwrap();
    let again = lab.store.refresh(&debian(), &Silent).unwrap();
    assert_eq!(first.image, again.image);
    assert_eq!(lab.images_made(), 2);
    assert_eq!((lab.objects("images").len(), lab.objects("kernels").len()), (1, 1));
}
