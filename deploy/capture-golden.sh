#!/usr/bin/env bash
# Captures pgoutput messages from real servers into Tests/ReplicationCoreTests/Golden: one message a line, in hex.
# Run it again when a PostgreSQL version is added; the tests say what they expect of each file.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh
need_postgres
need_other_versions
golden=$PWD/Tests/ReplicationCoreTests/Golden
work=$(mktemp -d /tmp/lindero-golden.XXXXXX)
as_server() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi; }
trap 'for d in "$work"/*/data; do as_server "$bin/pg_ctl" -D "$d" -m immediate stop >/dev/null 2>&1 || true; done; rm -rf "$work"' EXIT

# capture FILE OPTIONS: the slot's messages from its start, without moving it; of a run of inserts the first three.
capture() {
  local file=$1 options=$2
  "${sql[@]}" -Atc "SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('$slot', NULL, NULL, 'publication_names', 'p', $options)" \
    | awk '/^49/ { if (++run > 3) next } !/^49/ { run = 0 } { print }' >"$golden/pg$version-$file.hex"
}

for version in 15 16 18; do
  bin=/usr/lib/postgresql/15/bin; [ $version = 15 ] || bin=/var/tmp/lindero-pg/$version/bin
  mkdir "$work/$version"; [ "$(id -u)" != 0 ] || chown postgres: "$work" "$work/$version"
  as_server "$bin/initdb" -D "$work/$version/data" -A trust -U postgres --no-locale -E UTF8 --no-sync >/dev/null
  as_server tee -a "$work/$version/data/postgresql.conf" >/dev/null <<C
listen_addresses = ''
unix_socket_directories = '$work/$version'
wal_level = logical
fsync = off
logical_decoding_work_mem = 64kB
max_prepared_transactions = 5
autovacuum = off
C
  as_server "$bin/pg_ctl" -D "$work/$version/data" -l "$work/$version/log" -w start >/dev/null
  sql=(psql -X -q -v ON_ERROR_STOP=1 -h "$work/$version" -U postgres)
  "${sql[@]}" -f deploy/golden/schema.sql >/dev/null
  slot=rows
  "${sql[@]}" -Atc "SELECT pg_create_logical_replication_slot('rows', 'pgoutput')" >/dev/null
  "${sql[@]}" -f deploy/golden/rows.sql >/dev/null
  capture rows-text "'proto_version', '1', 'messages', 'true'"
  capture rows-binary "'proto_version', '1', 'messages', 'true', 'binary', 'true'"
  "${sql[@]}" -Atc "SELECT pg_drop_replication_slot('rows')" >/dev/null
  slot=streamed
  "${sql[@]}" -Atc "SELECT pg_create_logical_replication_slot('streamed', 'pgoutput')" >/dev/null
  "${sql[@]}" -f deploy/golden/streamed.sql >/dev/null
  capture streamed "'proto_version', '2', 'streaming', 'on', 'messages', 'true'"
  [ $version = 15 ] || capture parallel "'proto_version', '4', 'streaming', 'parallel'"
  "${sql[@]}" -Atc "SELECT pg_drop_replication_slot('streamed')" >/dev/null
  slot=prepared
  "${sql[@]}" -Atc "SELECT pg_create_logical_replication_slot('prepared', 'pgoutput', false, true)" >/dev/null
  "${sql[@]}" -f deploy/golden/prepared.sql >/dev/null
  capture prepared "'proto_version', '3', 'two_phase', 'on', 'streaming', 'on'"
  as_server "$bin/pg_ctl" -D "$work/$version/data" -m fast -w stop >/dev/null
done
wc -lc "$golden"/*.hex
