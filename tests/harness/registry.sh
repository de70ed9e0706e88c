#!/usr/bin/env bash
# Prints the path of the registry `distribution`. Progress goes to stderr.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/debian-program.sh" docker-registry usr/bin/docker-registry docker-registry
