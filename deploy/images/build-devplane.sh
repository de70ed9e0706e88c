#!/usr/bin/env bash
# Turns this repository into the image of the one static executable, without pulling any other image.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/images/build-devplane.sh REF [--arch amd64|arm64|all] [--force]

Compiles `devplane` statically on this machine, hands it to the last stage of the Dockerfile, and leaves the image REF
in buildah's storage. Does nothing when REF is already made from the same sources.
  --arch ARCH   for another machine than this one (amd64 or arm64); cross-compiled with zig, from PyPI. all: both, as REF-amd64 and
                REF-arm64, and REF is the index of the two, of which each node takes its own
  --force       make the image even when its sources did not change

Needs cargo, buildah, Node.js with npm, and a C compiler for musl (Debian: musl-tools).
Compiled files are kept in DEVPLANE_CACHE (default: ~/.cache/devplane). The same sources and compiler give the same digest, wherever
sources, cache and cargo's home are.
USAGE
}

fail() { # WHAT [WHAT-TO-DO-NEXT]
  printf 'error: %s\n' "$1" >&2
  [ -z "${2-}" ] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

usage_error() {
  printf 'error: %s\nhint: %s --help\n' "$1" "$0" >&2
  exit 64
}

progress() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$1"; }

have() { command -v "$1" >/dev/null 2>&1; }

ref='' arch='' force=no
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --arch)
      [ $# -ge 2 ] || usage_error "--arch needs a value: amd64, arm64 or all"
      arch=$2
      shift
      ;;
    --force) force=yes ;;
    -*) usage_error "unknown argument '$1'" ;;
    *)
      [ -z "$ref" ] || usage_error "one image reference is enough, but there are '$ref' and '$1'"
      ref=$1
      ;;
  esac
  shift
done
[ -n "$ref" ] || usage_error "which image? Give its reference, such as localhost/devplane:dev"

case $(uname -m) in
  x86_64) host=amd64 ;;
  aarch64) host=arm64 ;;
  *) fail "this machine is a $(uname -m); devplane is built on x86_64 and aarch64" ;;
esac
arch=${arch:-$host}

# An image is told from an index by asking; either may have the name from an earlier run.
build_both() {
  local one options=()
  [ "$force" = no ] || options=(--force)
  for one in amd64 arm64; do "${BASH_SOURCE[0]}" "$ref-$one" --arch "$one" "${options[@]}"; done
  buildah manifest rm "$ref" >/dev/null 2>&1 || buildah rmi "$ref" >/dev/null 2>&1 || true
  buildah manifest create "$ref" >/dev/null || fail "buildah can't make the index $ref" "its message is above"
  for one in amd64 arm64; do
    buildah manifest add --os linux --arch "$one" "$ref" "$ref-$one" >/dev/null || fail "buildah can't add $ref-$one to $ref" "its message is above"
  done
  progress "$ref: the index of $ref-amd64 and $ref-arm64"
}

if [ "$arch" = all ]; then
  have buildah || fail "buildah is not installed" "Debian: apt-get install buildah"
  build_both
  exit 0
fi
case $arch in
  amd64) target=x86_64-unknown-linux-musl machine=X86-64 ;;
  arm64) target=aarch64-unknown-linux-musl machine=AArch64 ;;
  *) usage_error "--arch '$arch': expected amd64, arm64 or all" ;;
esac

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
cd "$repo"
sources=(Cargo.toml Cargo.lock rust-toolchain.toml build.rs src templates chart/devplane/Chart.yaml chart/devplane/values.yaml chart/devplane/values.schema.json Dockerfile deploy/images/build-devplane.sh)

# The commit that last changed what the executable is made from: an image stays as it is when only other files change.
commit() {
  local present=() path hash
  for path in "${sources[@]}"; do [ ! -e "$path" ] || present+=("$path"); done
  hash=$(git log -1 --abbrev=12 --format=%h -- "${present[@]}" 2>/dev/null) || hash=''
  [ -n "$hash" ] || { echo "unknown commit" && return; }
  [ -z "$(git status --porcelain -- "${present[@]}")" ] || hash+=-modified
  echo "$hash"
}

