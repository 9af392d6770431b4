use std::sync::Arc;

use pyro_contract::diff::FileKind;

use super::{EmptyLayer, OverlayLayer, SubLayer, lookup_path};
use crate::{
    layer::{Layer, LayerError},
    mem::MemLayer,
};

fn overlay(layers: Vec<MemLayer>) -> OverlayLayer {
    let layers = layers.into_iter().map(|layer| Arc::new(layer) as Arc<dyn Layer>).collect();
    OverlayLayer::new(layers).unwrap()
}

fn names(layer: &dyn Layer, path: &str) -> Vec<String> {
    let dir = lookup_path(layer, path.as_bytes()).unwrap().unwrap();
    let entries = layer.read_dir(dir).unwrap();
    for entry in &entries {
        let found = layer.lookup(dir, &entry.name).unwrap();
        assert_eq!(found, Some(entry.node), "lookup and read_dir agree");
    }
    entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}

#[test]
fn directories_merge_whiteouts_hide_and_opaque_directories_start_afresh() {
    let layer = overlay(vec![
        MemLayer::new().file("d/new", "n").whiteout("d/gone").opaque("o").file("o/only", ""),
        MemLayer::new().file("d/gone", "").file("d/kept", "").file("o/hidden", "").file("x", ""),
    ]);
    assert_eq!(names(&layer, ""), ["d", "o", "x"]);
    assert_eq!(names(&layer, "d"), ["kept", "new"]);
    assert_eq!(names(&layer, "/o/"), ["only"]);
    assert_eq!(lookup_path(&layer, b"d/gone").unwrap(), None);
}

#[test]
fn what_lies_under_a_file_of_a_middle_layer_stays_hidden() {
    let layer = overlay(vec![
        MemLayer::new().file("a/top", ""),
        MemLayer::new().file("a", "a file now"),
        MemLayer::new().file("a/bottom", ""),
    ]);
    assert_eq!(names(&layer, "a"), ["top"]);
}

#[test]
fn a_file_reads_from_the_topmost_layer_that_has_it() {
    let layer = overlay(vec![
        MemLayer::new().file("f", "upper").link("l", "up"),
        MemLayer::new().file("f", "lower").file("l", ""),
    ]);
    let file = lookup_path(&layer, b"f").unwrap().unwrap();
    let mut buffer = [0; 9];
    assert_eq!(layer.read_at(file, 0, &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"upper");
    let link = lookup_path(&layer, b"l").unwrap().unwrap();
    assert_eq!(layer.meta(link).unwrap().kind, FileKind::Symlink);
    assert_eq!(layer.read_link(link).unwrap(), b"up");
}

#[test]
fn a_path_does_not_lead_through_links_nor_upwards() {
    let layer = MemLayer::new().file("d/f", "").link("l", "d");
    assert!(lookup_path(&layer, b"d/f").unwrap().is_some());
    assert!(lookup_path(&layer, b"l").unwrap().is_some());
    assert_eq!(lookup_path(&layer, b"l/f").unwrap(), None);
    assert_eq!(lookup_path(&layer, b"d/f/g").unwrap(), None);
    assert!(matches!(lookup_path(&layer, b"d/../d/f"), Err(LayerError::NotFound(_))));
}

#[test]
fn an_inner_directory_can_be_a_layer() {
    let disk = Arc::new(MemLayer::new().file("workspace/upper/a/b", "x").file("f", ""));
    let upper = SubLayer::new(disk.clone(), b"workspace/upper").unwrap();
    assert_eq!(names(&upper, ""), ["a"]);
    assert!(matches!(SubLayer::new(disk.clone(), b"f"), Err(LayerError::NotFound(_))));
    assert!(matches!(SubLayer::new(disk, b"none"), Err(LayerError::NotFound(_))));
    assert!(EmptyLayer.read_dir(EmptyLayer.root()).unwrap().is_empty());
}

#[test]
fn a_name_that_is_a_path_is_damage() {
    for name in ["..", "."] {
        let mut upper = MemLayer::new().file("f", "");
        upper.put(name, upper.node("f"));
        let layer = overlay(vec![upper, MemLayer::new()]);
        assert!(matches!(layer.read_dir(layer.root()), Err(LayerError::Damaged { .. })), "{name}");
    }
}
