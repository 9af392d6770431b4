use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use super::*;

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn write(file: &File, pieces: &[(u64, u8, usize)]) {
    for (offset, byte, length) in pieces {
        file.write_all_at(&vec![*byte; *length], *offset).unwrap();
    }
}

fn pieces() -> impl Strategy<Value = Vec<(u64, u8, usize)>> {
    prop::collection::vec((0_u64..900_000, 0_u8..3, 1_usize..100_000), 0..8)
}

fn punch(file: &File, from: u64, length: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, from, length).unwrap();
}

proptest! {
    #[test]
    fn a_corrected_draft_is_what_the_original_is(
        before in pieces(),
        after in pieces(),
        holes in prop::collection::vec((0_u64..900_000, 1_u64..300_000), 0..3),
    ) {
        let (original, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        original.set_len(1_000_005).unwrap();
        copy.set_len(1_000_005).unwrap();
        write(&original, &before);
        draft(&original, &copy).unwrap();
        prop_assert!(content(&copy) == content(&original));
        write(&original, &after);
        holes.iter().for_each(|(from, length)| punch(&original, *from, *length));
        correct(&original, &copy).unwrap();
        prop_assert!(content(&copy) == content(&original));
        prop_assert_eq!(Sum::of(&copy).unwrap(), Sum::of(&original).unwrap());
    }

    #[test]
    fn no_change_of_a_copied_file_goes_unnoticed(
        pieces in pieces(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let original = tempfile::tempfile().unwrap();
        original.set_len(1_000_005).unwrap();
        write(&original, &pieces);
        let sum = Sum::of(&original).unwrap();
        let copy = tempfile::tempfile().unwrap();
        copy_verified(&original, &copy, &sum).unwrap();
        prop_assert!(content(&copy) == content(&original));
        let at = at.index(1_000_005) as u64;
        let mut byte = [0];
        original.read_exact_at(&mut byte, at).unwrap();
        original.write_all_at(&[byte[0] ^ flip], at).unwrap();
        prop_assert!(copy_verified(&original, &tempfile::tempfile().unwrap(), &sum).is_err());
        original.set_len(1_000_004).unwrap();
        prop_assert!(copy_verified(&original, &tempfile::tempfile().unwrap(), &sum).is_err());
    }
}

/// Larger than what one processor takes at a time.
#[test]
fn a_large_draft_is_corrected_where_its_blocks_meet() {
    let (original, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    for file in [&original, &copy] {
        file.set_len((40 << 20) + 3).unwrap();
    }
    write(&original, &[(0, 1, 17 << 20), (30 << 20, 2, 1 << 20)]);
    draft(&original, &copy).unwrap();
    write(&original, &[((8 << 20) - 5, 3, 10), ((24 << 20) - 1, 4, 3), ((40 << 20) + 2, 5, 1)]);
    punch(&original, 15 << 20, 2 << 20);
    punch(&original, 30 << 20, 1 << 20);
    correct(&original, &copy).unwrap();
    assert!(content(&copy) == content(&original));
}

#[test]
fn zeroes_and_holes_of_a_disk_take_no_space() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, capture) = (temp.path().join("disk"), temp.path().join("capture"));
    let original = File::create_new(&disk).unwrap();
    original.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    original.write_all_at(b"x", 100 << 20).unwrap();
    original.set_len(1 << 30).unwrap();
    let captured = at_rest(EngineKind::Qemu, &disk, &capture).unwrap();
    assert_eq!(captured.disk_bytes, PAGE as u64);
    let again = temp.path().join("again");
    recover_storage(EngineKind::Qemu, &capture, &again).unwrap();
    let meta = fs::metadata(again).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 < 1 << 20, "{}", meta.blocks());
}

#[test]
fn what_another_attempt_left_is_in_nobodys_way() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, capture) = (temp.path().join("disk"), temp.path().join("capture"));
    fs::write(&disk, "content").unwrap();
    let left = temp.path().join(".capture.partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("disk"), "half").unwrap();
    at_rest(EngineKind::Qemu, &disk, &capture).unwrap();
    assert!(!left.exists());
    assert_eq!(fs::read(capture.join(DISK)).unwrap(), b"content");
    fs::create_dir(&left).unwrap();
    fs::write(temp.path().join(".storage.partial"), "half").unwrap();
    sweep_captures(temp.path()).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["capture", "disk"]);
}
