#!/usr/bin/env bash
# Feeds the decoder and the assembler with what libFuzzer makes of the golden messages.
#
#   deploy/fuzz.sh [SECONDS]     default 60; a failing input is left in .build-fuzz/
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/prerequisites.sh
need_swift
seconds=${1:-60}
work=.build-fuzz
mkdir -p $work/corpus
say "building with -sanitize=fuzzer"
swiftc -O -swift-version 6 -parse-as-library -sanitize=fuzzer -module-name Fuzz -o $work/fuzz \
  $(find Sources/ReplicationCore -name '*.swift') deploy/fuzz/FuzzDecoder.swift
if [ -z "$(ls $work/corpus)" ]; then
  python3 - $work/corpus <<'P'
import sys, glob, pathlib
out = pathlib.Path(sys.argv[1])
for n, path in enumerate(sorted(glob.glob("Tests/ReplicationCoreTests/Golden/*.hex"))):
    version = 7 if "parallel" in path else 2 if "prepared" in path else 1 if "streamed" in path else 0
    messages = [bytes.fromhex(line.strip()) for line in open(path)]
    stream = bytes([version]) + b"".join(bytes([len(m)]) + m for m in messages if len(m) < 256)
    (out / f"golden{n}").write_bytes(stream)
P
fi
$work/fuzz -max_total_time="$seconds" -max_len=16384 -artifact_prefix=$work/ $work/corpus 2>&1 | tail -5
say "nothing found in $seconds s"
