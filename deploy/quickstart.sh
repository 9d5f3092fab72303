#!/usr/bin/env bash
# Shows Lindero at work on two throwaway PostgreSQL clusters: two services share one database, column ownership is
# enforced, then a replica is brought up and followed, under load. Nothing is left behind.
#
#   deploy/quickstart.sh [--seconds N] [--keep] [--json FILE]
#
#   --seconds N   how long the services write once the replica streams (default 10)
#   --keep        leave the clusters, the writers and the worker running, and say how to stop them
#   --json FILE   also write the report to FILE
#
# Exit code 0 only if everything the report says is true.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"
. "$root/deploy/quickstart-parts.sh"

seconds=10 keep=0 json=
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    --keep) keep=1; shift ;;
    --json) json=$(realpath -m "${2:?--json needs a file}"); shift 2 ;;
    -h|--help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option $1; see deploy/quickstart.sh --help" ;;
  esac
done
case $seconds in ''|*[!0-9]*) fail "--seconds takes a whole number, not '$seconds'" ;; esac

need_build
need_postgres
need_python
cd "$root"
# LINDERO_BIN=PROGRAM: one that is built already.
[ -n "${LINDERO_BIN:-}" ] || say "building (release; the first time takes some minutes)"
[ -n "${LINDERO_BIN:-}" ] || swift build -c release --product lindero >&2
lindero=${LINDERO_BIN:-$(swift build -c release --show-bin-path)/lindero}

begin_workspace            # sets $work, traps, and from here on everything is cleaned up
started=$(date +%s%N)

step "1. Two PostgreSQL clusters, and the sample hotel in the first"
start_cluster bot
start_cluster sync
sql bot -q -f "$root/deploy/sample/hotel.sql" >/dev/null
sql sync -q -c 'CREATE ROLE bot_app LOGIN' -c 'CREATE ROLE sync_app LOGIN'
use_backend shared
run_lindero check

step "2. Shared: both services in one database, each held to its own columns"
run_lindero migrate
run_lindero guard apply --mode enforce
start_worker shared
wait_for "following changes" shared
start_writers
refuse "the bot writes sync's beds24Status" bot_app 'UPDATE "Reservas" SET "beds24Status" = '"'x'"
refuse "sync writes the bot's crmNotes" sync_app 'UPDATE "Reservas" SET "crmNotes" = '"'x'"
refuse "the bot deletes a reservation" bot_app 'DELETE FROM "Reservas"'
refuse "sync changes a lead" sync_app 'UPDATE "Leads" SET "score" = 1'
printf '%s\n' \
  '{"bookingId":"beds24-1","beds24Status":"arrived","guestName":"Ana"}' \
  '{"bookingId":"beds24-2","crmNotes":"not mine"}' >"$work/upsert.ndjson"
say_command "lindero upsert Reservas --as sync upsert.ndjson"
# As sync's service has it now: its own role in the shared database.
SYNC_DATABASE_URL=$(url bot sync_app) lindero_at "$work" upsert Reservas --as sync "$work/upsert.ndjson" >"$work/upsert.out" 2>&1 || true
sed 's/^/   /' "$work/upsert.out"
check_upsert
watch_lag 3
stop_worker shared

step "3. Replica: copy a consistent snapshot to the second cluster, then stream, while the services write on"
use_backend replica
start_worker replica
wait_for "streaming" replica
watch_lag "$seconds" 1

step "4. The services stop; the replica catches up; every row is compared"
stop_writers
wait_until_applied
verify_tables
report
[ "$keep" = 1 ] && keep_running
finish
