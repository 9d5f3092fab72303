#!/usr/bin/env bash
# Two services write all the time, through pgbouncer and straight to the server, while `lindero advance` and `rollback` make
# two databases of their one, and one again: shared, replica, split, replica, shared. Then every acknowledged write is looked for.
#
#   deploy/zero-downtime.sh [--seconds N] [--fence none|strict] [--rate N] [--clients N] [--seed N] [--json FILE] [--html FILE]
#                           [--keep]
#   deploy/zero-downtime.sh --verify-report FILE
#
#   --seconds N      how long they write in each phase (default 20)
#   --fence strict   nobody writes the old side while a service moves
#   --rate N         writes a second, both services together (default 480)
#   --json, --html   where the report goes (default zero-downtime.json and .html, here)
#   --verify-report  checks that a report's content has the hash that it names, and that its verdict follows from its figures
#
# Exit code 0 only if everything the report says holds; 3 if something does not; 1 if the run itself failed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"

case " $* " in
  *" --help "*|*" -h "*) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *" --verify-report "*) need_psycopg2; exec "$python" "$root/deploy/zero-downtime/main.py" "$@" ;;
esac
need_build
need_postgres
need_pgbouncer
need_psycopg2
# LINDERO_BIN=PROGRAM: one that is built already.
if [ -z "${LINDERO_BIN:-}" ]; then
  say "building (release; the first time takes some minutes)"
  swift build --package-path "$root" -c release --product lindero >&2
  LINDERO_BIN=$(swift build --package-path "$root" -c release --show-bin-path)/lindero
fi
exec "$python" -u "$root/deploy/zero-downtime/main.py" --lindero "$(realpath "$LINDERO_BIN")" "$@"
