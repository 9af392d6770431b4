//! What a diff costs: the same ten changes over a seed of 500 files and over one of 50,000.
//!
//! `cargo bench -p pyro --bench diff_cost` prints both times and their ratio. Times are medians of
//! interleaved runs of the built program against running machines, so that a noisy host troubles
//! both alike.

#![allow(clippy::expect_used)] // a benchmark that cannot go on should stop

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 21;

const CHANGES: &str = "for i in 0 1 2 3 4; do echo changed >> dir0/file$i; done; \
                       rm dir0/file5 dir0/file6; mkdir new; echo n > new/a; chmod +x dir0/file7; \
                       echo other > dir0/file9";

fn main() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    let small = workspace(temp.path(), "small", 500);
    let large = workspace(temp.path(), "large", 50_000);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (id, times) in [&small, &large].into_iter().zip(&mut times) {
            let started = Instant::now();
            let patch = pyro(&["workspace", "diff", id]);
            times.push(started.elapsed());
            assert_eq!(patch.matches("diff --git").count(), 10, "{patch}");
        }
    }
    for id in [&small, &large] {
        pyro(&["workspace", "delete", id]);
    }
    let [small, large] = times.map(median);
    println!("diff of 10 changes over    500 files: {small:>8.1?}");
    println!("diff of 10 changes over 50,000 files: {large:>8.1?}");
    println!("ratio: {:.2} (at most 2.00)", large.as_secs_f64() / small.as_secs_f64());
}

fn workspace(temp: &Path, name: &str, files: usize) -> String {
    let seed = temp.join(name);
    for dir in 0..10 {
        let dir = seed.join(format!("dir{dir}"));
        std::fs::create_dir_all(&dir).expect("a seed directory");
        for file in 0..files / 10 {
            std::fs::write(dir.join(format!("file{file}")), format!("{file}\n")).expect("a file");
        }
    }
    let seed = seed.to_string_lossy();
    let id = pyro(&["workspace", "create", "debian:12", "--id-only", "--seed-path", &seed]);
    let id = id.trim().to_owned();
    pyro(&["workspace", "exec", &id, "--", "sh", "-ec", CHANGES]);
    id
}

fn pyro(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pyro"))
        .arg("--quiet")
        .args(args)
        .output()
        .expect("pyro runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
