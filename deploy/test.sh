#!/usr/bin/env bash
# Installs what is missing and runs all tests.
#
#   deploy/test.sh                  PostgreSQL 15 in full, a smoke of 16 and 18
#   deploy/test.sh --all-versions   the whole suite on 15, 16 and 18
#   deploy/test.sh --long           and a million runs of the split's model check (deploy/model-check.sh), four thousand streams of random
#                                   transactions applied in groups, five minutes of the split's
#                                   chaos test, both services writing while one database becomes two and one
#                                   again (deploy/zero-downtime.sh), without a fence and with one; moves are killed all
#                                   over every step (else inside each once, and at its beginning); the speed of
#                                   verify and the wait of await against their marks, and the examples; deploy/bench.sh at a tenth of the
#                                   size, and one transaction of 5 GB (LINDERO_LARGE_TRANSACTION, deploy/large-transaction.sh)
#   deploy/test.sh --filter NAME    only tests whose name matches, on 15 (passed to `swift test`)
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh

versions=(15) smoke=(16 18) filter=() long=
while [ $# -gt 0 ]; do
  case $1 in
    --all-versions) versions=(15 16 18) smoke=(); shift ;;
    --long) long=1; shift ;;
    --filter) filter=(--filter "${2:?--filter needs a name}") smoke=(); shift 2 ;;
    -h|--help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option $1; see deploy/test.sh --help" ;;
  esac
done

# Each end-to-end test runs a worker and two servers' backends: all at once they would starve one another.
export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=${LINDERO_TEST_WIDTH:-$(($(nproc) * 3))}
export LINDERO_TEST_PATIENCE=${LINDERO_TEST_PATIENCE:-4}

summaries=()
# run_tests WHAT VERSION ARGUMENTS: a hang ends in an error, not in a CI job that never does.
run_tests() {
  local what=$1 version=$2 log line; shift 2
  say "$what on PostgreSQL $version"
  log=$(mktemp)
  if LINDERO_TEST_PG=$version timeout -k 20 3300 swift test --skip-build "$@" </dev/null 2>&1 | tee "$log"; then
    line=$(grep -a 'Test run with' "$log" | tail -1 | cut -d' ' -f2-) || true
    rm -f "$log"
    case $line in
      *' 0 tests '*|'') fail "$what on PostgreSQL $version: no test ran" ;;
    esac
    summaries+=("PostgreSQL $version, $what: $line")
  else
    # Again and last, with what each of them said: of a long log often only the end is kept.
    line=$(grep -a -A 30 '✘ Test .*recorded an issue' "$log" | grep -a -v -e '^✔' -e '^◇' | cut -c 1-600 | head -n 150 || true
           grep -a '✘ Test .*failed after' "$log" || true)
    rm -f "$log"
    printf '%s\n' "$line" >&2
    fail "$what on PostgreSQL $version did not pass"
  fi
}

# What the core needs for a change, against the commit before, or against the last one while there are changes. A ratio
# that is too high is told and is no failure: new work may cost something.
count_instructions() {
  local before=HEAD~1 code=0
  git diff --quiet HEAD -- 2>/dev/null || before=HEAD
  if git rev-parse --verify --quiet "$before^{commit}" >/dev/null; then
    deploy/microbench.sh --against $before || code=$?
  else
    deploy/microbench.sh || code=$?
  fi
  case $code in
    0) ;;
    3) summaries+=("the core needs more instructions for a change than before: see the ratios above") ;;
    *) fail "the core's benchmarks did not run" ;;
  esac
}

deploy/style.sh
need_build
need_postgres
need_pgbouncer
need_faketime
[ "${versions[*]} ${smoke[*]}" = "15 " ] || need_other_versions

say "building"
swift build --build-tests
for version in "${versions[@]}"; do run_tests "all tests" "$version" --parallel "${filter[@]}"; done
for version in "${smoke[@]}"; do run_tests "smoke" "$version" --filter 'ReplicaIdentityTests|InitialSyncTests'; done
if [ ${#filter[@]} -eq 0 ]; then
  count_instructions
  say "what deploy/bench.sh counts"
  python3 -c 'import statistics, unittest, xml.dom.minidom' 2>/dev/null || apt_install python3
  (cd deploy/bench && PYTHONDONTWRITEBYTECODE=1 python3 -m unittest -b test_bench)
fi
if [ -n "$long" ]; then
  say "the split's model check"
  deploy/model-check.sh
  LINDERO_PROPERTY_STREAMS=1000 run_tests "random transactions in groups" 15 --filter GroupPropertyTests
  LINDERO_STEP_KILLS=all run_tests "kills all over every step of a move" 15 --filter PhaseStepKillTests
  LINDERO_AWAIT_P99_MILLISECONDS=250 run_tests "waiting for one's own writes" 15 --filter ReadYourWritesTests
  LINDERO_CHAOS_SECONDS=300 run_tests "the split's chaos test" 15 --filter SplitChaosTests
  say "deploy/bench.sh at a tenth of the size, and with tables that differ"
  swift build -c release --product lindero
  LINDERO_BIN=$(swift build -c release --show-bin-path)/lindero
  export LINDERO_BIN
  (cd deploy/bench && PYTHONDONTWRITEBYTECODE=1 python3 -m unittest -b test_bench.Measured)
  say "one transaction of ${LINDERO_LARGE_TRANSACTION:-5GB}"
  deploy/large-transaction.sh --size "${LINDERO_LARGE_TRANSACTION:-5GB}"
  summaries+=("one transaction of ${LINDERO_LARGE_TRANSACTION:-5GB}: the worker grew by no more than its limit")
  need_psycopg2
  (cd deploy/zero-downtime && PYTHONDONTWRITEBYTECODE=1 "$python" -m unittest -b test_checks)
  say "how fast verify compares, and await waits"
  deploy/verify-speed.sh
  say "the examples"
  deploy/examples.sh
  for fence in none strict; do
    say "both services write from shared to split and back, fence: $fence"
    report=$(mktemp -d)
    deploy/zero-downtime.sh --seconds 5 --fence $fence --json "$report/report.json" --html "$report/report.html"
    deploy/zero-downtime.sh --verify-report "$report/report.json"
    rm -r "$report"
    summaries+=("from shared to split and back while both services write, fence: $fence: everything holds")
  done
fi
say "all passed"
printf '    %s\n' "${summaries[@]}"
