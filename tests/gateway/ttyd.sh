#!/usr/bin/env bash
# Turns Debian's packages of ttyd and stunnel into programs that run on any Debian, and prints the path of ttyd; stunnel is beside it.
# Nothing is installed: the packages and the libraries that they need are unpacked into the cache, and they run with those. Progress
# goes to stderr.
set -euo pipefail
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/ttyd
mkdir -p "$cache"
exec 9>"$cache/ttyd.lock"
flock 9
if [ ! -x "$directory/ttyd" ] || [ ! -x "$directory/stunnel" ]; then
  command -v apt-get >/dev/null || { echo "error: ttyd and stunnel come from Debian's packages, and there is no apt-get here" >&2; exit 1; }
  echo "fetching ttyd and stunnel from Debian's packages" >&2
  rm -rf "$directory"
  mkdir -p "$directory"/{state/lists/partial,archives/partial,root}
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
  cat >"$directory/unstable.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: sid
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no
SOURCES
  # A package manager of its own, that knows of nothing installed: so it fetches every library.
  own=(-q -o "Dir::State=$directory/state" -o Dir::State::status=/dev/null -o "Dir::Cache::archives=$directory/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o "Dir::Etc::sourcelist=$directory/unstable.sources" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=- -o Debug::NoLocking=true -o APT::Sandbox::User=)
  apt-get "${own[@]}" update >&2
  apt-get "${own[@]}" install -y --download-only --no-install-recommends ttyd stunnel4 >&2
  for package in "$directory"/archives/*.deb; do dpkg-deb -x "$package" "$directory/root"; done
  rm -rf "$directory/archives" "$directory/state"
  loader=$(find "$directory/root" -name 'ld-linux-*.so.*' | head -n 1)
  libraries=$(find "$directory/root" -name 'libwebsockets.so.*' -printf '%h\n' | head -n 1)
  # libwebsockets looks for its event loop in LD_LIBRARY_PATH, which programs in the terminal inherit: so nothing else is there.
  mkdir "$directory/plugins"
  cp "$libraries"/libwebsockets-evlib_uv.so* "$directory/plugins"
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q --library-path %q %q "$@"\n' \
    "$directory/plugins" "$loader" "$libraries" "$directory/root/usr/bin/ttyd" >"$directory/ttyd.new"
  printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$loader" "$libraries" "$directory/root/usr/bin/stunnel4" >"$directory/stunnel"
  chmod +x "$directory/ttyd.new" "$directory/stunnel"
  "$directory/stunnel" -version >&2
  "$directory/ttyd.new" --version >&2
  mv "$directory/ttyd.new" "$directory/ttyd"
fi
echo "$directory/ttyd"
