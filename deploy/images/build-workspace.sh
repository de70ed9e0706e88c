#!/usr/bin/env bash
# Turns package registries and this directory into the workspace image, left in buildah's storage.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/images/build-workspace.sh REF [--base IMAGE] [--arch amd64|arm64]

  --base IMAGE   what to build on: Ubuntu 24.04 or Debian 13 (default: BASE_IMAGE, else ubuntu:24.04)
  --arch ARCH    for another machine than this one. Programs of the base run while the image is made, so this machine must run those of ARCH:
                 by an emulator that its kernel knows of (binfmt_misc; Debian: qemu-user-static)

To have one name for both, put REF-amd64 and REF-arm64 into an index: buildah manifest create REF REF-amd64 REF-arm64.

Programs that are in no Debian or Ubuntu package come from npm (opencode) and Go modules (kubectl, helm). Further
executables that a site wants in the image, such as k9s or oc, are taken from the directory EXTRA_TOOLS, when it is set.
Needs root, buildah, npm and Go. Downloads are kept in DEVPLANE_CACHE (default: ~/.cache/devplane).
USAGE
}

fail() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}
progress() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$1"; }

ref='' base=${BASE_IMAGE:-ubuntu:24.04} arch=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --base)
      [ $# -ge 2 ] || fail "--base needs an image" "$0 --help"
      base=$2
      shift
      ;;
    --arch)
      [ $# -ge 2 ] || fail "--arch needs amd64 or arm64" "$0 --help"
      arch=$2
      shift
      ;;
    -*) fail "unknown argument '$1'" "$0 --help" ;;
    *) ref=$1 ;;
  esac
  shift
done
[ -n "$ref" ] || fail "which image? Give its reference, such as localhost/devplane-workspace:dev" "$0 --help"
command -v buildah >/dev/null || fail "buildah is not installed" "Debian: apt-get install buildah"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
case $(uname -m) in
  x86_64) host=amd64 ;;
  aarch64) host=arm64 ;;
  *) fail "this machine is a $(uname -m); the workspace image is made for x86_64 and aarch64" "build it on one of these" ;;
esac
arch=${arch:-$host}
case $arch in
  amd64) package=opencode-linux-x64 cpu=x64 ;;
  arm64) package=opencode-linux-arm64 cpu=arm64 ;;
  *) fail "--arch '$arch': expected amd64 or arm64" "$0 --help" ;;
esac
context=$cache/workspace-image/$arch

progress "kubectl and helm from Go modules"
if [ "$arch" = "$host" ]; then
  binaries=$("$here/../local/hyperkube.sh" 2>/dev/null) || fail "deploy/local/hyperkube.sh failed" "run it alone to see why"
  kubectl=$binaries/kubectl helm=$binaries/helm
else
  binaries=$("$here/../local/hyperkube.sh" --tools-for "$arch" 2>/dev/null) || fail "deploy/local/hyperkube.sh --tools-for $arch failed" "run it alone to see why"
  kubectl=$binaries/kubectl-$arch helm=$binaries/helm-$arch
fi

# What the image is made from: the files here, the base, and the executables, whose links name their content.
sources_key() {
  {
    find "$here/workspace" "${BASH_SOURCE[0]}" -type f -print0 | sort -z | xargs -0 cat
    buildah inspect --type image --format '{{.FromImageID}}' "$base" 2>/dev/null || echo "$base"
    readlink -f "$kubectl" "$helm"
    [ -z "${EXTRA_TOOLS-}" ] || cat "$EXTRA_TOOLS"/*
  } | sha256sum | cut -c1-32
}
key=$(sources_key)
if [ "$(buildah inspect --type image --format '{{index .OCIv1.Config.Labels "io.devplane.sources"}}' "$ref" 2>/dev/null)" = "$key" ]; then
  progress "$ref is up to date"
  exit 0
fi

progress "opencode from npm"
mkdir -p "$context/opencode" "$context/tools"
if ! cmp -s "$here/workspace/opencode/package-lock.json" "$context/opencode/.installed"; then
  cp "$here/workspace/opencode/"package*.json "$context/opencode/"
  (cd "$context/opencode" && npm ci --os=linux --cpu="$cpu" --ignore-scripts --no-audit --no-fund >/dev/null) ||
    fail "npm can't install opencode" "check that npm reaches its registry: npm ping"
  cp "$here/workspace/opencode/package-lock.json" "$context/opencode/.installed"
fi

rm -rf "$context/build"
mkdir -p "$context/build/tools"
cp -r "$here/workspace/." "$context/build/"
rm -rf "$context/build/opencode"
cp "$context/opencode/node_modules/$package/bin/opencode" "$context/build/tools/"
cp -L "$kubectl" "$context/build/tools/kubectl"
cp -L "$helm" "$context/build/tools/helm"
[ -z "${EXTRA_TOOLS-}" ] || cp -L "$EXTRA_TOOLS"/* "$context/build/tools/"

replaced=$(buildah inspect --type image --format '{{.FromImageID}}' "$ref" 2>/dev/null || true)
progress "building $ref on $base (from nothing: several minutes)"
# Newer ones of buildah raise these limits, which not every root may.
limit() { ulimit "-$1" | sed 's/unlimited/-1/'; }
limits=(--ulimit "nofile=$(limit Sn):$(limit Hn)" --ulimit "nproc=$(limit Su):$(limit Hu)")
buildah build --isolation chroot "${limits[@]}" --layers --platform "linux/$arch" --build-arg "BASE_IMAGE=$base" --label "io.devplane.sources=$key" --tag "$ref" "$context/build" >"$context/build.log" 2>&1 ||
  fail "buildah can't build $ref" "read $context/build.log; a package mirror that did not answer is the usual reason, and 'Exec format error' tells that this machine runs nothing for $arch"
rm -rf "$context/build"
# It would stay, without a name and with nearly two gigabytes; one that has another name, or is in use, is refused.
[ -z "$replaced" ] || buildah rmi "$replaced" >/dev/null 2>&1 || true
progress "$ref is in buildah's storage"
