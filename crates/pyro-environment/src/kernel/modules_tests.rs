//! The load order follows from what modules say of themselves.

use super::*;

/// A kernel as `name: hard dependencies`.
fn kernel<'a>(modules: &'a [(&'a str, &'a [&'a str])]) -> BTreeMap<String, Dependencies> {
    modules
        .iter()
        .map(|(name, hard)| {
            let hard = hard.iter().map(|name| (*name).to_owned()).collect();
            ((*name).to_owned(), Dependencies { hard, soft: Vec::new() })
        })
        .collect()
}

fn order(modules: &BTreeMap<String, Dependencies>, builtin: &[&str]) -> Result<Vec<String>> {
    let builtin = builtin.iter().map(|name| (*name).to_owned()).collect();
    load_order(&builtin, &mut |name| Ok(modules.get(name).cloned()))
}

/// What Debian 12's cloud kernel says.
fn debian() -> BTreeMap<String, Dependencies> {
    let mut modules = kernel(&[
        ("virtio", &["virtio_ring"]),
        ("virtio_ring", &[]),
        (
            "virtio_pci",
            &["virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio"],
        ),
        ("virtio_pci_modern_dev", &[]),
        ("virtio_pci_legacy_dev", &[]),
        ("virtio_mmio", &["virtio", "virtio_ring"]),
        ("failover", &[]),
        ("net_failover", &["failover"]),
        ("virtio_net", &["virtio_ring", "virtio", "net_failover"]),
        ("virtio_blk", &["virtio", "virtio_ring"]),
        ("virtio_console", &["virtio", "virtio_ring"]),
        ("libcrc32c", &[]),
        ("erofs", &["libcrc32c"]),
        ("overlay", &[]),
        ("vsock", &[]),
        ("vmw_vsock_virtio_transport_common", &["vsock"]),
        ("vmw_vsock_virtio_transport", &["virtio", "vmw_vsock_virtio_transport_common", "vsock"]),
    ]);
    modules.get_mut("libcrc32c").unwrap().soft.push("crc32c".to_owned());
    modules
}

#[test]
fn every_module_comes_once_and_after_what_it_needs() {
    let modules = debian();
    let order = order(&modules, &["ext4"]).unwrap();
    assert_eq!(order.len(), modules.len());
    for (position, name) in order.iter().enumerate() {
        for needed in &modules[name].hard {
            assert!(order[..position].contains(needed), "{name} before {needed}");
        }
    }
}

#[test]
fn a_soft_dependency_is_loaded_first_if_it_exists() {
    let mut modules = debian();
    modules.insert("crc32c".to_owned(), Dependencies::default());
    let order = order(&modules, &["ext4"]).unwrap();
    let place = |wanted: &str| order.iter().position(|name| name == wanted).unwrap();
    assert!(place("crc32c") < place("libcrc32c"));
}

#[test]
fn what_is_built_in_is_not_loaded() {
    let order = order(&debian(), &["ext4", "virtio", "virtio_ring"]).unwrap();
    assert!(!order.contains(&"virtio".to_owned()));
    assert!(order.contains(&"virtio_pci".to_owned()));
}

#[test]
fn a_kernel_that_lacks_something_is_refused_by_name() {
    let mut modules = debian();
    assert!(order(&modules, &[]).unwrap_err().to_string().contains("ext4"));
    modules.remove("failover");
    assert!(order(&modules, &["ext4"]).unwrap_err().to_string().contains("failover"));
}

#[test]
fn a_circle_is_an_error_and_not_a_hang() {
    let mut modules = debian();
    modules.insert(
        "virtio_ring".to_owned(),
        Dependencies { hard: vec!["virtio".to_owned()], soft: Vec::new() },
    );
    assert!(order(&modules, &["ext4"]).unwrap_err().to_string().contains("circle"));
}

#[test]
fn modinfo_is_read_as_depmod_reads_it() {
    let modinfo = b"license=GPL\0depends=virtio,virtio-ring\0softdep=pre: crc32c a-b post: late\0";
    let found = parse_modinfo(modinfo);
    assert_eq!(found.hard, ["virtio", "virtio_ring"]);
    assert_eq!(found.soft, ["crc32c", "a_b"]);
    assert_eq!(parse_modinfo(b"depends=\0softdep=post: late"), Dependencies::default());
    assert_eq!(dependencies(b"not an ELF"), None);
}

#[test]
fn the_list_of_builtin_modules_gives_names() {
    let builtin = parse_builtin("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-t10dif.ko\nrubbish\n");
    assert_eq!(builtin.into_iter().collect::<Vec<_>>(), ["crc_t10dif", "ext4"]);
}
