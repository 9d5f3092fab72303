#!/usr/bin/env bash
# The model check of the split: a million seeded runs of the real core between two simulated databases, with crashes, and a
# million more with rows that refer to others by numbers of each database's own.
#
#   deploy/model-check.sh           builds the core alone, optimised, and runs it: some minutes on two cores
#   deploy/model-check.sh SEED      replays one run, and prints every step of it when it fails
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD folder=.build/model-check
mkdir -p "$folder/Sources" "$folder/Tests"
ln -sfn "$root/Sources/ReplicationCore" "$folder/Sources/ReplicationCore"
ln -sfn "$root/Tests/ReplicationCoreTests" "$folder/Tests/ReplicationCoreTests"
# A package of its own: an optimised build of everything would take longer than the check.
cat >"$folder/Package.swift" <<'EOF'
// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "model-check",
    targets: [
        .target(name: "ReplicationCore"),
        .testTarget(
            name: "ReplicationCoreTests", dependencies: ["ReplicationCore"],
            exclude: ["Golden", "Model", "Ownership", "Plan", "Progress", "Stream", "Wire", "StreamScript.swift"],
            sources: ["Conflict", "SplitMix.swift"]),
    ])
EOF
export LINDERO_LONG=1
[ $# -eq 0 ] || export LINDERO_SPLIT_SEED=$1
timeout -k 20 3600 swift test -c release -Xswiftc -enable-testing --package-path "$folder" --filter SimulationTests \
  </dev/null
