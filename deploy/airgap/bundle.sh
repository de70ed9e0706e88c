#!/usr/bin/env bash
# Turns the images that values ask for, the chart and what belongs to them into one file to carry into a closed network.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR

usage() {
  cat <<'USAGE'
usage: deploy/airgap/bundle.sh [--values FILE]... [--output FILE] [--devplane FILE]

Writes one OCI archive with every image of an installation and the chart as an OCI artifact. Beside the OCI layout it holds the
CustomResourceDefinition, bills of materials (CycloneDX), licences, checksums (SHA-256), and what loads it: load.sh and oras.
  --values FILE    the values of the installation, as helm gets them (default: the chart's); may be given several times
  --output FILE    where to write (default: devplane-VERSION-airgap.tar); FILE.sha256 is written beside it
  --devplane FILE  the executable that lists the images (default: devplane on PATH, else it is built from this checkout)

Images are taken from buildah's storage (deploy/images/*.sh leave them there), others from the registry that their name says.
Needs buildah, cargo, Go, python3 and jq. Tools are kept in DEVPLANE_CACHE (default: ~/.cache/devplane). The same inputs give the same bytes.
USAGE
}

fail() { # WHAT WHAT-TO-DO-NEXT
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}
usage_error() {
  printf 'error: %s\nhint: %s --help\n' "$1" "$0" >&2
  exit 64
}
progress() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$1"; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
chart=$repo/chart/devplane
version=$(sed -n 's/^version: *//p' "$chart/Chart.yaml")
values=() output=devplane-$version-airgap.tar devplane=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --values | --output | --devplane) [ $# -ge 2 ] || usage_error "$1 needs a value" ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  case $1 in
    --values) values+=(--values "$2") ;;
    --output) output=$2 ;;
    --devplane) devplane=$2 ;;
  esac
  shift 2
done
for tool in buildah cargo go python3 jq tar sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is not installed" "Debian: apt-get install buildah python3-venv jq; Rust with rustup; Go 1.26 or newer"
done
# shellcheck source=lib/tools.sh
. "$here/lib/tools.sh"
# shellcheck source=lib/images.sh
. "$here/lib/images.sh"
# shellcheck source=lib/bills.sh
. "$here/lib/bills.sh"

list_images() { # the JSON of `devplane doctor images`
  if [ -n "$devplane" ]; then
    "$devplane" doctor images --output json "${values[@]}"
  else
    cargo run --quiet --locked --manifest-path "$repo/Cargo.toml" -- doctor images --output json "${values[@]}"
  fi
}

# Another version knows other defaults and other images than this chart.
check_version() { # EXECUTABLE
  local said
  said=$("$1" --version) || fail "$1 does not run" "give another one with --devplane, or leave it out with none on PATH: then it is built from this checkout"
  case $said in
    "devplane $version" | "devplane $version "*) ;;
    *) fail "$1 is '$said', and the chart is of version $version: it would list other images" "give an executable of $version with --devplane, or take the other one off PATH: then it is built from this checkout" ;;
  esac
}

[ -n "$devplane" ] || devplane=$(command -v devplane || true)
[ -z "$devplane" ] || check_version "$devplane"
output=$(realpath -m -- "$output")
mkdir -p "$(dirname "$output")"
# Beside the output: the two take the same room, and /tmp may be small.
work=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$work"' EXIT
layout=$work/bundle
mkdir -p "$layout"

progress "tools: oras, syft, cargo-cyclonedx"
install_tools
progress "listing the images"
list_images >"$work/images.json" || fail "the list of images could not be made" "the message above says which value to correct"
copy_images "$work/images.json"
progress "the chart, version $version"
add_chart
progress "bills of materials and licences"
write_bills
install -m 0755 "$here/load.sh" "$layout/load.sh"
mkdir -p "$layout/crds" "$layout/bin"
cp "$chart"/crds/*.yaml "$layout/crds/"
for arch in amd64 arm64; do install -m 0755 "$(oras_for "$arch")" "$layout/bin/oras-linux-$arch"; done
cp "$repo/LICENSE" "$layout/LICENSE"

progress "checksums"
(cd "$layout" && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS)
progress "writing $output"
# Names first, then what they name: a reader finds the index without reading all of it.
(cd "$layout" && { printf '%s\0' oci-layout index.json load.sh images.tsv SHA256SUMS
  find . -type f -printf '%P\0' | LC_ALL=C sort -z | grep -zvxE 'oci-layout|index.json|load.sh|images.tsv|SHA256SUMS'; } |
  tar --no-recursion --null --files-from=- --format=gnu --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --mtime=@0 -cf "$work/archive.tar")
mv "$work/archive.tar" "$output"
(cd "$(dirname "$output")" && sha256sum "$(basename "$output")" >"$output.sha256")
progress "done: $(du -h --apparent-size "$output" | cut -f1), $(wc -l <"$layout/images.tsv") images and charts"
name=$(basename "$output")
printf '\nCarry %s over, and by another way its SHA-256, which is in %s.sha256. Then:\n  sha256sum -c %s.sha256\n  tar -xf %s load.sh\n  ./load.sh %s REGISTRY\n' \
  "$name" "$name" "$name" "$name" "$name"
