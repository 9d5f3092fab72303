#!/usr/bin/env bash
# One transaction many times larger than the worker's memory limit, between two throwaway PostgreSQL 15 clusters: how much
# memory the worker takes at most, how long until it is visible, and whether every row is equal after.
#
#   deploy/large-transaction.sh [--size 5GB] [--streaming on|off|both] [--memory-limit 64MB] [--slow-target SECONDS] [--row-bytes N] [--keep]
#
#   --size    bytes of row values in the transaction (default 5GB; needs about five times that in $TMPDIR)
#   --slow-target  the target takes nothing for so many seconds after the commit, so that all of the worker's buffers are full
#   --row-bytes    of text in each row (default 1000); a few large ones are the heap's worst case
#   --keep    leave the folder, with the worker's log
#
# Exit codes: 0 done, and the worker grew by no more than its limit; 1 failed or grew by more; 2 wrong arguments.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"

size=5GB streaming=both limit=64MB slow=0 row=1000 keep=
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --size) size=${2:?}; shift 2 ;;
    --streaming) streaming=${2:?}; shift 2 ;;
    --memory-limit) limit=${2:?}; shift 2 ;;
    --slow-target) slow=${2:?}; shift 2 ;;
    --row-bytes) row=${2:?}; shift 2 ;;
    --keep) keep=1; shift ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
  esac
done
# megabytes TEXT: of 5GB or 64MB.
megabytes() { case $1 in *GB) echo $((${1%GB} * 1000)) ;; *MB) echo "${1%MB}" ;; *) echo "a size such as 5GB or 64MB, not $1" >&2; exit 2 ;; esac; }
size_mb=$(megabytes "$size") limit_mb=$(megabytes "$limit")
case $streaming in on|off) modes=$streaming ;; both) modes="on off" ;; *) echo "--streaming takes on, off or both" >&2; exit 2 ;; esac

need_postgres
# LINDERO_BIN=PROGRAM: one that is built already.
if [ -z "${LINDERO_BIN:-}" ]; then
  need_build
  say "building (release; the first time takes some minutes)"
  swift build --package-path "$root" -c release --product lindero >&2
  LINDERO_BIN=$(swift build --package-path "$root" -c release --show-bin-path)/lindero
fi

bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/lindero-large.XXXXXX")
chmod 755 "$work"
worker=
as_server() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi; }
finish() {
  [ -z "$worker" ] || kill -9 "$worker" 2>/dev/null || true
  for side in source target; do as_server $bin/pg_ctl -D "$work/$side/data" -m immediate stop >/dev/null 2>&1 || true; done
  [ -n "$keep" ] && say "left in $work" || rm -rf "$work"
}
trap finish EXIT

for side in source target; do
  mkdir "$work/$side"; [ "$(id -u)" != 0 ] || chown postgres: "$work/$side"
  as_server $bin/initdb -D "$work/$side/data" -A trust -U postgres --no-locale -E UTF8 --no-sync >/dev/null
  as_server tee -a "$work/$side/data/postgresql.conf" >/dev/null <<C
listen_addresses = ''
unix_socket_directories = '$work/$side'
wal_level = logical
fsync = off
shared_buffers = 128MB
max_wal_size = 1GB
autovacuum = off
C
  as_server $bin/pg_ctl -D "$work/$side/data" -l "$work/$side/log" -w start >/dev/null
done
source_url="host=$work/source user=postgres dbname=postgres" target_url="host=$work/target user=postgres dbname=postgres"
on() { psql -X -q -At -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }
now() { date +%s.%N; }

cat >"$work/lindero.yaml.in" <<C
version: 1
backend: replica
databases:
  source: { url: env:SOURCE_URL }
  target: { url: env:TARGET_URL }
origin: source
replication: { streaming: MODE, spill_dir: $work/spill, memory_limit: $limit }
tables:
  large: { columns: { source: "*" } }
C
export SOURCE_URL=$source_url TARGET_URL=$target_url
rows=$((size_mb * 1000000 / row)) repeats=$((row / 32))
bad=0
on "$source_url" "CREATE TABLE large (id bigint PRIMARY KEY, v text); ALTER TABLE large ALTER v SET STORAGE $([ "$row" -gt 2000 ] && echo EXTERNAL || echo PLAIN)"

for mode in $modes; do
  sed "s/MODE/$mode/" "$work/lindero.yaml.in" >"$work/lindero.yaml"
  "$LINDERO_BIN" run --config "$work/lindero.yaml" --http none >"$work/log-$mode" 2>&1 &
  worker=$!
  until grep -qs streaming "$work/log-$mode"; do sleep 0.2; kill -0 $worker || { cat "$work/log-$mode" >&2; exit 1; }; done
  say "streaming $mode: one transaction of $rows rows"
  idle=$(awk '/VmRSS/ { print int($2 / 1000) }' /proc/$worker/status)
  # Before the first row can come, until some time after the last.
  locker=
  if [ "$slow" != 0 ]; then
    on "$target_url" "BEGIN; LOCK TABLE large IN EXCLUSIVE MODE; SELECT pg_sleep(3600)" >/dev/null 2>&1 & locker=$!
    until [ "$(on "$target_url" "SELECT 1 FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'large'::regclass")" = 1 ]; do sleep 0.1; done
  fi
  begin=$(now)
  on "$source_url" "INSERT INTO large SELECT i, repeat(md5(i::text), $repeats) || 'lindero' FROM generate_series(1, $rows) i"
  committed=$(now) spilled=0
  if [ -n "$locker" ]; then
    sleep "$slow"
    on "$target_url" "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid()" >/dev/null
    wait "$locker" || true
  fi
  until [ "$(on "$target_url" "SELECT 1 FROM large LIMIT 1")" = 1 ]; do
    kill -0 $worker || { cat "$work/log-$mode" >&2; exit 1; }
    used=$(du -sm "$work/spill" 2>/dev/null | cut -f1 || true); spilled=$((${used:-0} > spilled ? ${used:-0} : spilled))
    sleep 0.2
  done
  visible=$(now)
  peak=$(awk '/VmHWM/ { print int($2 / 1000) }' /proc/$worker/status)
  sum="SELECT count(*), sum(hashtext(v)::bigint) FROM large"
  [ "$(on "$source_url" "$sum")" = "$(on "$target_url" "$sum")" ] || { echo "streaming $mode: the tables differ" >&2; bad=1; }
  awk -v m=$mode -v b="$begin" -v c="$committed" -v v="$visible" -v p="$peak" -v i="$idle" -v s="$spilled" -v l=$limit_mb -v n="$rows" 'BEGIN {
    printf "streaming %-3s  written in %.1f s, visible %.1f s after its commit (%.0f rows/s in all); ", m, c - b, v - c, n / (v - b)
    printf "peak memory %d MB, of it %d MB before the first change, with memory_limit %d MB; spilled %d MB\n", p, i, l, s }'
  [ $((peak - idle)) -le "$limit_mb" ] || { echo "streaming $mode: it grew by $((peak - idle)) MB, above its limit" >&2; bad=1; }
  kill -TERM $worker; wait $worker || { cat "$work/log-$mode" >&2; bad=1; }
  worker=
  on "$source_url" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots; TRUNCATE large" >/dev/null
  on "$target_url" "DROP TABLE large" >/dev/null
  "$LINDERO_BIN" migrate --down --config "$work/lindero.yaml" >/dev/null 2>&1 || true
done
exit $bad
