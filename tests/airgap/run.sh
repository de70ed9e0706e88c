#!/usr/bin/env bash
# Bundles two images and the chart, breaks the bundle in several ways, loads it into a real registry behind HTTPS with a private
# authority and a password, and looks at what arrived: with the registry's own API, with helm, and with what the printed values name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
: "${DEVPLANE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/devplane}"
export DEVPLANE_CACHE
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-airgap-XXXXXX")
# shellcheck source=../chart/lib.sh
. tests/chart/lib.sh
# shellcheck source=images.sh
. tests/airgap/images.sh
cleanup() {
  [ ! -s "$work/registry/pid" ] || kill "$(cat "$work/registry/pid")" 2>/dev/null || true
  buildah rmi -f "$DEVPLANE_REF" "$WORKSPACE_REF" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
bin=${DEVPLANE_TEST_BIN:-$(deploy/local/hyperkube.sh)}
export PATH=$bin:$PATH HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
unset KUBECONFIG

CRANE_VERSION=0.22.1
make_images
cat >"$work/values.yaml" <<VALUES
operator: {image: $DEVPLANE_REF}
gateway: {image: $DEVPLANE_REF}
workspace: {image: $WORKSPACE_REF, classes: [{name: small, image: $WORKSPACE_REF}]}
VALUES

bundle() { # OUTPUT VALUES
  deploy/airgap/bundle.sh --devplane "$DEVPLANE" --values "$2" --output "$1" 2>&1
}
claim "a bundle is written" bundle "$work/bundle.tar" "$work/values.yaml"
claim "and a second time" bundle "$work/again.tar" "$work/values.yaml"
claim "with the same bytes" cmp "$work/bundle.tar" "$work/again.tar"
checksum() { (cd "$work" && sha256sum -c bundle.tar.sha256); }
claim "its own checksum is beside it" checksum
mkdir "$work/open" && tar -xf "$work/bundle.tar" -C "$work/open"
tar -tf "$work/bundle.tar" >"$work/names"
holds() { grep -qxF -- "$1" "$work/names"; }
for file in oci-layout index.json SHA256SUMS images.tsv load.sh bin/oras-linux-amd64 bin/oras-linux-arm64 chart/devplane-2.0.0.tgz \
  crds/workspaces.workspace.devplane.io.yaml sbom/crates.cdx.json licences/crates.tsv; do
  claim "it holds $file" holds "$file"
done
component() { jq -e --arg name "$2" '[.components[] | select(.name == $name)] | length > 0' "$work/open/sbom/$1.cdx.json"; }
claim "the crates are listed" component crates rustls
denied "but none of the tests" component crates insta
claim "the Debian packages are listed" component airgap_workspace_test bash
licences() { jq -e '[.components[] | select(.purl // "" | startswith("pkg:deb")) | select(.licenses | not)] | length < 5' "$work/open/sbom/airgap_workspace_test.cdx.json"; }
claim "with their licences" licences
claim "the licences of crates are listed" grep -qP '^rustls\t[0-9.]+\t.*MIT' "$work/open/licences/crates.tsv"
claim "with their texts" test -s "$(find "$work/open/licences/crates" -path '*/rustls-0*/LICENSE*' | head -n 1)"
denied "no path of this machine is in it" grep -rqF "$HOME/" "$work/open" --include=*.json --include=*.tsv --include=SHA256SUMS
claim "the CustomResourceDefinition is the chart's" cmp "$work/open/crds/workspaces.workspace.devplane.io.yaml" chart/devplane/crds/workspaces.workspace.devplane.io.yaml
refused "an image that is nowhere is named" "devplane:0.0.1 is not in buildah's storage" bundle "$work/none.tar" <(echo 'image: localhost/devplane:0.0.1')
denied "and leaves no half bundle" test -e "$work/none.tar"
claim "nor anything in the checkout" test -z "$(find "$repo" -maxdepth 1 -name '*.json' -newer "$work/values.yaml")"
printf '#!/bin/sh\necho "devplane 1.9.0 (0123456789ab)"\n' >"$work/older" && chmod +x "$work/older"
other_version() { deploy/airgap/bundle.sh --devplane "$work/older" --output "$work/none.tar" 2>&1; }
refused "a devplane of another version does not list the images" "and the chart is of version 2.0.0" other_version

# The load.sh of the bundle itself, as it is used on the other side.
load() { "$work/open/load.sh" "$@" 2>&1; }
claim "an untouched bundle passes" load "$work/bundle.tar" --check
blob=$(find "$work/open/blobs" -type f -size +1000k -printf '%P\n' | head -n 1)
changed() { # NAME COMMAND...: a bundle changed by the command, which runs in a copy of its content
  cp -r "$work/open" "$work/changed"
  (cd "$work/changed" && "${@:2}" && tar -cf "$work/$1.tar" -- *)
  rm -rf "$work/changed"
}
changed flipped bash -c "printf x | dd of=blobs/$blob bs=1 seek=5000 conv=notrunc status=none"
refused "a changed blob is found and named" "$blob" load "$work/flipped.tar" --check
changed missing rm crds/workspaces.workspace.devplane.io.yaml
refused "a missing file" "crds/workspaces.workspace.devplane.io.yaml" load "$work/missing.tar" --check
changed added bash -c 'echo x >bin/extra'
refused "a file that nobody bundled" "bin/extra" load "$work/added.tar" --check
sum=$(cut -c1-64 "$work/bundle.tar.sha256")
claim "a bundle of the checksum that was told passes" load "$work/bundle.tar" --check --sha256 "$sum"
refused "a bundle of another checksum than was told" "do not use it" load "$work/flipped.tar" --check --sha256 "$sum"
refused "what is no checksum" "64 hexadecimal digits" load "$work/bundle.tar" --check --sha256 "${sum:1}"
mkdir "$work/tools" && for tool in bash sed grep tar; do ln -s "$(command -v "$tool")" "$work/tools/"; done
without_tools() { PATH=$work/tools "$BASH" "$work/open/load.sh" "$work/bundle.tar" --check 2>&1; }
refused "what it needs and is not there is named" "awk is not installed" without_tools
head -c 20000000 "$work/bundle.tar" >"$work/cut.tar"
refused "an archive that was cut" "can't be read to its end" load "$work/cut.tar" --check
tar -cf "$work/other.tar" -C "$work" values.yaml
refused "what is no bundle" "is no bundle" load "$work/other.tar" --check
refused "a registry with a scheme" "without https://" load "$work/bundle.tar" https://registry.example.test

# Digests of a bundle may have a 401 or 403 in them, which is no answer of a registry.
refused "a registry that does not answer" "check that the registry answers" load "$work/bundle.tar" 127.0.9.5:1/of-401-and-403

registry=127.0.9.5:5000
tests/airgap/registry.sh "$work/registry" "$registry" registry.example.test
account=(--ca "$work/registry/ca.crt" --user "$(cat "$work/registry/user")" --password-file "$work/registry/password")
export DOCKER_CONFIG=$work/docker
refused "without the authority the registry is not trusted" "name the authority" load "$work/bundle.tar" "$registry/platform"
refused "without an account it takes nothing" "give --user" load "$work/bundle.tar" "$registry/platform" --ca "$work/registry/ca.crt"
echo wrong >"$work/wrong"
refused "nor with a wrong password" "give --user" load "$work/bundle.tar" "$registry/platform" --ca "$work/registry/ca.crt" --user pusher --password-file "$work/wrong"
claim "nothing arrived so far" test ! -e "$work/registry/data/docker/registry/v2/repositories"
"$work/open/load.sh" "$work/bundle.tar" "$registry/platform" "${account[@]}" >"$work/printed.yaml" 2>"$work/progress" || cat "$work/progress"
claim "a load pushes everything" grep -q 'all 3 are in' "$work/progress"
denied "the password is nowhere in what is printed" grep -qF "$(cat "$work/registry/password")" "$work/printed.yaml" "$work/progress"

ask() { curl -sf --noproxy '*' --cacert "$work/registry/ca.crt" -u "$(cat "$work/registry/user"):$(cat "$work/registry/password")" "$@"; }
arrived() { # NAME: its digest as the registry gives it
  ask -o /dev/null -D - -H 'Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json' \
    "https://$registry/v2/platform/${1%:*}/manifests/${1##*:}" | tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p'
}
same_digests() {
  local name digest
  while IFS=$'\t' read -r name digest _; do
    [ "$(arrived "$name")" = "$digest" ] || { echo "$name: $(arrived "$name") instead of $digest" && return 1; }
  done <"$work/open/images.tsv"
}
claim "with the digests of the bundle" same_digests
pinned() { # the printed values name what the registry has, by digest
  local name digest
  "$DEVPLANE" doctor images --values "$work/printed.yaml" >"$work/pinned"
  while IFS=$'\t' read -r name digest _ uses; do
    [ "$uses" = chart ] || grep -qxF "$registry/platform/$name@$digest" "$work/pinned" || { cat "$work/pinned" && return 1; }
  done <"$work/open/images.tsv"
}
claim "the printed values name them by digest" pinned
claim "and say where a class has its own" grep -q "#   workspace class small: $registry/platform/airgap/workspace:test@sha256:" "$work/printed.yaml"

written() { grep -cE 'http.request.method=(POST|PUT|PATCH)' "$work/registry/log"; }
before=$(written)
claim "a second load" load "$work/bundle.tar" "$registry/platform" "${account[@]}"
claim "writes nothing" test "$(written)" = "$before"

helm_pull() {
  helm pull "oci://$registry/platform/charts/devplane" --version 2.0.0 --ca-file "$work/registry/ca.crt" \
    --username "$(cat "$work/registry/user")" --password "$(cat "$work/registry/password")" -d "$work"
}
claim "helm pulls the chart" helm_pull
template() { helm template devplane "$1" -n workspace-operator-system --kube-version 1.36.0 -f tests/chart/values/minimal.yaml -f "$work/values.yaml" -f "$work/printed.yaml"; }
renders_alike() { diff <(template chart/devplane) <(template "$work/devplane-2.0.0.tgz"); }
claim "which renders as this checkout's" renders_alike
only_pinned() { ! template "$work/devplane-2.0.0.tgz" | grep -E '^ *image: |value: ".*devplane.*:2' | grep -vF "$registry/platform/"; }
claim "with every image from that registry" only_pinned

# An image that is in no storage here, but in a registry: this one serves as the one outside.
cat >"$work/remote.yaml" <<VALUES
image: $registry/platform/airgap/devplane:test
workspace: {image: $WORKSPACE_REF}
VALUES
mkdir -p "$DOCKER_CONFIG"
(umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}' "$registry" "$(printf '%s:%s' "$(cat "$work/registry/user")" "$(cat "$work/registry/password")" | base64 -w0)" >"$DOCKER_CONFIG/config.json")
remote_bundle() { SSL_CERT_FILE=$work/registry/ca.crt bundle "$work/remote.tar" "$work/remote.yaml"; }
claim "an image is bundled from the registry that its name says" remote_bundle
same_image() { grep -qF "$(grep -F devplane:test "$work/open/images.tsv" | cut -f2)" <(tar -xOf "$work/remote.tar" images.tsv); }
claim "by the same digest" same_image
pinned_bundle() { SSL_CERT_FILE=$work/registry/ca.crt bundle "$work/pinned.tar" "$work/printed.yaml"; }
claim "and one that is named by digest, whatever is in storage" pinned_bundle

# The lines of the page that copy from registry to registry, as they stand there.
"$DEVPLANE" doctor images --values "$work/printed.yaml" >"$work/pinned.txt"
copies() { (cd "$work" && PATH=$tools:$PATH SSL_CERT_FILE=$work/registry/ca.crt REGISTRY_AUTH_FILE=$DOCKER_CONFIG/config.json bash -uo pipefail -c "$line") 2>&1; }
copied_by() { # TOOL
  local line
  line=$(grep -E "^ +(to\(\)|exactly\(\)|\(while read -r image; do $1 copy) " docs/setup/air-gap.md | sed "s|registry.example.com/platform|$registry/by-$1|g")
  # And one that has a digest alone.
  (cat "$work/pinned.txt" && sed -n 's/:test@/@/p' "$work/pinned.txt") >"$work/images.txt"
  copies || return
  ask -o /dev/null -H 'Accept: application/vnd.oci.image.manifest.v1+json' "https://$registry/v2/by-$1/platform/airgap/devplane/manifests/by-digest-$(arrived airgap/devplane:test | cut -c8-23)" || return
  [ "$(ask -o /dev/null -D - -H 'Accept: application/vnd.oci.image.manifest.v1+json' "https://$registry/v2/by-$1/platform/airgap/devplane/manifests/test" |
    tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p')" = "$(arrived airgap/devplane:test)" ] || return
  # An image that is not there, and then the others.
  sed -i "1i $registry/platform/airgap/nowhere:test" "$work/images.txt"
  ! copies
}
tools=$DEVPLANE_CACHE/crane-$CRANE_VERSION
mkdir -p "$tools"
[ -x "$tools/crane" ] || (cd / && GOBIN=$tools CGO_ENABLED=0 go install -trimpath "github.com/google/go-containerregistry/cmd/crane@v$CRANE_VERSION")
ln -sf "$DEVPLANE_CACHE"/airgap-tools/oras-*-linux-"$(go env GOHOSTARCH)" "$tools/oras"
for tool in skopeo crane oras; do claim "the page's line for $tool copies by the same digests" copied_by "$tool"; done

printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
