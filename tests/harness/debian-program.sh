#!/usr/bin/env bash
# Turns a package of Debian into one program of it, and prints its path:  debian-program.sh PACKAGE FILE NAME
#
# FILE is where the package has it, such as usr/bin/promtool, and NAME what it is called in the cache. Nothing is installed, and no service
# starts: the package is unpacked into the cache. Progress goes to stderr.
set -euo pipefail
[ $# = 3 ] || { echo "usage: $0 PACKAGE FILE NAME" >&2 && exit 64; }
package=$1 file=$2 name=$3
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
directory=$cache/$package
mkdir -p "$cache"
exec 9>"$cache/$package.lock"
flock 9
if [ ! -x "$directory/$name" ]; then
  command -v apt-get >/dev/null || { echo "error: $name comes from Debian's package $package, and there is no apt-get here" >&2; exit 1; }
  echo "fetching $name from Debian's packages" >&2
  rm -rf "$directory"
  mkdir -p "$directory/root"
  cd "$directory"
  download=(apt-get -q -o APT::Sandbox::User= download "$package")
  # Without an index of packages it knows none.
  "${download[@]}" >&2 || { apt-get -q -o APT::Sandbox::User= update >&2 && "${download[@]}" >&2; }
  dpkg-deb -x "${package}"_*.deb root
  "root/$file" --version >&2
  mv "root/$file" "$name"
  rm -rf root "${package}"_*.deb
fi
echo "$directory/$name"
