#!/usr/bin/env bash
# Turns the asciinema package into a program in the cache, and prints its path. Progress goes to stderr.
set -euo pipefail
version=2.4.0
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
home=$cache/asciinema-$version
mkdir -p "$cache"
exec 9>"$cache/asciinema.lock"
flock 9
if [ ! -x "$home/bin/asciinema" ]; then
  rm -rf "$home"
  python3 -m venv "$home" >&2
  "$home/bin/pip" -q --disable-pip-version-check install --no-deps "asciinema==$version" >&2
fi
echo "$home/bin/asciinema"
