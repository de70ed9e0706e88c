#!/usr/bin/env bash
# Prints the path of qemu-aarch64, which runs executables for ARM. Progress goes to stderr.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../harness/debian-program.sh" qemu-user-static usr/bin/qemu-aarch64-static qemu-aarch64
