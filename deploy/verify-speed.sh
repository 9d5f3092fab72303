#!/usr/bin/env bash
# How fast `lindero verify` compares two databases that are in use, and how long `await` takes: two throwaway PostgreSQL 15
# clusters, a replica that streams, a writer that goes on throughout.
#
#   deploy/verify-speed.sh [--rows 1000000] [--jobs 1] [--waits 300] [--least 1000000] [--keep]
#
#   --rows    rows of ten columns in the table
#   --waits   writes that are followed by a wait for the replica
#   --least   rows a minute a core that it must compare
#   --keep    leave the folder
#
# Prints JSON, and what of it misses its mark. Exit codes: 0 no difference, at least as many rows a minute a core, no stale read and a
# 99th percentile of the waits under 250 ms; 1 failed, or one of these does not hold; 2 wrong arguments.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"

rows=1000000 jobs=1 waits=300 least=1000000 keep=
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --rows) rows=${2:?}; shift 2 ;;
    --jobs) jobs=${2:?}; shift 2 ;;
    --waits) waits=${2:?}; shift 2 ;;
    --least) least=${2:?}; shift 2 ;;
    --keep) keep=1; shift ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
  esac
done

need_postgres
apt_install jq curl
# LINDERO_BIN=PROGRAM: one that is built already.
if [ -z "${LINDERO_BIN:-}" ]; then
  need_build
  say "building (release; the first time takes some minutes)"
  swift build --package-path "$root" -c release --product lindero >&2
  LINDERO_BIN=$(swift build --package-path "$root" -c release --show-bin-path)/lindero
fi

bin=/usr/lib/postgresql/15/bin
work=$(mktemp -d "${TMPDIR:-/tmp}/lindero-verify.XXXXXX")
chmod 755 "$work"
worker= writer=
as_server() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi; }
finish() {
  local process
  for process in $writer $worker; do kill -9 "$process" 2>/dev/null || true; done
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
shared_buffers = 256MB
max_wal_size = 4GB
autovacuum = off
C
  as_server $bin/pg_ctl -D "$work/$side/data" -l "$work/$side/log" -w start >/dev/null
done
export SOURCE_URL="host=$work/source user=postgres dbname=postgres" TARGET_URL="host=$work/target user=postgres dbname=postgres"
source_sql() { psql -X -q -At -v ON_ERROR_STOP=1 -d "$SOURCE_URL" "$@"; }

cat >"$work/lindero.yaml" <<C
version: 1
backend: replica
databases:
  source: { url: env:SOURCE_URL }
  target: { url: env:TARGET_URL }
origin: source
verify: { jobs: $jobs }
tables:
  booking: { columns: { source: "*" } }
C
say "making $rows rows"
source_sql <<S
CREATE TABLE booking (id bigint PRIMARY KEY, ref text, guest text, phone text, arrival date, amount numeric(12,2),
  created timestamptz, paid boolean, score float8, data jsonb);
INSERT INTO booking SELECT n, 'beds24-' || n, 'Guest number ' || n, '+34 600 ' || n, date '2026-01-01' + n % 365, n * 1.37,
  timestamptz '2026-01-01' + n * interval '1 s', n % 2 = 0, n / 7.0, jsonb_build_object('a', n, 'b', 'x' || n)
  FROM generate_series(1, $rows) n;
VACUUM ANALYZE booking;
S
cd "$work"
"$LINDERO_BIN" run --http 127.0.0.1:0 >/dev/null 2>"$work/worker.log" & worker=$!
for _ in $(seq 600); do
  [ "$("$LINDERO_BIN" lag --json | jq -r '.directions[0].state')" != streaming ] || break
  kill -0 $worker 2>/dev/null || { cat "$work/worker.log" >&2; exit 1; }
  sleep 0.5
done
psql -X -q -d "$TARGET_URL" -c 'VACUUM booking'

# A writer throughout: some hundred rows a second, all over the table.
source_sql >/dev/null 2>&1 <<S & writer=$!
DO \$\$ BEGIN LOOP
  UPDATE booking SET guest = 'Guest ' || random() WHERE id = (SELECT 1 + (random() * ($rows - 1))::bigint);
  COMMIT; PERFORM pg_sleep(0.001);
END LOOP; END \$\$
S

minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a - b }'; }
# sessions: of Lindero, on both servers.
sessions() {
  local url
  for url in "$SOURCE_URL" "$TARGET_URL"; do
    psql -X -q -At -d "$url" -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'lindero' AND backend_type = 'client backend'"
  done | wc -l
}
# cpu PID: seconds of processor time that the ended children of a process have used.
cpu() { awk -v tick="$(getconf CLK_TCK)" '{ print ($16 + $17) / tick }' "/proc/$1/stat"; }
source_pid=$(head -1 "$work/source/data/postmaster.pid") target_pid=$(head -1 "$work/target/data/postmaster.pid")
others=$(sessions)
before_source=$(cpu "$source_pid") before_target=$(cpu "$target_pid") before_own=$(cpu $$) start=$(date +%s.%N)
code=0; "$LINDERO_BIN" verify --json >"$work/verify.json" 2>"$work/verify.log" || code=$?
end=$(date +%s.%N)
# A session's time counts once its process has ended.
until [ "$(sessions)" -le "$others" ]; do sleep 0.1; done; sleep 0.5
after_source=$(cpu "$source_pid") after_target=$(cpu "$target_pid") after_own=$(cpu $$)
written=$(source_sql -c "SELECT count(*) FROM booking WHERE guest NOT LIKE 'Guest number %'")
[ $code = 0 ] || { cat "$work/verify.json" "$work/verify.log" >&2; exit 1; }

