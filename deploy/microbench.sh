#!/usr/bin/env bash
# Counts the instructions that the core needs for a change: decode, assemble, plan (own and net), encode.
#
#   deploy/microbench.sh [--against REV] [--json FILE] [NAME…]
#
#   --against REV   counts the core of REV as well and prints the ratios
#   --json FILE     writes the figures there (default .build-microbench/results.json)
#   NAME            only benchmarks whose name has that in it, such as tpcb or plan
#
# Counted by valgrind, not timed: the same on a busy machine, and without hardware counters, which few virtual machines
# have. What is the same in REV is not counted twice. Exit codes: 0 done, 1 failed, 3 a ratio is above 1.10.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/deploy/prerequisites.sh"
cd "$root"

against= json=.build-microbench/results.json names=()
while [ $# -gt 0 ]; do
  case $1 in
    --against) against=${2:?--against needs a revision}; shift 2 ;;
    --json) json=${2:?--json needs a file}; shift 2 ;;
    -h|--help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option $1; see deploy/microbench.sh --help" ;;
    *) names+=("$1"); shift ;;
  esac
done
need_swift
need_python
apt_install valgrind

work=.build-microbench
mkdir -p $work

# build CORE BENCHMARK FOLDER: two modules, as the product has them, and optimized as it is.
build() {
  local core=$1 benchmark=$2 out=$3 options=(-O -wmo -swift-version 6 -parse-as-library)
  options+=(-I "$core/../CMemory")
  rm -rf "$out" && mkdir -p "$out"
  mapfile -d '' sources < <(find "$core" -name '*.swift' -print0 | sort -z)
  swiftc "${options[@]}" -module-name ReplicationCore -emit-module-path "$out/ReplicationCore.swiftmodule" \
    -c -o "$out/core.o" "${sources[@]}" \
    && swiftc "${options[@]}" -module-name Microbench -I "$out" -o "$out/microbench" "$benchmark"/*.swift "$out/core.o" -lm
}

say "building the core and its benchmarks"
build Sources/ReplicationCore deploy/microbench $work/present || fail "the benchmarks do not compile"

earlier=()
if [ -n "$against" ]; then
  rev=$(git rev-parse --verify --quiet "$against^{commit}") || fail "there is no revision $against here"
  short=$(git rev-parse --short "$rev")
  earlier=(--label "$short")
  if git diff --quiet "$rev" -- Sources/ReplicationCore deploy/microbench; then
    say "the core is the same as in $short"
  else
    say "building the core of $short"
    rm -rf $work/earlier-source && mkdir -p $work/earlier-source
    folders=(Sources/ReplicationCore)
    for folder in Sources/CMemory deploy/microbench; do
      if git cat-file -e "$rev:$folder" 2>/dev/null; then folders+=("$folder"); fi
    done
    git archive "$rev" "${folders[@]}" | tar -x -C $work/earlier-source
    if build $work/earlier-source/Sources/ReplicationCore deploy/microbench $work/earlier 2>$work/earlier.log; then
      earlier+=(--earlier $work/earlier/microbench)
    elif [ -d $work/earlier-source/deploy/microbench ] && build $work/earlier-source/Sources/ReplicationCore \
      $work/earlier-source/deploy/microbench $work/earlier 2>>$work/earlier.log; then
      say "the core's API has changed since $short, which is counted with its own benchmarks"
      earlier+=(--earlier $work/earlier/microbench)
    else
      say "no ratio: the core's API has changed since $short ($work/earlier.log)"
    fi
  fi
fi
python3 deploy/microbench/count.py $work/present/microbench ${names[@]+"${names[@]}"} --json "$json" \
  ${earlier[@]+"${earlier[@]}"}
