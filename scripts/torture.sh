#!/usr/bin/env bash
# The long form of every proof: rounds of all of them, with other seeds each time, until the time is up.
#
#   HOURS=1   how long; a round that was begun is finished
#
# Each proof writes to a log of its own below the target directory; what it measured is shown, and the
# first that fails ends it all and says how to repeat it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
. "$target/setup.env"
logs=$(mktemp -d "$target/torture.XXXXXX")
ends=$(awk -v hours="${HOURS:-1}" -v now="$SECONDS" 'BEGIN { print int(now + hours * 3600) }')

# Runs one proof, with the variables given, and shows what it said that has a number in it.
proof() {
    local name=$1 log="$logs/$round-$1.log" began=$SECONDS
    shift
    if ! env "$@" >"$log" 2>&1; then
        tail -n 60 "$log"
        echo "torture: $name FAILED; repeat it with: env $*"
        exit 1
    fi
    printf '%s: passed after %d s\n' "$name" $((SECONDS - began))
    # The lines of the test harness itself are of no interest.
    grep -E '[0-9]' "$log" | grep -vE '^(test |running |warning|\s+(Compiling|Finished|Running))' |
        tail -n 12 | cut -c 1-400 | sed 's/^/    /' || true
}

cargo_test=(cargo test --release)
lean=(--no-default-features --features faults)
round=0
while [ "$SECONDS" -lt "$ends" ]; do
    round=$((round + 1))
    seed=$((RANDOM * 32768 + RANDOM))
    printf '\n== round %d, seed %d\n' "$round" "$seed"
    proof simulation SEED=$((seed * 100000)) COUNT=50000 \
        "${cargo_test[@]}" "${lean[@]}" --test sim whatever -- --nocapture
    proof kills CROSSLATCH_SEED=$seed CROSSLATCH_KILLS=300 \
        "${cargo_test[@]}" --test crash kills -- --nocapture
    proof power CROSSLATCH_SEED=$seed CROSSLATCH_POWER_LOSSES=100 \
        "${cargo_test[@]}" --test crash power -- --nocapture
    proof points CROSSLATCH_SEED=$seed \
        "${cargo_test[@]}" --features faults --test crash points -- --nocapture
    proof campaign CROSSLATCH_SEED=$seed CROSSLATCH_CAMPAIGN_SECONDS=120 \
        "${cargo_test[@]}" --test campaign -- --nocapture
    proof hostile CROSSLATCH_SEED=$seed CROSSLATCH_HOSTILE_SECONDS=120 \
        "${cargo_test[@]}" --test hostile -- --nocapture
    proof disk CROSSLATCH_SEED=$seed CROSSLATCH_FAULTS=50 CROSSLATCH_DAMAGED=50 \
        "${cargo_test[@]}" --test disk -- --nocapture
    proof isolation CROSSLATCH_SEED=$seed CROSSLATCH_TRANSACTIONS=100000 CROSSLATCH_KILLS=20 \
        "${cargo_test[@]}" --test isolation -- --nocapture --test-threads=1
    proof overload CROSSLATCH_SEED=$seed CROSSLATCH_OVERLOAD_SECONDS=120 \
        "${cargo_test[@]}" --test overload -- --nocapture --test-threads=1
    proof book CROSSLATCH_SEED=$seed CROSSLATCH_OPERATIONS=20000000 \
        "${cargo_test[@]}" --test book -- --nocapture
    proof trading CROSSLATCH_SEED=$seed CROSSLATCH_REQUESTS=20000 \
        "${cargo_test[@]}" --test trading -- --nocapture
    proof streams CROSSLATCH_SEED=$seed CROSSLATCH_BATCHES=500 \
        "${cargo_test[@]}" --test streams -- --nocapture
    proof conformance CROSSLATCH_SEED=$seed CROSSLATCH_EXAMPLES=40 \
        "${cargo_test[@]}" --test conformance -- --nocapture
    proof cores SEEDS=200000 "${cargo_test[@]}" --no-default-features --test cores -- --nocapture
    proof parsers CROSSLATCH_SEED=$seed CROSSLATCH_MUTATIONS=1000000 \
        "${cargo_test[@]}" --no-default-features --test fuzz -- --nocapture
done
printf '\ntorture: %d rounds without a failure; logs in %s\n' "$round" "$logs"