say "waiting for $waits writes"
port=$(sed -n 's/.*url=http:\/\/127.0.0.1:\([0-9]*\).*/\1/p' "$work/worker.log" | head -1)
for n in $(seq "$waits"); do
  lsn=$(source_sql -c "UPDATE booking SET phone = '$n' WHERE id = 1" -c "SELECT pg_current_wal_insert_lsn()")
  curl -sf -o "$work/answer" -w '%{time_total}\n' "http://127.0.0.1:$port/await?lsn=$lsn&timeout=10s" >>"$work/waits"
  seen=$(psql -X -q -At -d "$TARGET_URL" -c "SELECT phone FROM booking WHERE id = 1")
  [ "$seen" = "$n" ] || echo stale >>"$work/stale"
done
touch "$work/stale"
sort -n "$work/waits" >"$work/sorted"
percentile() { sed -n "$(( (waits * $1 + 99) / 100 ))p" "$work/sorted"; }

jq -n --slurpfile verify "$work/verify.json" --argjson seconds "$(minus "$end" "$start")" \
  --argjson source "$(minus "$after_source" "$before_source")" --argjson target "$(minus "$after_target" "$before_target")" \
  --argjson own "$(minus "$after_own" "$before_own")" --argjson jobs "$jobs" --argjson written "$written" --argjson waits "$waits" \
  --argjson p50 "$(percentile 50)" --argjson p99 "$(percentile 99)" --argjson stale "$(wc -l <"$work/stale")" '
  $verify[0].tables[0] as $table
  | { rows: $table.rows, jobs: $jobs, differences: $table.differences, rechecked: $table.rechecked, rowsWrittenMeanwhile: $written, seconds: $seconds,
      cpuSeconds: { source: $source, target: $target, lindero: $own },
      rowsPerMinute: ($table.rows / $seconds * 60 | floor),
      rowsPerMinutePerCore: ($table.rows / ($source + $target + $own) * 60 | floor),
      await: { waits: $waits, staleReads: $stale, p50Ms: ($p50 * 1000), p99Ms: ($p99 * 1000) } }' | tee "$work/report.json"
missed=$(jq -r --argjson least "$least" '
  [ (select(.differences != 0) | "\(.differences) differences, though nothing differs"),
    (select(.rowsPerMinutePerCore < $least) | "\(.rowsPerMinutePerCore) rows a minute a core, at least \($least) wanted"),
    (select(.await.staleReads != 0) | "\(.await.staleReads) stale reads"),
    (select(.await.p99Ms >= 250) | "99 of 100 waits took up to \(.await.p99Ms) ms, under 250 wanted") ] | .[]' "$work/report.json")
[ -z "$missed" ] || fail "$missed"
