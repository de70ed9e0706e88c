#!/usr/bin/env bash
# Turns the pinned Go modules into the directory of etcd, kube-apiserver, kubectl, helm and the rest, and prints its path.
# Builds only what is missing; needs Go and the module proxy, neither root nor a cluster. Progress goes to stderr.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib/settings.sh
. "$here/lib/settings.sh"
# shellcheck source=lib/log.sh
. "$here/lib/log.sh"
# shellcheck source=lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=lib/binaries.sh
. "$here/lib/binaries.sh"
STEP_NAME="binaries"
trap report_exit EXIT
mkdir -p "$CACHE"
# Two callers at once would build everything twice.
exec 9>"$CACHE/bin.lock"
flock 9
build_binaries >&2
STEP_NAME=
echo "$BIN"
