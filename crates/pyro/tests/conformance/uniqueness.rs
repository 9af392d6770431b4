//! No two machines are alike.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

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
        let clock: f64 = bench.sh(id, "date +%s.%N").trim().parse().unwrap();
        let own = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((clock - own).abs() < 1.0, "{clock} against {own}");
    }
}
