#!/usr/bin/env bash
# Turns a dashboard into what Grafana's own types say of it:  tests/chart/dashboard/check.sh FILE.json
# Exits 1 for a key that they do not have, or a value that they do not allow. Compiler and types come from npm, into the cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}/dashboard-$(sha256sum <"$here/package-lock.json" | cut -c1-16)
mkdir -p "${cache%/*}"
exec 9>"$cache.lock"
flock 9
if [ ! -e "$cache/.complete" ]; then
  rm -rf "$cache"
  mkdir "$cache"
  cp "$here/package.json" "$here/package-lock.json" "$cache"
  (cd "$cache" && npm ci --ignore-scripts --no-audit --no-fund >&2)
  touch "$cache/.complete"
fi
trap 'rm -f "$cache/dashboard.ts"' EXIT
{
  cat <<'TS'
import type { Dashboard } from '@grafana/schema';
// In JSON the members of an enumeration are its texts.
type Plain<T> = T extends string ? `${T}` : T extends number ? number : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;
export const dashboard: Plain<Dashboard> =
TS
  cat "$1"
} >"$cache/dashboard.ts"
cd "$cache"
node_modules/.bin/tsc --noEmit --strict --skipLibCheck --module nodenext --moduleResolution nodenext --target es2022 dashboard.ts
