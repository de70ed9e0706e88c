#!/usr/bin/env bash
# Turns Debian's package of the registry `distribution` into a program, and prints its path. Nothing is installed: the package is
# unpacked into the cache. Progress goes to stderr.
set -euo pipefail
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/registry
mkdir -p "$cache"
exec 9>"$cache/registry.lock"
flock 9
if [ ! -x "$directory/docker-registry" ]; then
  command -v apt-get >/dev/null || { echo "error: the registry comes from Debian's package docker-registry, and there is no apt-get here" >&2; exit 1; }
  echo "fetching the registry from Debian's packages" >&2
  rm -rf "$directory"
  mkdir -p "$directory/root"
  cd "$directory"
  download=(apt-get -q -o APT::Sandbox::User= download docker-registry)
  # Without an index of packages it knows none.
  "${download[@]}" >&2 || { apt-get -q update >&2 && "${download[@]}" >&2; }
  dpkg-deb -x docker-registry_*.deb root
  root/usr/bin/docker-registry --version >&2
  mv root/usr/bin/docker-registry docker-registry
  rm -rf root docker-registry_*.deb
fi
echo "$directory/docker-registry"
