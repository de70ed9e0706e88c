#!/usr/bin/env bash
# Builds the image of the executable for both architectures, makes it a second time, compiles all of it a second time for this machine and
# elsewhere, and runs both executables: the one for ARM by qemu. So are the programs of the workspace image for ARM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${DEVPLANE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/devplane}"
export DEVPLANE_CACHE
# shellcheck source=../chart/lib.sh
. tests/chart/lib.sh
ref=localhost/devplane-release:test
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-release-XXXXXX")
cleanup() {
  buildah manifest rm "$ref" >/dev/null 2>&1 || true
  buildah rmi -f "$ref-amd64" "$ref-arm64" "$ref-elsewhere" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
missing=()
for tool in buildah jq readelf strings musl-gcc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends buildah netavark jq binutils musl-tools >/dev/null
fi
qemu=$(tests/release/qemu.sh)

# build NAME ARGUMENTS...: the index as an OCI layout in $work/NAME.
build() {
  local name=$1
  shift
  deploy/images/build-devplane.sh "$ref" --arch all "$@"
  buildah manifest push --quiet --all "$ref" "oci:$work/$name:index" >/dev/null
}
claim "one index is built for both architectures" build first
claim "and a second time" build second --force
digest() { jq -r '.manifests[0].digest' "$work/$1/index.json"; }
claim "with the same digest" test "$(digest first)" = "$(digest second)"

# The same sources in another place, compiled from nothing into another place, with crates that lie at another place.
compiled_elsewhere() {
  local elsewhere=$work/elsewhere
  mkdir -p "$elsewhere/sources" "$elsewhere/cargo"
  git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf - | tar -xf - -C "$elsewhere/sources"
  # Only the crates that are fetched already, so that none is fetched twice.
  ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$elsewhere/cargo/registry"
  [ ! -e "${CARGO_HOME:-$HOME/.cargo}/config.toml" ] || ln -s "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$elsewhere/cargo/config.toml"
  DEVPLANE_CACHE=$elsewhere/cache CARGO_HOME=$elsewhere/cargo DEVPLANE_COMMIT=$(label "$ref-$here" org.opencontainers.image.revision) \
    "$elsewhere/sources/deploy/images/build-devplane.sh" "$ref-elsewhere" --force
}
label() { buildah inspect --type image --format "{{index .OCIv1.Config.Labels \"$2\"}}" "$1"; }
digest_of() { buildah inspect --type image --format '{{.FromImageDigest}}' "$1"; }
here=amd64
[ "$(uname -m)" = x86_64 ] || here=arm64
claim "it is compiled a second time, elsewhere" compiled_elsewhere
claim "to the same digest" test "$(digest_of "$ref-$here")" = "$(digest_of "$ref-elsewhere")"

blob() { cat "$work/first/blobs/${1/://}"; }
platforms=$(blob "$(digest first)" | jq -r '[.manifests[].platform | "\(.os)/\(.architecture)"] | sort | join(" ")')
claim "it says which is for whom" test "$platforms" = "linux/amd64 linux/arm64"

# The executable as it lies in the image's layer.
executable() { # ARCHITECTURE
  local manifest
  manifest=$(blob "$(digest first)" | jq -r --arg arch "$1" '.manifests[] | select(.platform.architecture == $arch) | .digest')
  mkdir -p "$work/$1"
  blob "$(blob "$manifest" | jq -r '.layers[-1].digest')" | tar -xz -C "$work/$1"
}
claim "the image for x86_64 has an executable" executable amd64
claim "and the one for ARM" executable arm64
is_for_arm() { readelf -h "$work/arm64/devplane" | grep -q AArch64; }
claim "which is for ARM" is_for_arm
native() { "$work/amd64/devplane" "$@"; }
arm() { "$qemu" "$work/arm64/devplane" "$@"; }
[ "$(uname -m)" = x86_64 ] || native() { "$work/arm64/devplane" "$@"; }
claim "it says the same version" test "$(arm --version)" = "$(native --version)"
same_crd() { diff <(arm crd-gen) chart/devplane/crds/workspaces.workspace.devplane.io.yaml; }
claim "and prints the chart's CustomResourceDefinition" same_crd
names_no_place() { ! strings -n 6 "$work/$1/devplane" | grep -E "$(printf '%s|' "${CARGO_HOME:-$HOME/.cargo}/" "$PWD/" "$DEVPLANE_CACHE/")no-other-place"; }
for arch in amd64 arm64; do claim "the one for $arch names no directory of this machine" names_no_place "$arch"; done
same_images() { diff <(arm doctor images) <(native doctor images); }
claim "and lists the same images" same_images

# shellcheck source=workspace.sh
. tests/release/workspace.sh

printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
