#!/usr/bin/env bash
# Turns the pinned Go modules into the directory of etcd, kube-apiserver, kubectl, helm and the rest, and prints its path.
# Builds only what is missing; needs Go and the module proxy, neither root nor a cluster. Progress goes to stderr.
#   --tools-for amd64|arm64   instead of these, kubectl-ARCH and helm-ARCH for machines of that kind
set -euo pipefail
tools_for=
case ${1-} in
  '') ;;
  --tools-for) tools_for=${2:?--tools-for needs amd64 or arm64} ;;
  *) printf "error: unknown argument '%s'\n" "$1" >&2 && exit 64 ;;
esac
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
if [ -n "$tools_for" ]; then build_tools_for "$tools_for" >&2; else build_binaries >&2; fi
STEP_NAME=
echo "$BIN"
