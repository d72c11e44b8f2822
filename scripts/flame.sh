#!/usr/bin/env bash
# flame.sh WORKLOAD [SECONDS]   Samples klamm under one load of `bench load` (produce, consume, requests or latency) with perf, and leaves
# target/flame/WORKLOAD.svg, a flame graph to open in a browser, and WORKLOAD.txt, the functions that took most.
#
# perf sees the kernel and RocksDB as well, which are most of the cost, and needs nothing in the binary. Where
# /proc/sys/kernel/perf_event_paranoid is above 1, only root sees into the kernel; above 2, nobody else may sample at all.
#
# BENCH_ARGS      more arguments for `bench load WORKLOAD`, such as "--connections 1"
# PERF            the perf to use
# FLAME_TARGET    where the binaries are (set by make)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

workload="${1:?flame.sh WORKLOAD [SECONDS]}"
seconds="${2:-10}"
target="${FLAME_TARGET:-target}"
cache="${KLAMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/klamm}"
inferno_version=0.12.4
# Samples a second for each thread that runs. Each takes a piece of the stack along, which is why they are not more.
frequency=499
stack_bytes=16384

case "$workload" in
  produce | consume | requests | latency) ;;
  *) fail "'$workload' is no workload: expected produce, consume, requests or latency." ;;
esac
perf="${PERF:-perf}"
if ! "$perf" --version >/dev/null 2>&1; then
  [ -f /etc/debian_version ] || fail "perf is missing: install it with this system's package manager (often 'perf')."
  if [ "$(sed -n 's/^ID=//p' /etc/os-release)" = ubuntu ]; then install_packages linux-tools-generic; else install_packages linux-perf; fi
fi
paranoid="$(cat /proc/sys/kernel/perf_event_paranoid 2>/dev/null || echo 2)"
[ "$(id -u)" -eq 0 ] || [ "$paranoid" -le 2 ] || fail "perf may not sample: run 'sudo sysctl kernel.perf_event_paranoid=2', then make again."
inferno="$cache/inferno-$inferno_version"
if [ ! -x "$inferno/bin/inferno-flamegraph" ]; then
  echo "Installing inferno $inferno_version, which draws the flame graph, into $inferno."
  CARGO_TARGET_DIR="$inferno/target" cargo install inferno --version "$inferno_version" --locked --no-default-features --features cli --root "$inferno"
  rm -rf "$inferno/target"
fi

out="$target/flame"
mkdir -p "$out"
work="$(mktemp -d)"
klamm=""
trap '[ -z "$klamm" ] || kill "$klamm" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

"$target/profiling/klamm" --data-dir "$work/data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 >"$work/ready" &
klamm=$!
bootstrap=""
for _ in $(seq 200); do
  bootstrap="$(sed -n 's/.*kafka=\([^ ]*\).*/\1/p' "$work/ready")"
  [ -z "$bootstrap" ] || break
  sleep 0.05
done
[ -n "$bootstrap" ] || fail "klamm did not start, see above."

# shellcheck disable=SC2086 # words
load() { "$target/release/bench" load "$workload" --bootstrap "$bootstrap" --pid "$klamm" --seconds "$1" ${BENCH_ARGS:-}; }
load 2 >/dev/null # What the first requests cost is not the question.
"$perf" record -q -F "$frequency" --call-graph "dwarf,$stack_bytes" -p "$klamm" -o "$work/perf.data" 2>"$work/perf.log" &
recorder=$!
load "$seconds"
kill -INT "$recorder"
wait "$recorder" || true
[ -s "$work/perf.data" ] || { cat "$work/perf.log" >&2; fail "perf recorded nothing."; }

{
  echo "klamm under 'bench load $workload ${BENCH_ARGS:-}', $(date -u +%F), $(uname -sr); share of all samples."
  echo
  "$perf" report -i "$work/perf.data" --stdio --no-children -g none -s comm,dso --percent-limit 0.5 2>/dev/null | grep -v '^#' | grep -v '^ *$'
  echo
  "$perf" report -i "$work/perf.data" --stdio --no-children -g none -s sym --percent-limit 0.5 2>/dev/null | grep -v '^#' | grep -v '^ *$'
} >"$out/$workload.txt"
"$perf" script -i "$work/perf.data" --no-inline 2>/dev/null | "$inferno/bin/inferno-collapse-perf" -q >"$work/folded"
"$inferno/bin/inferno-flamegraph" --title "klamm: $workload" --colors rust <"$work/folded" >"$out/$workload.svg"
echo
head -40 "$out/$workload.txt"
echo
echo "The whole list: $out/$workload.txt. The flame graph: $out/$workload.svg"
