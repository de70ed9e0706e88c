#!/usr/bin/env bash
# Turns the modules of go.mod into csi-driver and csi-resizer, and prints the directory that they are in. Builds only what is missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for library in settings log process binaries; do
  # shellcheck source=/dev/null
  . "$here/../../../deploy/local/lib/$library.sh"
done
LOCAL_SRC=$here STEP_NAME="CSI programs"
trap report_exit EXIT
mkdir -p "$BIN/store" "$STATE/logs"
exec 9>"$CACHE/bin.lock"
flock 9

resizer() { # OUT
  (cd "$here" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -mod=readonly -ldflags '-s -w' -o "$1" github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer)
}
{
  built csi-driver "$(content_key go.mod go.sum main.go --)" go_build . ""
  built csi-resizer "$(content_key go.mod go.sum --)" resizer
} >&2
STEP_NAME=
echo "$BIN"
