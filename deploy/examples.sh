#!/usr/bin/env bash
# Runs deploy/examples/prisma-read-your-writes as it stands, on two throwaway PostgreSQL 15 clusters with a replica that streams: reads
# of one's own writes come from the replica and are never stale, and from the primary when the replica or the worker stands still.
#
#   deploy/examples.sh [--writes 200]
#
# Node runs the TypeScript; @prisma/client is replaced by deploy/examples/stand-in, which sends the same SQL by psql. Exit codes: 0 all
# of it holds; 1 something does not; 2 wrong arguments.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"
. "$root/deploy/quickstart-parts.sh"

writes=200
while [ $# -gt 0 ]; do
  case $1 in
    --writes) writes=${2:?}; shift 2 ;;
    -h|--help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
  esac
done
need_build
need_postgres
need_node
# LINDERO_BIN=PROGRAM: one that is built already.
[ -n "${LINDERO_BIN:-}" ] || { say "building (release)"; swift build --package-path "$root" -c release --product lindero >&2; }
lindero=$(realpath "${LINDERO_BIN:-$(swift build --package-path "$root" -c release --show-bin-path)/lindero}")

begin_workspace
step "1. Two PostgreSQL clusters, a replica between them, and the example"
start_cluster bot
start_cluster sync
sql bot -q -f "$root/deploy/sample/hotel.sql" >/dev/null
sql sync -q -c 'CREATE ROLE bot_app LOGIN' -c 'CREATE ROLE sync_app LOGIN'
use_backend replica
(cd "$work" && exec "$lindero" run --http 127.0.0.1:0 >"$work/worker.out" 2>"$work/worker.err") &
keep_number worker
wait_for streaming worker
app=$work/app
mkdir -p "$app/node_modules/@prisma/client"
cp "$root"/deploy/examples/prisma-read-your-writes/*.ts "$root"/deploy/examples/stand-in/{register.mjs,reads.ts} "$app"
cp "$root/deploy/examples/stand-in/client.mjs" "$app/node_modules/@prisma/client/index.js"
for folder in "$app" "$app/node_modules/@prisma/client"; do echo '{"type": "module", "main": "index.js"}' >"$folder/package.json"; done
export REPLICA_URL=$SYNC_DATABASE_URL LINDERO_URL
LINDERO_URL=$(sed -n 's/.*url=\(http:\/\/127.0.0.1:[0-9]*\).*/\1/p' "$work/worker.err" | head -1)
run_node() { (cd "$app" && "$node" --disable-warning=ExperimentalWarning --import ./register.mjs "$@"); }

# reads COUNT: figures of so many writes and reads; holds WORDS CONDITION: one about them.
reads() { run_node reads.ts "$1" >"$work/reads.json" || fail "the example failed"; sed 's/^/   /' "$work/reads.json"; }
holds() { if "$node" -e 'const f = JSON.parse(require("fs").readFileSync(process.argv[1])); process.exit(eval(process.argv[2]) ? 0 : 1)' "$work/reads.json" "$2"; then fine "$1"; else problem "not true: $1"; fi; }

step "2. While it streams"
say_command "node example.ts"
run_node example.ts >"$work/example.out" 2>&1 || { cat "$work/example.out" >&2; fail "the example failed"; }
if grep -q "bookingId: 'beds24-1'" "$work/example.out"; then fine "it wrote a row and read it back"; else problem "it printed: $(cat "$work/example.out")"; fi
reads "$writes"
holds "none of $writes reads is stale" 'f.stale === 0'
holds "they come from the replica" 'f.fromReplica === f.writes'

step "3. The worker stands still, then it is gone: the primary answers, and nothing is stale"
kill -STOP "${pids[worker]}"
reads 2
holds "the primary answers when the replica does not get on" 'f.stale === 0 && f.fromPrimary === f.writes'
kill -CONT "${pids[worker]}"
stop_worker worker
reads 5
holds "and without a worker" 'f.stale === 0 && f.fromPrimary === f.writes'
[ ${#problems[@]} -eq 0 ]
