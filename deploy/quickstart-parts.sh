# The parts of deploy/quickstart.sh. Sourced, not run.

problems=() refused=0 attempted=0 longest_lag= longest_lag_bytes=0 samples=0 rows_equal=0 differences=0 changes=0
declare -A port pids

bold='' red='' green='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\033[1m' red=$'\033[31m' green=$'\033[32m' dim=$'\033[2m' plain=$'\033[0m'
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
problem() { problems+=("$*"); printf '   %s✘ %s%s\n' "$red" "$*" "$plain"; }
fine() { printf '   %s✔%s %s\n' "$green" "$plain" "$*"; }
say_command() { printf '   %s$ %s%s\n' "$dim" "$*" "$plain"; }

# PostgreSQL refuses to run as root.
as_server() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"; else "$@"; fi
}

begin_workspace() {
  work=$(mktemp -d /tmp/lindero-quickstart.XXXXXX)
  chmod 755 "$work"
  bin=/usr/lib/postgresql/15/bin
  trap 'clean_up' EXIT
  trap 'printf "\ninterrupted\n" >&2; exit 130' INT TERM HUP
  start_keeper
}

# Should this script be killed outright, its keeper ends the rest: every child writes its number into $work/pids.
start_keeper() {
  mkdir "$work/pids"
  export -f as_server end_clusters end_process
  setsid bash -c '
    work=$1 bin=$2
    tail --pid="$3" -f /dev/null
    [ -d "$work" ] && [ ! -e "$work/stop" ] || exit 0
    for file in "$work"/pids/*; do [ -e "$file" ] && end_process "$(cat "$file")"; done
    end_clusters; rm -rf "$work"' keeper "$work" "$bin" $$ </dev/null >/dev/null 2>&1 &
  keeper=$!
  disown
}

# keep_number NAME: remembers the child just started.
keep_number() { pids[$1]=$!; echo "$!" >"$work/pids/$1"; }
forget_number() { unset "pids[$1]"; rm -f "$work/pids/$1"; }

# end_process PID: asks, and after five seconds insists.
end_process() {
  local tries=0
  kill -TERM "$1" 2>/dev/null || return 0
  while kill -0 "$1" 2>/dev/null; do
    tries=$((tries + 1)); [ $tries -lt 50 ] || { kill -KILL "$1" 2>/dev/null; return 0; }
    sleep 0.1
  done
}

end_clusters() {
  local data
  for data in "$work"/*/data; do
    [ ! -e "$data/postmaster.pid" ] || as_server "$bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
  done
}

clean_up() {
  local status=$? name
  trap - EXIT; trap '' INT TERM HUP
  if [ -z "${kept:-}" ]; then
    for name in "${!pids[@]}"; do end_process "${pids[$name]}"; done
    end_clusters
    rm -rf "$work"
    kill -KILL -- "-$keeper" 2>/dev/null || true
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
  as_server "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 --no-sync >"$work/$name.log" 2>&1 \
    || { cat "$work/$name.log" >&2; fail "initdb failed"; }
  as_server tee -a "$folder/data/postgresql.conf" >/dev/null <<C
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder'
wal_level = logical
fsync = off
C
  local tries
  for tries in 1 2 3 4 5; do
    port[$name]=$(free_port)
    ! as_server "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -o "-p ${port[$name]}" -w start >/dev/null 2>&1 || break
    # The port may have been taken since it was chosen.
    [ "$tries" -lt 5 ] || { cat "$folder/server.log" >&2; fail "PostgreSQL did not start"; }
  done
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
  (cd "$work" && exec "$lindero" run >"$work/$1.out" 2>"$work/$1.err") &
  keep_number "$1"
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
  forget_number "$1"
}

