#!/usr/bin/env bash
# Prints the directory of the browser's tests, with what they need beside them: the packages, and `chromium`. Progress goes to stderr.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}

browser_path() {
  local name
  for name in chromium chromium-browser google-chrome; do command -v "$name" && return; done
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || {
    printf 'error: chromium is missing\nhint: apt-get install chromium\n' >&2
    return 1
  }
  echo "installing Chromium from Debian's packages" >&2
  { apt-get -o DPkg::Lock::Timeout=300 update -q && apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends chromium; } >&2
  command -v chromium
}

copy=$cache/browser
mkdir -p "$copy"
exec 9>"$cache/browser.lock"
flock 9
# Another test may just be reading what has not changed.
for file in ./*.mjs ./package*.json .npmrc; do
  cmp -s "$file" "$copy/$file" || { cp "$file" "$copy/new" && mv "$copy/new" "$copy/$file"; }
done
if ! cmp -s "$copy/package-lock.json" "$copy/installed-lock.json"; then
  (cd "$copy" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  cp "$copy/package-lock.json" "$copy/installed-lock.json"
fi
ln -sfn "$(browser_path)" "$copy/chromium"
echo "$copy"
