#!/bin/sh
# Runs a fuzz target for some time: scripts/fuzz.sh TARGET [SECONDS], or with `all` each of them.
# A stable toolchain will do: the coverage that libFuzzer needs is a pass of LLVM's. Needs a C++ compiler.
set -eu
cd "$(dirname "$0")/../fuzz"
target=${1:?"which one? messages, frames, journal, all"}
seconds=${2:-60}
[ "$target" = all ] && target="messages frames journal"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags are not those of build scripts and macros.
cargo build --release --target "$host" $(for one in $target; do printf -- '--bin %s ' "$one"; done)
for one in $target; do
    mkdir -p "corpus/$one" "artifacts/$one"
    "target/$host/release/$one" -max_total_time="$seconds" -print_final_stats=1 -timeout=20 \
        -rss_limit_mb=1024 -artifact_prefix="artifacts/$one/" "corpus/$one"
done