start_writers() {
  pgbench -n -M prepared -c 2 -T 3600 -R 200 -f "$root/deploy/sample/bot.sql" "$(url bot bot_app)" >"$work/bot.writer" 2>&1 &
  keep_number bot_writer
  pgbench -n -M prepared -c 2 -T 3600 -R 200 -f "$root/deploy/sample/sync.sql" "$(url bot sync_app)" >"$work/sync.writer" 2>&1 &
  keep_number sync_writer
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
    forget_number "${name}_writer"
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

# The upsert must have written sync's own line and refused the one with the bot's column.
check_upsert() {
  grep -q 'crmNotes' "$work/upsert.out" || problem "the upsert did not refuse the foreign column"
  [ "$(sql bot -Atc "SELECT \"guestName\" FROM \"Reservas\" WHERE \"bookingId\" = 'beds24-1'")" = Ana ] \
    || problem "the upsert did not write the owned columns"
  [ "$(sql bot -Atc "SELECT count(*) FROM \"Reservas\" WHERE \"crmNotes\" = 'not mine'")" = 0 ] \
    || problem "the upsert wrote a foreign column"
}

# field NAME < lag document: the first direction's field.
field() { python3 -c 'import json,sys
d = json.load(sys.stdin)["directions"]
v = d[0].get(sys.argv[1]) if d else None
print("" if v is None else v)' "$1"; }

# lag_milliseconds < lag document: commit to visible, as the worker's heartbeats took (p99: of fewer than 100, the
# longest), or the age of what the target shows, where that is more. Empty when neither is known.
lag_milliseconds() { python3 -c 'import json,sys
d = json.load(sys.stdin)["directions"]
p99, age = (d[0]["endToEnd"]["p99Ms"], d[0]["lagSeconds"]) if d else (None, None)
known = ([p99] if p99 is not None else []) + ([age * 1000] if age else [])
print("%.0f" % max(known) if known else "")'; }

# watch_lag SECONDS [LOOKS]: prints a line a second and remembers the longest lag; goes on, for a minute at most, until it
# has had so many looks at a stream.
watch_lag() {
  local end=$((SECONDS + $1)) looks=${2:-0} last=$((SECONDS + $1 + 60)) document state bytes lag
  say_command "lindero lag --json   (once a second)"
  while [ $SECONDS -lt $end ] || { [ "$samples" -lt "$looks" ] && [ $SECONDS -lt $last ]; }; do
    document=$(lindero_at "$work" lag --json 2>/dev/null) || { sleep 0.3; continue; }
    state=$(field state <<<"$document") bytes=$(field lagBytes <<<"$document") lag=$(lag_milliseconds <<<"$document")
    printf '   %-12s lag %10s bytes, at worst %6s ms\n' "${state:-?}" "${bytes:-?}" "${lag:--}"
    if [ "$state" = streaming ] && [ -n "$lag" ]; then
      samples=$((samples + 1))
      [ "$lag" -le "${longest_lag:--1}" ] || longest_lag=$lag
      [ "${bytes:-0}" -le "$longest_lag_bytes" ] || longest_lag_bytes=$bytes
    fi
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
  stop_worker replica
  changes=$(grep -o 'changes=[0-9]*' "$work/replica.err" | tail -1 | cut -d= -f2 || true)
  [ "${changes:-0}" -gt 0 ] || problem "no change was applied by the stream"
  [ "$samples" -gt 0 ] || problem "the lag was never seen while streaming"
  [ "$rows_equal" -gt 0 ] || problem "no row was compared"
  [ "$refused" = "$attempted" ] || problem "$((attempted - refused)) ownership violations were not refused"
  local took=$((($(date +%s%N) - started) / 1000000))
  step "Report"
  cat <<R
   rows verified equal            $rows_equal
   differing tables               $differences
   changes applied by the stream  ${changes:-0}
   longest lag while streaming    ${longest_lag:-unknown} ms from commit to visible (a heartbeat a second), $longest_lag_bytes bytes ($samples looks)
   ownership violations refused   $refused of $attempted
   time                           $((took / 1000)).$((took % 1000 / 100)) s
R
  [ -z "$json" ] || printf '{"rowsVerifiedEqual":%s,"differingTables":%s,"changesApplied":%s,"longestLagMilliseconds":%s,"longestLagBytes":%s,"ownershipViolationsRefused":%s,"ownershipViolationsAttempted":%s,"milliseconds":%s,"problems":%s}\n' \
    "$rows_equal" "$differences" "${changes:-0}" "${longest_lag:-null}" "$longest_lag_bytes" "$refused" "$attempted" "$took" "${#problems[@]}" >"$json"
}

# Leaves the clusters and the worker, with one script that ends them.
keep_running() {
  start_worker replica
  start_writers
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
    printf '\n%sNot everything went well:%s\n' "$red" "$plain"; printf '   ✘ %s\n' "${problems[@]}"
    exit 1
  fi
  printf '\n%sEverything above was checked and is true.%s\n' "$green" "$plain"
  [ "$keep" = 1 ] || printf 'The status of a running worker: lindero status (deploy/quickstart.sh --keep leaves one to look at).\n'
  printf 'Next: lindero init --from-database in your own project; lindero --help\n'
}
