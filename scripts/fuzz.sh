#!/usr/bin/env bash
# Fuzzes each parser and decoder in turn, with libFuzzer.
#
#   SECONDS_EACH=60   how long each target is fuzzed
#
# Needs a nightly toolchain and cargo-fuzz, which it names if they are missing. The corpora in
# fuzz/corpus are also replayed, and mutated, by an ordinary test on any toolchain.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${SECONDS_EACH:-60}
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo 'fuzz: a nightly toolchain is missing: rustup toolchain install nightly' >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'fuzz: cargo-fuzz is missing: cargo install cargo-fuzz' >&2
    exit 1
fi

# What is found on the way does not go to the committed corpora.
target_dir=${CARGO_TARGET_DIR:-target}
found=$target_dir/fuzz-corpus
for target in $(cargo +nightly fuzz list); do
    mkdir -p "$found/$target"
    printf '\n== %s, %s s\n' "$target" "$seconds"
    cargo +nightly fuzz run --target-dir "$target_dir/fuzz" "$target" \
        "$found/$target" "fuzz/corpus/$target" -- -max_total_time="$seconds" -max_len=4096 \
        -malloc_limit_mb=32 -rss_limit_mb=2048 -print_final_stats=1
done
