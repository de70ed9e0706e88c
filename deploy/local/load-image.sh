#!/usr/bin/env bash
# Turns an image in buildah's storage into one that the local cluster's pods can run:  deploy/local/load-image.sh REF
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 1 ] || { printf 'usage: %s REF\n' "$0" >&2; exit 64; }
for library in settings log process images; do
  # shellcheck source=/dev/null
  . "$here/lib/$library.sh"
done
load_image "$1"
