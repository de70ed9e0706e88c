#!/usr/bin/env bash
# Turns the pinned kwok release into an executable under <cache>/bin, and prints its path. For this benchmark alone, so that nobody
# else has to build it. Needs Go and the module proxy. Progress goes to stderr.
set -euo pipefail
local=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../deploy/local" && pwd)
# shellcheck source=../../deploy/local/lib/settings.sh
. "$local/lib/settings.sh"
# shellcheck source=../../deploy/local/lib/log.sh
. "$local/lib/log.sh"
# shellcheck source=../../deploy/local/lib/process.sh
. "$local/lib/process.sh"
# shellcheck source=../../deploy/local/lib/binaries.sh
. "$local/lib/binaries.sh"
KWOK_VERSION=0.8.0
STEP_NAME="kwok"
trap report_exit EXIT
command -v go >/dev/null || fail "go is not on PATH" "install Go 1.26 or newer and put it on PATH"
mkdir -p "$BIN/store" "$STATE/logs"
exec 9>"$CACHE/kwok.lock"
flock 9
built kwok "$(content_key -- "$KWOK_VERSION")" go_release "sigs.k8s.io/kwok/cmd/kwok@v$KWOK_VERSION" kwok >&2
STEP_NAME=
echo "$BIN/kwok"
