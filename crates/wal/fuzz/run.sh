#!/bin/sh
# run.sh TARGET [SECONDS]: one fuzz target with a stable compiler (no sanitizer: the code is safe
# Rust, so what is looked for is a panic). New inputs go to corpus/TARGET, a failing one is printed.
set -eu
cd "$(dirname "$0")"
target=$1
seconds=${2:-60}
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz"
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target"
exec "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=8192 \
  -print_final_stats=1 "corpus/$target" ../tests/fixtures/v1
