#!/usr/bin/env bash
# Installs what is missing and runs all tests.
#
#   deploy/test.sh                  PostgreSQL 15 in full, a smoke of 16 and 18
#   deploy/test.sh --all-versions   the whole suite on 15, 16 and 18
#   deploy/test.sh --filter NAME    only tests whose name matches (passed to `swift test`)
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh

versions=(15) smoke=(16 18) filter=()
while [ $# -gt 0 ]; do
  case $1 in
    --all-versions) versions=(15 16 18) smoke=(); shift ;;
    --filter) filter=(--filter "${2:?--filter needs a name}") smoke=(); shift 2 ;;
    -h|--help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown option $1; see deploy/test.sh --help" ;;
  esac
done

need_build
need_postgres
need_other_versions
deploy/style.sh

say "building"
swift build --build-tests
for version in "${versions[@]}"; do
  say "all tests on PostgreSQL $version"
  LINDERO_TEST_PG=$version swift test --skip-build --parallel "${filter[@]}" </dev/null
done
for version in "${smoke[@]}"; do
  say "smoke on PostgreSQL $version"
  LINDERO_TEST_PG=$version swift test --skip-build --filter 'ReplicaIdentityTests|InitialSyncTests' </dev/null
done
say "all passed"
