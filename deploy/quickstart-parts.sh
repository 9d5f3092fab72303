# The parts of deploy/quickstart.sh. Sourced, not run.

problems=() refused=0 attempted=0 longest_lag=0 rows_equal=0 differences=0 changes=0
declare -A port pids

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
problem() { problems+=("$*"); printf '   \033[31m✘ %s\033[0m\n' "$*"; }
fine() { printf '   \033[32m✔\033[0m %s\n' "$*"; }
say_command() { printf '   \033[2m$ %s\033[0m\n' "$*"; }

# PostgreSQL refuses to run as root.
as_server() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi
}

begin_workspace() {
  work=$(mktemp -d /tmp/lindero-quickstart.XXXXXX)
  chmod 755 "$work"
  bin=/usr/lib/postgresql/15/bin
  [ -x $bin/initdb ] || bin=$(dirname "$(command -v initdb)")
  trap 'clean_up' EXIT
  trap 'printf "\ninterrupted\n" >&2; exit 130' INT TERM HUP
}

clean_up() {
  local status=$? name
  trap - EXIT; trap '' INT TERM HUP
  if [ -z "${kept:-}" ]; then
    for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null || true; done
    for name in "${!pids[@]}"; do wait "${pids[$name]}" 2>/dev/null || true; done
    for name in "${!port[@]}"; do as_server "$bin/pg_ctl" -D "$work/$name/data" -m immediate -w stop >/dev/null 2>&1 || true; done
    rm -rf "$work"
  fi
  exit "$status"
}

free_port() { python3 - <<'P' 2>/dev/null || echo $((20000 + RANDOM))
import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])
P
}

start_cluster() {
  local name=$1 folder=$work/$1
  mkdir "$folder" && { [ "$(id -u)" != 0 ] || chown postgres: "$folder"; }
  port[$name]=$(free_port)
  as_server "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 --no-sync >"$work/$name.log" 2>&1 \
    || { cat "$work/$name.log" >&2; fail "initdb failed"; }
  as_server tee -a "$folder/data/postgresql.conf" >/dev/null <<C
port = ${port[$name]}
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder'
wal_level = logical
fsync = off
C
  as_server "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w start >/dev/null \
    || { cat "$folder/server.log" >&2; fail "PostgreSQL did not start"; }
  sql_server "$name" -qc 'CREATE DATABASE hotel' >/dev/null
  fine "PostgreSQL for $name on 127.0.0.1:${port[$name]}"
}

url() { printf 'postgresql://%s@127.0.0.1:%s/hotel' "${2:-postgres}" "${port[$1]}"; }
sql_server() { local name=$1; shift; psql -X -v ON_ERROR_STOP=1 -h "$work/$name" -p "${port[$name]}" -U postgres "$@"; }
sql() { local name=$1; shift; sql_server "$name" -d hotel "$@"; }

use_backend() {
  export DATABASE_URL SYNC_DATABASE_URL
  DATABASE_URL=$(url bot) SYNC_DATABASE_URL=$(url sync)
  sed "s/^backend: .*/backend: $1/" "$root/deploy/sample/lindero.yaml" >"$work/lindero.yaml"
}

lindero_at() { local folder=$1; shift; (cd "$folder" && exec "$lindero" "$@"); }

# run_lindero ARGUMENTS: shows the command and what it printed; its failure is ours.
run_lindero() {
  say_command "lindero $*"
  lindero_at "$work" "$@" >"$work/command.out" 2>&1 || { sed 's/^/   /' "$work/command.out"; fail "lindero $1 failed"; }
  if [ "$(wc -l <"$work/command.out")" -gt 12 ]; then
    head -8 "$work/command.out" | sed 's/^/   /'; echo "   …"; tail -3 "$work/command.out" | sed 's/^/   /'
  else
    sed 's/^/   /' "$work/command.out"
  fi
}

start_worker() {
  say_command "lindero run"
  (cd "$work" && exec "$lindero" run >"$work/$1.out" 2>"$work/$1.err") & pids[$1]=$!
}

