//! No two machines are alike.

use std::collections::BTreeSet;

use crate::Bench;

pub(crate) fn identities_differ(bench: &Bench) {
    let mut facts = vec![
        "cat /etc/machine-id",
        "hostname",
        "head -c 16 /dev/urandom | od -An -tx1",
        "python3 -c 'import uuid; print(uuid.uuid4())'",
    ];
    // Containers share the host's kernel, and so its boot.
    if bench.is_virtual_machine() {
        facts.push("cat /proc/sys/kernel/random/boot_id");
    }
    let ids: Vec<String> = (0..3).map(|_| bench.create([] as [&str; 0])).collect();
    for fact in facts {
        let seen: BTreeSet<String> = ids.iter().map(|id| bench.sh(id, fact)).collect();
        assert_eq!(seen.len(), ids.len(), "{fact}: {seen:?}");
    }
    for id in &ids {
        bench.assert_clock(id);
    }
}
