//! Templates are made once, found again, replaced and pruned.

use std::collections::BTreeSet;
use std::fs;

use pyro_contract::progress::Silent;

use super::*;
use crate::store::template::{Made, TemplateInputs};

fn inputs(image: u8, fingerprint: &str) -> TemplateInputs {
    TemplateInputs {
        image: Digest::from_bytes([image; 32]),
        boot: Digest::from_bytes([9; 32]),
        engine: "qemu".into(),
        fingerprint: fingerprint.into(),
        vcpu_count: 1,
        mem_mib: 512,
        disk_mib: 1024,
    }
}

fn make(store: &Store, inputs: &TemplateInputs) -> Made {
    let freeze = |dir: &std::path::Path, scratch: &std::path::Path| -> Result<()> {
        fs::write(dir.join("memory"), "m").unwrap();
        fs::write(scratch.join("leftover"), "x").unwrap();
        Ok(())
    };
    store.make_template(inputs, freeze, &Silent).unwrap()
}

#[test]
fn a_template_is_made_once_and_found_by_all_that_it_was_made_from() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let wanted = inputs(1, "a");
    assert!(store.template(&wanted).unwrap().is_none());
    let Made::New(made) = make(&store, &wanted) else { panic!("it was not there") };
    assert_eq!(fs::read_to_string(made.directory.join("memory")).unwrap(), "m");
    assert!(matches!(make(&store, &wanted), Made::Present(_)));
    assert_eq!(store.template(&wanted).unwrap().unwrap().digest, made.digest);
    for other in [
        TemplateInputs { mem_mib: 513, ..wanted.clone() },
        TemplateInputs { boot: Digest::from_bytes([8; 32]), ..wanted.clone() },
        inputs(2, "a"),
        inputs(1, "b"),
    ] {
        assert!(store.template(&other).unwrap().is_none(), "{other:?}");
    }
}

#[test]
fn a_failure_leaves_nothing_and_a_damaged_template_counts_as_none() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let wanted = inputs(1, "a");
    let fail = |_: &std::path::Path, _: &std::path::Path| Err(EnvironmentError::Cancelled);
    store.make_template(&wanted, fail, &Silent).unwrap_err();
    assert_eq!(fs::read_dir(home.path().join("templates")).unwrap().count(), 0);
    let (Made::New(made) | Made::Present(made)) = make(&store, &wanted);
    fs::write(made.directory.join("memory"), "other").unwrap();
    assert!(store.template(&wanted).unwrap().is_none());
    assert!(!made.directory.exists());
    make(&store, &wanted);
    store.discard_template(&wanted.digest()).unwrap();
    store.discard_template(&wanted.digest()).unwrap();
    assert!(store.template(&wanted).unwrap().is_none());
}

#[test]
fn a_new_template_replaces_its_kin_and_pruning_takes_those_without_an_image() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let (old, new, elsewhere) = (inputs(1, "a"), inputs(1, "b"), inputs(2, "a"));
    for wanted in [&old, &elsewhere, &new] {
        make(&store, wanted);
    }
    assert!(store.template(&old).unwrap().is_none());
    assert!(store.template(&new).unwrap().is_some());
    assert!(store.template(&elsewhere).unwrap().is_some());
    let report = store.prune(&BTreeSet::new(), false, &Silent).unwrap();
    assert_eq!(report.removed.len(), 2, "{report:?}");
    assert!(store.template(&new).unwrap().is_none());
}
