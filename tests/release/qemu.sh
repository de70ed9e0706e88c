#!/usr/bin/env bash
# Turns Debian's package of qemu into qemu-aarch64, which runs executables for ARM, and prints its path. Nothing is installed: the package
# is unpacked into the cache. Progress goes to stderr.
set -euo pipefail
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/qemu
mkdir -p "$cache"
exec 9>"$cache/qemu.lock"
flock 9
if [ ! -x "$directory/qemu-aarch64" ]; then
  command -v apt-get >/dev/null || { echo "error: qemu comes from Debian's package qemu-user-static, and there is no apt-get here" >&2; exit 1; }
  echo "fetching qemu from Debian's packages" >&2
  rm -rf "$directory"
  mkdir -p "$directory/root"
  cd "$directory"
  download=(apt-get -q -o APT::Sandbox::User= download qemu-user-static)
  # Without an index of packages it knows none.
  "${download[@]}" >&2 || { apt-get -q update >&2 && "${download[@]}" >&2; }
  dpkg-deb -x qemu-user-static_*.deb root
  root/usr/bin/qemu-aarch64-static --version >&2
  mv root/usr/bin/qemu-aarch64-static qemu-aarch64
  rm -rf root qemu-user-static_*.deb
fi
echo "$directory/qemu-aarch64"
