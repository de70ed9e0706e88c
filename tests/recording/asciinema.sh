#!/usr/bin/env bash
# Turns a package of asciinema into a program in the cache, and prints its path:  tests/recording/asciinema.sh 2|3
# Version 2 is the one of PyPI and plays asciicast v2; version 3 is a crate and knows v3, too. Progress goes to stderr.
set -euo pipefail
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
mkdir -p "$cache"
exec 9>"$cache/asciinema.lock"
flock 9
case ${1-} in
  2)
    home=$cache/asciinema-2.4.0
    if [ ! -x "$home/bin/asciinema" ]; then
      rm -rf "$home"
      python3 -m venv "$home" >&2
      "$home/bin/pip" -q --disable-pip-version-check install --no-deps asciinema==2.4.0 >&2
    fi
    ;;
  3)
    home=$cache/asciinema-3.2.0
    if [ ! -x "$home/bin/asciinema" ]; then
      # Apart from the build that runs this test, which has its own target directory locked.
      CARGO_TARGET_DIR=$home/target cargo install --quiet --locked --root "$home" --version 3.2.0 asciinema >&2
      rm -rf "$home/target"
    fi
    ;;
  *)
    printf 'usage: tests/recording/asciinema.sh 2|3\n' >&2
    exit 64
    ;;
esac
echo "$home/bin/asciinema"
