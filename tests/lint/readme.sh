#!/usr/bin/env bash
# Each command that the README gives is there, and is run by a tier as it stands: a newcomer types these first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
failed=0
while IFS= read -r command; do
  if [ ! -x "${command%% *}" ]; then
    printf 'README.md: %s is no executable file\n' "${command%% *}" >&2 && failed=1
  elif ! sed 's/^ *//; s/^exec //' tests/harness/cluster.sh .ci/run | grep -qxF "$command"; then
    printf 'README.md: no test runs `%s`\n' "$command" >&2 && failed=1
  fi
done < <(grep -E '^    [a-z./]+\.sh( |$)' README.md | sed 's/^ *//')
exit "$failed"
