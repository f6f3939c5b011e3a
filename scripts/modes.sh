#!/bin/sh
# The three ways to settle, side by side: the same swaps as swaps, in two phases, and as optimistic
# transactions, with even, skewed and one hot account. Prints a table in Markdown.
#
#   scripts/modes.sh [BINARY] [flags of `crosslatch load` ...]
#
#   SECONDS_EACH=10   how long each run sends
#   RUNS=3            runs of each line; the one with the median rate is shown
#
# The runs of all lines take turns, so that a machine that is busy for a while harms all of them
# alike. Each run is verified: it fails if a unit is lost, a hold is left open or a refusal is false.
set -eu
cd "$(dirname "$0")/.."

binary=${1:-${CARGO_TARGET_DIR:-target}/release/crosslatch}
[ $# -eq 0 ] || shift
seconds=${SECONDS_EACH:-10}
runs=${RUNS:-3}

# Beside the build and not in /tmp, which may be memory: an fsync there costs nothing.
out=$(mktemp -d "${CARGO_TARGET_DIR:-target}/modes.XXXXXX")
trap 'rm -rf "$out"' EXIT
trap 'exit 130' HUP INT TERM

modes='swap two-phase transaction'
skews='uniform zipf:1.07 hot:1'

# The report has one field a line, and the names that are asked for once, but for the quantiles.
field() {
    awk -v name="\"$2\":" '
        $1 == "\"latency_ms\":" { inside = 1 }
        inside && $1 == "}," { inside = 0 }
        $1 == name && (inside || name !~ /^"p[0-9]/) {
            sub(/,$/, "", $2); gsub(/"/, "", $2); print $2; exit
        }' "$1"
}

run=1
while [ "$run" -le "$runs" ]; do
    for skew in $skews; do
        for mode in $modes; do
            printf '%s %s, run %s of %s\n' "$mode" "$skew" "$run" "$runs" >&2
            report=$out/$mode.$skew.$run
            "$binary" load --mode "$mode" --skew "$skew" --duration "${seconds}s" --verify \
                --data "$out/data" --json "$report" "$@" >/dev/null 2>"$out/log" || {
                cat "$out/log" "$report" >&2
                exit 1
            }
            rm -rf "$out/data"
            printf '%s %s\n' "$(field "$report" settled_per_second)" "$report" >>"$out/$mode.$skew"
        done
    done
    run=$((run + 1))
done

row() {
    awk -v mode="$1" -v skew="$2" -v settled="$3" -v rate="$4" -v p50="$5" -v p99="$6" \
        -v conflicts="$7" -v retries="$8" -v gave_up="$9" '
        function grouped(n, text, tail) {
            text = sprintf("%.0f", n)
            while (length(text) > 3) {
                tail = "," substr(text, length(text) - 2) tail
                text = substr(text, 1, length(text) - 3)
            }
            return text tail
        }
        BEGIN {
            per = settled > 0 ? settled : 1
            printf "| %s | %s | %s | %.1f / %.1f ms | %.3f | %.3f | %s |\n", mode, skew,
                grouped(rate), p50, p99, conflicts / per, retries / per, grouped(gave_up)
        }'
}

echo '| mode | accounts | settled/s | p50 / p99 | conflicts a settled swap | retries a settled swap | given up |'
echo '|---|---|---|---|---|---|---|'
for skew in $skews; do
    for mode in $modes; do
        median=$(sort -n "$out/$mode.$skew" | awk '{ line[NR] = $2 } END { print line[int((NR + 1) / 2)] }')
        row "$mode" "$skew" "$(field "$median" swaps_settled)" \
            "$(field "$median" settled_per_second)" "$(field "$median" p50)" \
            "$(field "$median" p99)" "$(field "$median" conflicts)" \
            "$(field "$median" retries)" "$(field "$median" gave_up)"
    done
done