# wait_for TEXT WORKER: until the worker has said it.
wait_for() {
  local tries=0
  until grep -q "$1" "$work/$2.err"; do
    kill -0 "${pids[$2]}" 2>/dev/null || { cat "$work/$2.err" >&2; fail "the worker ended"; }
    tries=$((tries + 1)); [ $tries -lt 300 ] || fail "the worker did not say '$1' within 30 s"
    sleep 0.1
  done
}

stop_worker() {
  kill -TERM "${pids[$1]}"
  if wait "${pids[$1]}"; then fine "the worker drained and stopped"; else problem "the worker ended with an error: $(tail -1 "$work/$1.err")"; fi
  unset "pids[$1]"
}

start_writers() {
  pgbench -n -M prepared -c 2 -T 3600 -R 200 -f "$root/deploy/sample/bot.sql" "$(url bot bot_app)" >"$work/bot.writer" 2>&1 & pids[bot_writer]=$!
  pgbench -n -M prepared -c 2 -T 3600 -R 200 -f "$root/deploy/sample/sync.sql" "$(url bot sync_app)" >"$work/sync.writer" 2>&1 & pids[sync_writer]=$!
  sleep 0.5
  local name
  for name in bot sync; do
    kill -0 "${pids[${name}_writer]}" 2>/dev/null || { cat "$work/$name.writer" >&2; fail "the $name service cannot write its own columns"; }
  done
  fine "both services write: about 400 transactions a second together"
}

stop_writers() {
  local name
  for name in bot sync; do
    kill -0 "${pids[${name}_writer]}" 2>/dev/null || problem "the $name service stopped early: $(tail -2 "$work/$name.writer" | tr '\n' ' ')"
    kill -TERM "${pids[${name}_writer]}" 2>/dev/null || true
    wait "${pids[${name}_writer]}" 2>/dev/null || true
    unset "pids[${name}_writer]"
    ! grep -q 'ERROR' "$work/$name.writer" || problem "the $name service met an error: $(grep -m1 ERROR "$work/$name.writer")"
  done
}

# refuse WHAT ROLE SQL: the statement must fail for want of privilege.
refuse() {
  local answer
  attempted=$((attempted + 1))
  answer=$(psql -X -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate "$(url bot "$2")" -c "$3" 2>&1) && { problem "$1: PostgreSQL let it pass"; return; }
  case $answer in
    *42501*) refused=$((refused + 1)); fine "refused: $1 (42501)" ;;
    *) problem "$1: another error: $answer" ;;
  esac
}

