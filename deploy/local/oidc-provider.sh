#!/usr/bin/env bash
# Turns deploy/local/oidc-provider and its lockfile into a directory with provider.mjs and its packages, and prints its path.
# Installs only when the lockfile or the program changed. Progress goes to stderr.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
cd "$here/oidc-provider"
files=(package.json package-lock.json ./*.mjs)
dir=$cache/oidc-provider-$(cat "${files[@]}" | sha256sum | cut -c1-16)
mkdir -p "$cache"
exec 9>"$cache/oidc-provider.lock"
flock 9
if [ ! -e "$dir/.complete" ]; then
  echo "installing the oidc-provider packages" >&2
  rm -rf "$dir"
  mkdir "$dir"
  cp "${files[@]}" "$dir"
  (cd "$dir" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error >&2)
  touch "$dir/.complete"
fi
echo "$dir"
