#!/usr/bin/env bash
# The rules of the tree that a machine can check; prints each breach, exits 1 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
breach() { printf 'style: %s\n' "$*" >&2; bad=1; }

# breaches PATTERN WORDS FOLDER...: one breach a line that matches.
breaches() {
  local pattern=$1 words=$2 line; shift 2
  while IFS= read -r line; do breach "$line: $words"; done \
    < <(grep -rnE --include='*.swift' -- "$pattern" "$@" || true)
}

while IFS= read -r -d '' file; do
  lines=$(wc -l <"$file")
  [ "$lines" -le 400 ] || breach "$file has $lines lines (400 at most): what is the second thing it does?"
done < <(find Package.swift Sources Tests migrations deploy -type f \( -name '*.swift' -o -name '*.sh' -o -name '*.py' \) -print0)

imports='^(public |internal |private |@_exported |@preconcurrency )*import '
others=(); for folder in Sources/*/; do [ "$folder" = Sources/PostgresClient/ ] || others+=("$folder"); done
breaches "${imports}CLibPQ\\b" "only PostgresClient may import CLibPQ" "${others[@]}" Tests
breaches "${imports}(Foundation|FoundationEssentials|Glibc|Musl|Dispatch|Logging)\\b" \
  "the core imports no I/O, no clock and no Foundation" Sources/ReplicationCore
breaches 'fatalError\(|\btry!|\bas!|\bTODO\b|FIXME|usleep\(|Thread\.sleep' "not in this tree" Sources Tests migrations
exit $bad