# json FIELD < lag document: the first direction's field.
field() { python3 -c 'import json,sys
d = json.load(sys.stdin)["directions"]
v = d[0].get(sys.argv[1]) if d else None
print("" if v is None else v)' "$1"; }

# watch_lag SECONDS: prints a line a second and remembers the longest lag.
watch_lag() {
  local end=$((SECONDS + $1)) document state bytes lag
  say_command "lindero lag --json   (once a second)"
  while [ $SECONDS -lt $end ]; do
    document=$(lindero_at "$work" lag --json 2>/dev/null) || { sleep 0.3; continue; }
    state=$(field state <<<"$document") bytes=$(field lagBytes <<<"$document") lag=$(field lagSeconds <<<"$document")
    printf '   %-12s lag %10s bytes  %6s s\n' "${state:-?}" "${bytes:-?}" "${lag:-?}"
    if [ "$state" = streaming ]; then longest_lag=$(python3 -c "print(max(float('$longest_lag' or 0), float('${lag:-0}' or 0)))"); fi
    sleep 1
  done
}

wait_until_applied() {
  local lsn applied tries=0
  lsn=$(sql bot -Atc 'SELECT pg_current_wal_flush_lsn()')
  while :; do
    applied=$(lindero_at "$work" lag --json 2>/dev/null | field appliedLsn) || applied=
    [ -n "$applied" ] && [ "$(sql bot -Atc "SELECT '$applied'::pg_lsn >= '$lsn'::pg_lsn")" = t ] && break
    kill -0 "${pids[replica]}" 2>/dev/null || { tail -3 "$work/replica.err" >&2; fail "the worker ended"; }
    tries=$((tries + 1)); [ $tries -lt 300 ] || { problem "the replica did not reach $lsn within 60 s"; return; }
    sleep 0.2
  done
  fine "the replica has everything up to $lsn"
}

# Only the columns that travel are compared: crmNotes is private to the bot.
verify_tables() {
  local table columns here there
  while IFS='|' read -r table columns; do
    local query="SELECT count(*) || ' ' || coalesce(sum(hashtextextended(ROW($columns)::text, 0)), 0) FROM \"$table\""
    here=$(sql bot -Atc "$query") there=$(sql sync -Atc "$query")
    if [ "$here" = "$there" ]; then
      rows_equal=$((rows_equal + ${here%% *})); fine "$table: ${here%% *} rows equal"
    else
      differences=$((differences + 1)); problem "$table differs: $here here, $there on the replica"
    fi
  done <<'T'
Reservas|"id", "bookingId", "hotelApartId", "status", "phone", "guestName", "arrivalDate", "lastBotInteraction", "whatsappThreadId", "lastSyncBeds24", "beds24Status", "apiData", "createdAt", "updatedAt"
Leads|"id", "phone", "name", "source", "score", "createdAt"
HotelApart|"id", "name", "beds", "price", "updatedAt"
T
  [ "$(sql sync -Atc 'SELECT count("crmNotes") FROM "Reservas"')" = 0 ] && fine "crmNotes never left the bot's database" \
    || problem "the private crmNotes reached the replica"
  [ -z "$(sql sync -Atc "SELECT to_regclass('\"_prisma_migrations\"')")" ] || problem "_prisma_migrations was replicated"
}

report() {
  [ "$keep" = 1 ] || { kill -TERM "${pids[replica]}" 2>/dev/null || true; wait "${pids[replica]}" || problem "the worker ended with an error: $(tail -1 "$work/replica.err")"; unset "pids[replica]"; }
  changes=$(grep -o 'changes=[0-9]*' "$work/replica.err" | tail -1 | cut -d= -f2 || true)
  [ "$keep" = 1 ] || [ "${changes:-0}" -gt 0 ] || problem "no change was applied by the stream"
  [ "$refused" = "$attempted" ] || problem "$((attempted - refused)) ownership violations were not refused"
  local took=$((($(date +%s%N) - started) / 1000000))
  step "Report"
  cat <<R
   rows verified equal            $rows_equal
   differing tables               $differences
   changes applied by the stream  ${changes:-see the status}
   longest lag while streaming    $longest_lag s
   ownership violations refused   $refused of $attempted
   time                           $((took / 1000)).$((took % 1000 / 100)) s
R
  [ -z "$json" ] || printf '{"rowsVerifiedEqual":%s,"differingTables":%s,"changesApplied":%s,"longestLagSeconds":%s,"ownershipViolationsRefused":%s,"ownershipViolationsAttempted":%s,"milliseconds":%s,"problems":%s}\n' \
    "$rows_equal" "$differences" "${changes:-null}" "$longest_lag" "$refused" "$attempted" "$took" "${#problems[@]}" >"$json"
}

# Leaves the clusters and the worker, with one script that ends them.
keep_running() {
  kept=1
  {
    echo '#!/bin/sh'
    echo "kill ${pids[*]} 2>/dev/null"
    for name in "${!port[@]}"; do
      if [ "$(id -u)" = 0 ]; then echo "setpriv --reuid=postgres --regid=postgres --init-groups $bin/pg_ctl -D $work/$name/data -m fast -w stop >/dev/null"
      else echo "$bin/pg_ctl -D $work/$name/data -m fast -w stop >/dev/null"; fi
    done
    echo "rm -rf $work"
  } >"$work/stop"
  chmod +x "$work/stop"
  disown -a
  cat <<K

   Still running. The status:
     cd $work && DATABASE_URL='$DATABASE_URL' SYNC_DATABASE_URL='$SYNC_DATABASE_URL' $lindero status
   To end it and remove everything:
     $work/stop
K
}

finish() {
  if [ ${#problems[@]} -gt 0 ]; then
    printf '\n\033[31mNot everything went well:\033[0m\n'; printf '   ✘ %s\n' "${problems[@]}"
    exit 1
  fi
  printf '\n\033[32mEverything above was checked and is true.\033[0m\n'
  printf 'Next: lindero init --from-database in your own project; lindero --help\n'
}
