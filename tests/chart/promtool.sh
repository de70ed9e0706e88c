#!/usr/bin/env bash
# Prints the path of promtool: that on PATH, or Debian's. Progress goes to stderr.
set -euo pipefail
if command -v promtool; then exit; fi
"$(dirname "${BASH_SOURCE[0]}")/../harness/debian-program.sh" prometheus usr/bin/promtool promtool || { echo "hint: put promtool on PATH" >&2 && exit 1; }
