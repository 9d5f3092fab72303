#!/usr/bin/env bash
# Measures Lindero beside other replicators on two throwaway PostgreSQL clusters, in turn, every table compared after
# every run. The method and the last figures: deploy/bench/README.md.
#
#   deploy/bench.sh [workload…] [--peers LIST] [--runs N] [--scale small|full] [--keep] [--out FOLDER]
#   deploy/bench.sh --draw            writes the tables and the chart anew from results.json; measures nothing
#
#   workload        oltp inserts updates shared hot bigtx latency copy decode
#                   latency-network (or W1 W2 W3 W3s W3h W4 W5 W6 W7 W5n); default: all
#   --peers LIST    of native,native-binary,pglogical,pgcopydb,drain,relay,split,split-conflicts,beside-reader,two-sessions; default: all.
#                   drain reads the same stream with pg_recvlogical and applies nothing: the limit; relay, for W5, is the
#                   least that a program between two servers does. split is Lindero with both directions; beside-reader
#                   one way while pg_recvlogical reads what comes back and does nothing with it; two-sessions has
#                   apply_sessions: 2
#   --runs N        of each peer (default 3); a run during which others took more than a tenth of the machine has no speed
#   --scale small   a tenth of the size, to try it; full (default) needs about 20 GB in $TMPDIR
#   --profile       then one more run of Lindero's, at which perf looks; what it saw goes into the page
#   --core-share S  each process, and each thread of Lindero's, gets at most that part of a core, as on a machine with more
#                   and slower ones (root, cgroup v1); into deploy/bench/share
#   --keep          leave the clusters of the last workload running
#   --out FOLDER    for results.json and chart.svg; default: deploy/bench, or deploy/bench/small
#
# Exit codes: 0 done, 1 a run failed, 2 wrong arguments, 3 a run's tables differed from the source's.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"

peers=native,native-binary,pglogical,pgcopydb,drain,relay,split,split-conflicts,beside-reader,two-sessions arguments=()
export PYTHONDONTWRITEBYTECODE=1
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,24s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --peers) peers=${2// /}; [ -n "$peers" ] || fail "--peers needs a list"; shift 2 ;;
    --runs|--scale|--out|--core-share) arguments+=("$1" "${2:?$1 needs a value}"); shift 2 ;;
    --draw) exec python3 "$root/deploy/bench/bench.py" --draw ${arguments[@]+"${arguments[@]}"} ;;
    *) arguments+=("$1"); shift ;;
  esac
done

need_build
need_postgres
python3 -c 'import ctypes, json, statistics' 2>/dev/null || apt_install python3
case " ${arguments[*]-} " in *" --profile "*) command -v perf >/dev/null || apt_install linux-perf ;; esac
# drop_peer NAME WHY: measure without it rather than not at all.
drop_peer() {
  say "without $1: $2"
  peers=$(printf '%s' ",$peers," | sed "s/,$1,/,/g; s/^,//; s/,$//")
}
case ,$peers, in *,pglogical,*) (apt_install postgresql-15-pglogical) || drop_peer pglogical "this Debian does not have it" ;; esac
case ,$peers, in
  *,pgcopydb,*) command -v pgcopydb >/dev/null || (apt_install pgcopydb) || drop_peer pgcopydb "this Debian does not have it" ;;
esac

# LINDERO_BIN=PROGRAM: one that is built already.
[ -n "${LINDERO_BIN:-}" ] || say "building (release; the first time takes some minutes)"
[ -n "${LINDERO_BIN:-}" ] || swift build --package-path "$root" -c release --product lindero >&2
lindero=${LINDERO_BIN:-$(swift build --package-path "$root" -c release --show-bin-path)/lindero}
exec python3 "$root/deploy/bench/bench.py" --lindero "$lindero" --peers "$peers" ${arguments[@]+"${arguments[@]}"}
