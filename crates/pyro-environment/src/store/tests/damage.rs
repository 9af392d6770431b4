//! Damage is found without hashing each time, and mended.

use super::*;

/// Changes one byte in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = read(path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn is_damaged<T>(result: Result<T>) -> bool {
    matches!(result, Err(EnvironmentError::Damaged { .. }))
}

#[test]
fn a_changed_image_is_noticed_and_made_anew() {
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    let original = read(&environment.image);
    flip(&environment.image);
    assert!(is_damaged(lab.store.get(&debian())));
    assert!(!lab.store.list().unwrap().iter().any(|info| info.cached));
    let recorder = Recorder::default();
    let mended = lab.store.pull(&debian(), &recorder).unwrap();
    assert!(recorder.heard("damaged"), "{recorder:?}");
    assert_eq!(read(&mended.image), original);
    assert_eq!((lab.images_made(), lab.kernels_made()), (2, 1), "the kernel was sound");
}

#[test]
fn a_missing_kernel_is_fetched_without_making_the_image_again() {
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    std::fs::remove_file(&environment.kernel.vmlinux).unwrap();
    assert!(is_damaged(lab.store.get(&debian())));
    let mended = lab.store.pull(&debian(), &Silent).unwrap();
    assert!(mended.kernel.vmlinux.is_file());
    assert_eq!((lab.images_made(), lab.kernels_made()), (1, 2));
}

#[test]
fn files_that_were_only_copied_are_hashed_once_and_trusted_again() {
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    let stamps = environment.image.with_file_name(shelf::STAMPS);
    let before = read(&stamps);
    let copy = environment.image.with_extension("copy");
    std::fs::copy(&environment.image, &copy).unwrap();
    std::fs::rename(&copy, &environment.image).unwrap();
    assert!(lab.store.get(&debian()).unwrap().is_some());
    let after = read(&stamps);
    assert_ne!(before, after);
    assert!(lab.store.get(&debian()).unwrap().is_some());
    assert_eq!(read(&stamps), after);
    assert_eq!(lab.images_made(), 1);
}

#[test]
fn lost_or_garbled_stamps_cost_a_hash_and_nothing_else() {
    let lab = Lab::new();
    let stamps = lab.store.pull(&debian(), &Silent).unwrap().image.with_file_name(shelf::STAMPS);
    std::fs::remove_file(&stamps).unwrap();
    assert!(lab.store.get(&debian()).unwrap().is_some());
    std::fs::write(&stamps, "{]").unwrap();
    assert!(lab.store.get(&debian()).unwrap().is_some());
    assert_eq!(lab.images_made(), 1);
}

#[test]
fn a_garbled_pointer_or_manifest_is_as_good_as_none() {
    for file in
        ["environments/v1/debian_12.json", "images/*/manifest.json", "kernels/*/manifest.json"]
    {
        for garbage in ["", "{", "null", "[]", "\0\0\0\0", r#"{"image":"sha256:../../etc"}"#] {
            let lab = Lab::new();
            let environment = lab.store.pull(&debian(), &Silent).unwrap();
            let path = match file.split_once("/*/") {
                None => lab.home.path().join(file),
                Some(("images", name)) => environment.image.with_file_name(name),
                Some((_, name)) => environment.kernel.vmlinux.with_file_name(name),
            };
            std::fs::write(&path, garbage).unwrap();
            assert!(lab.store.get(&debian()).unwrap().is_none(), "{file} {garbage:?}");
            let mended = lab.store.pull(&debian(), &Silent).unwrap();
            assert_eq!(mended.digest, environment.digest, "{file} {garbage:?}");
            assert!(lab.store.get(&debian()).unwrap().is_some(), "{file} {garbage:?}");
        }
    }
}

#[test]
fn a_manifest_that_describes_something_else_is_not_believed() {
    let lab = Lab::new();
    let one = lab.store.pull(&debian(), &Silent).unwrap();
    let two = lab.store.pull(&base(), &Silent).unwrap();
    for file in [shelf::MANIFEST, shelf::STAMPS, IMAGE] {
        std::fs::copy(two.image.with_file_name(file), one.image.with_file_name(file)).unwrap();
    }
    assert!(lab.store.get(&debian()).unwrap().is_none());
}

#[test]
fn a_damaged_boot_image_is_made_anew() {
    let lab = Lab::new();
    let kernel = lab.store.pull(&debian(), &Silent).unwrap().kernel;
    let boot = lab.store.boot_image(&kernel, b"agent").unwrap();
    let original = read(&boot.initramfs);
    flip(&boot.initramfs);
    let mended = lab.store.boot_image(&kernel, b"agent").unwrap();
    assert_eq!(read(&mended.initramfs), original);
}

#[test]
fn a_verification_finds_what_stamps_cannot_show() {
    let lab = Lab::new();
    let environment = lab.store.pull(&debian(), &Silent).unwrap();
    lab.store.verify(&debian(), &Silent).unwrap();
    flip(&environment.image);
    // A lie that the stamps believe, as a failing disk would tell it.
    let files = [IMAGE.to_owned(), PACKAGES.to_owned()];
    let dir = environment.image.parent().unwrap();
    let stamps = manifest::stamps(dir, &files).unwrap().unwrap();
    disk::write_json(&dir.join(shelf::STAMPS), &stamps).unwrap();
    assert!(lab.store.get(&debian()).unwrap().is_some());
    assert!(is_damaged(lab.store.verify(&debian(), &Silent)));
    assert!(matches!(lab.store.verify(&base(), &Silent), Err(EnvironmentError::NotFound(_))));
}
