#!/usr/bin/env bash
# Checks the types of the pages and runs their unit tests, in a copy below the cache: the checkout stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
copy=$cache/web
mkdir -p "$copy"
for name in src static test; do rm -rf "${copy:?}/$name"; done
cp -R src/gateway/web/. "$copy"
cd "$copy"
if ! cmp -s package-lock.json installed-lock.json; then
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  cp package-lock.json installed-lock.json
fi
# A registry's address in the lock file would bind every build to it.
if grep -n '"resolved"' package-lock.json; then echo "error: package-lock.json names a registry; make it anew with npm install --package-lock-only" >&2 && exit 1; fi
npm run --silent check
npm test --silent
