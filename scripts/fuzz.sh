#!/bin/sh
# fuzz.sh CRATE TARGET [SECONDS]: one fuzz target with a stable compiler (no sanitizer: the code is safe
# Rust, so what is looked for is a panic). New inputs go to crates/CRATE/fuzz/corpus/TARGET, a failing
# one is printed. `fuzz.sh` alone says which targets there are.
set -eu
cd "$(dirname "$0")/../crates"
if [ $# -lt 2 ]; then
    for file in */fuzz/fuzz_targets/*.rs; do
        crate=${file%%/*}
        echo "$crate $(basename "$file" .rs)"
    done
    exit 2
fi
crate=$1 target=$2 seconds=${3:-60}
cd "$crate/fuzz"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../../target}/fuzz"
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target"
seeds="../tests/fixtures/v1"
[ -d "$seeds" ] || seeds=""
# shellcheck disable=SC2086 # none, or one
exec "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=8192 \
    -print_final_stats=1 "corpus/$target" $seeds
