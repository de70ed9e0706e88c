# shellcheck shell=bash disable=SC2154  # work and repo come from run.sh
# Turns what other tiers have built already into two small images in buildah's storage.

DEVPLANE_REF=localhost/airgap/devplane:test
WORKSPACE_REF=localhost/airgap/workspace:test

need_packages() {
  local tool missing=()
  for tool in buildah skopeo debootstrap jq openssl curl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
}

# Sets DEVPLANE, the executable.
make_images() {
  need_packages
  cargo build --quiet --locked --bin devplane
  DEVPLANE=$(cargo metadata --locked --no-deps --format-version 1 | jq -r .target_directory)/debug/devplane
  base_image
  local container
  container=$(buildah from scratch)
  strip -o "$work/devplane" "$DEVPLANE"
  buildah add -q "$container" "$work/devplane" / >/dev/null
  buildah config --entrypoint '["/devplane"]' --user 65532:65532 "$container"
  buildah commit -q --rm --timestamp 0 "$container" "$DEVPLANE_REF" >/dev/null
  buildah tag "$BASE_IMAGE" "$WORKSPACE_REF"
}

# The Debian root that the cluster tier's workspaces are built on: real packages, a quarter of the size.
base_image() {
  local DEVPLANE_LOCAL_DIR=$work/local
  # shellcheck source=/dev/null
  for library in settings log images; do . "$repo/deploy/local/lib/$library.sh"; done
  # shellcheck source=/dev/null
  . "$repo/deploy/local/lib/process.sh"
  mkdir -p "$STATE/logs"
  make_base_image
}
