#!/usr/bin/env bash
# A second opinion of the same comparison: the harness that took the baseline (../shared/bench/bench.py, beside the repository)
# knows nothing of Lindero, and runs it unchanged, as any replicator that adopts a slot.
#
#   deploy/bench/second-opinion.sh [workload…] [--runs N] [--small] [--out FOLDER]
#
#   workload      of oltp insert update hot bigtx latency; default: all
#   --runs N      of each peer, in turn (default 3)
#   --small       a tenth of the size, to try it
#   --out FOLDER  for second-opinion.txt and .jsonl; default: deploy/bench, or deploy/bench/small
#
# LINDERO_BIN=PROGRAM: one that is built already. LINDERO_BENCH=FOLDER: where bench.py and cluster.sh are.
# Exit codes: 0 done, 1 something failed or Lindero's tables differed after a run, 2 wrong arguments.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/deploy/prerequisites.sh"

runs=3 small= out= workloads=()
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --runs) runs=${2:?--runs needs a number}; shift 2 ;;
    --small) small=1; shift ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    oltp|insert|update|hot|bigtx|latency) workloads+=("$1"); shift ;;
    *) echo "unknown argument: $1; see deploy/bench/second-opinion.sh --help" >&2; exit 2 ;;
  esac
done
[ ${#workloads[@]} -gt 0 ] || workloads=(oltp insert update hot bigtx latency)
out=${out:-$root/deploy/bench${small:+/small}}

harness=
for folder in "${LINDERO_BENCH:-}" "$root/../shared/bench" /work/shared/bench; do
  if [ -z "$harness" ] && [ -n "$folder" ] && [ -f "$folder/bench.py" ]; then harness=$(cd "$folder" && pwd); fi
done
[ -n "$harness" ] || fail "no ../shared/bench/bench.py beside the repository: LINDERO_BENCH=FOLDER says where it is"
[ "$(id -u)" = 0 ] || fail "the harness's cluster.sh starts its servers as postgres, which takes root"
need_postgres
apt_install postgresql-15-pglogical
need_psycopg
if [ -z "${LINDERO_BIN:-}" ]; then
  need_build
  say "building (release; the first time takes some minutes)"
  swift build --package-path "$root" -c release --product lindero >&2
  LINDERO_BIN=$(swift build --package-path "$root" -c release --show-bin-path)/lindero
fi
LINDERO_BIN=$(realpath "$LINDERO_BIN")

work=$(mktemp -d "${TMPDIR:-/tmp}/lindero-second.XXXXXX")
chmod 755 "$work"
export BENCH_WORK=$work
finish() {
  "$harness/cluster.sh" stop >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$work/data" "$work/sock"
chown postgres: "$work" "$work/data" "$work/sock"
"$harness/cluster.sh" init >/dev/null
"$harness/cluster.sh" start >/dev/null

lindero="lindero=$LINDERO_BIN run --http none --source '{src}' --target '{tgt}' --slot {slot} --publication {pub}"
common=(--runs "$runs" --peers native,native_binary,lindero --external "$lindero" --host "$work/sock" --lock "$work/lock"
  --out "$work/results.jsonl" --work "$work/work")
for workload in "${workloads[@]}"; do
  say "second opinion: $workload"
  case $workload in
    latency)
      sized=(--rate 1000) && [ -z "$small" ] || sized=(--rate 300 --seconds 5 --scale 2)
      "$python" "$harness/bench.py" latency "${common[@]}" "${sized[@]}" ;;
    *)
      declare -A rows=([oltp]=24000 [insert]=100000 [update]=100000 [hot]=100000 [bigtx]=200000)
      sized=() && [ -z "$small" ] || sized=(--rows "${rows[$workload]}" --scale 2)
      "$python" "$harness/bench.py" backlog --workload "$workload" "${common[@]}" ${sized[@]+"${sized[@]}"} ;;
  esac
done

mkdir -p "$out"
cp "$work/results.jsonl" "$out/second-opinion.jsonl"
{
  echo "By ../shared/bench/bench.py, $(date -u +%Y-%m-%d), Lindero $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) cores, $runs runs${small:+, a tenth of the size}."
  "$python" "$harness/bench.py" report --out "$work/results.jsonl" --work "$work/work"
} | tee "$out/second-opinion.txt"
# What differs is in no median; it is no success either.
"$python" - "$work/results.jsonl" <<'P'
import json, sys
with open(sys.argv[1]) as file:
    runs = [json.loads(line) for line in file if line.strip()]
ours = [run for run in runs if run.get("peer") == "lindero"]
bad = [run for run in ours if not run.get("verified", True) or run.get("error")]
for run in bad:
    print(f"not counted: {run}", file=sys.stderr)
sys.exit(1 if bad or not ours else 0)
P