sources_key() {
  for path in "${sources[@]}"; do
    [ ! -e "$path" ] || find "$path" -type d \( -name node_modules -o -name dist \) -prune -o -type f -print0
  done | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-32
}

have buildah || fail "buildah is not installed" "Debian: apt-get install buildah"
have cargo || fail "cargo is not installed" "install Rust 1.95 or newer with rustup, or build with: docker build -t $ref ."
have npm || fail "npm is not installed; the gateway's pages are built with it" "install Node.js 20 or newer, or build with: docker build -t $ref ."
have readelf || fail "readelf is not installed" "Debian: apt-get install binutils"
commit=${DEVPLANE_COMMIT:-$(commit)}
key="$arch $(sources_key)"
if [ "$force" = no ] && [ "$(buildah inspect --type image --format '{{index .OCIv1.Config.Labels "io.devplane.sources"}}' "$ref" 2>/dev/null)" = "$key" ]; then
  progress "$ref is up to date"
  exit 0
fi

if have rustup && ! rustup target list --installed | grep -qx "$target"; then
  progress "adding the Rust target $target"
  rustup target add "$target" >/dev/null 2>&1 || fail "rustup can't add the target $target" "rustup target add $target"
fi

build=(build)
if [ "$arch" = "$host" ]; then
  have musl-gcc || fail "there is no C compiler for musl on PATH (musl-gcc)" "Debian: apt-get install musl-tools"
else
  # zig is a C compiler for every target, with musl's headers in it; Debian has a cross compiler for glibc only.
  zig=$cache/zig-0.17.0
  if [ ! -e "$zig/.complete" ]; then
    have python3 || fail "python3 is not installed; zig, the cross compiler, comes as a Python package" "Debian: apt-get install python3-venv"
    progress "fetching zig, the cross compiler (100 MB)"
    rm -rf "$zig"
    python3 -m venv "$zig" || fail "python3 can't make a virtual environment" "Debian: apt-get install python3-venv"
    "$zig/bin/pip" -q --disable-pip-version-check install ziglang==0.17.0 cargo-zigbuild==0.24.0 ||
      fail "pip can't install ziglang and cargo-zigbuild" "check that pip reaches its package index"
    touch "$zig/.complete"
  fi
  export PATH=$zig/bin:$PATH
  build=(zigbuild)
fi

# The C of crates has the time of the clock in it (mimalloc's version), which compilers take from here. CFLAGS change with it, since by them cargo
# knows that what an earlier build has left is to be compiled anew.
export SOURCE_DATE_EPOCH=0 CFLAGS="${CFLAGS-} -Wno-date-time"
# Messages of panics name source files: of the crates below a name that is the same on every machine.
crates="target.$target.rustflags = ['--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo']"

started=$SECONDS
progress "compiling devplane for $target (from nothing: several minutes)"
DEVPLANE_COMMIT=$commit CARGO_TARGET_DIR=$cache/target \
  cargo "${build[@]}" --release --locked --bin devplane --target "$target" --config "$crates" ||
  fail "devplane does not compile for $target" "the compiler's messages are above; a registry that did not answer is named there too"
binary=$cache/target/$target/release/devplane

# An image without a C library has no use for an executable that looks for one.
headers=$(readelf --wide --file-header --program-headers --dynamic "$binary")
case $headers in *"$machine"*) ;; *) fail "$binary is not for $arch" ;; esac
case $headers in *INTERP* | *"(NEEDED)"*) fail "$binary is not static" "check which C compiler and linker cargo used for $target" ;; esac

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -D -m 0755 "$binary" "$context/out/devplane"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The context stands in for the stage `build`, which is then not run; the last stage is the Dockerfile's own. No time of the clock is in
# the image, so that equal sources have equal digests.
buildah build --quiet --layers=false --timestamp 0 --platform "linux/$arch" --build-context "build=$context" \
  --build-arg "VERSION=$version" --build-arg "DEVPLANE_COMMIT=$commit" --label "io.devplane.sources=$key" \
  --file Dockerfile --tag "$ref" "$context" >/dev/null || fail "buildah can't make $ref from the Dockerfile" "its message is above"
progress "$ref: devplane $version ($commit) for $arch, $(du -h --apparent-size "$binary" | cut -f1), in $((SECONDS - started)) s"
