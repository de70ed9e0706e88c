#!/usr/bin/env bash
# Turns Debian's package of Prometheus into promtool, and prints its path. Nothing is installed: the package is unpacked into the
# cache, and no service starts. Progress goes to stderr.
set -euo pipefail
if command -v promtool; then exit; fi
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/promtool
mkdir -p "$cache"
exec 9>"$cache/promtool.lock"
flock 9
if [ ! -x "$directory/promtool" ]; then
  command -v apt-get >/dev/null || { echo "error: promtool comes from Debian's packages, and there is no apt-get here; put it on PATH" >&2; exit 1; }
  echo "fetching promtool from Debian's packages" >&2
  rm -rf "$directory"
  mkdir -p "$directory/root"
  cd "$directory"
  quiet=(-q -o APT::Sandbox::User=)
  # Without an index of packages it knows none.
  apt-get "${quiet[@]}" download prometheus >&2 || { apt-get "${quiet[@]}" update >&2 && apt-get "${quiet[@]}" download prometheus >&2; }
  dpkg-deb -x prometheus_*.deb root
  mv root/usr/bin/promtool promtool.new
  rm -rf root prometheus_*.deb
  ./promtool.new --version >&2
  mv promtool.new promtool
fi
echo "$directory/promtool"
