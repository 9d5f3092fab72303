#!/usr/bin/env bash
# The rules of the tree that a machine can check; prints each breach, exits 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
breach() { printf 'style: %s\n' "$*" >&2; bad=1; }

while IFS= read -r file; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 400 ] || breach "$file has $lines lines (400 at most): what is the second thing it does?"
done < <(git ls-files '*.swift')
while IFS= read -r file; do breach "$file imports CLibPQ; only PostgresClient may"; done \
  < <(git grep -lE '^import CLibPQ' -- 'Sources/*.swift' ':!Sources/PostgresClient' || true)
while IFS= read -r file; do breach "$file: the core imports I/O, a clock or Foundation"; done \
  < <(git grep -lE '^(public |internal |private |@_exported )*import (Foundation|FoundationEssentials|Glibc|Dispatch|Logging|CLibPQ)' -- Sources/ReplicationCore || true)
while IFS= read -r line; do breach "$line"; done \
  < <(git grep -nE 'fatalError\(|try!|as!|\bTODO\b|FIXME|usleep\(|Thread\.sleep' -- '*.swift' || true)
exit $bad
