#!/usr/bin/env bash
# Installs DevPlane on the one-machine cluster from a bundle alone: its images and chart come from a registry, and whatever the cluster
# is made of (API server, kubelet, containerd, helm) runs with the network of the machine cut off, but for loopback and its own bridges.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
. tests/harness/cluster.sh
# shellcheck source=../chart/lib.sh
. tests/chart/lib.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-closed-XXXXXX")
# shellcheck source=images.sh
. tests/airgap/images.sh
registry=127.0.9.6:5000
up=no cgroup=''

cleanup() {
  local status=$?
  trap - EXIT
  # It begins and ends with a status, so it has a shell of its own.
  [ "$up" = no ] || (set +e; (exit "$status"); remove_cluster) || true
  nft delete table inet devplane-closed 2>/dev/null || true
  [ -z "$cgroup" ] || rmdir "$cgroup" 2>/dev/null || true
  [ ! -s "$work/registry/pid" ] || kill "$(cat "$work/registry/pid")" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT

# Everything that is built or fetched, before the network is cut.
prepare() {
  need_packages
  base_image
  # shellcheck source=/dev/null
  (. deploy/local/lib/require.sh && install_packages)
  deploy/local/hyperkube.sh >/dev/null
  deploy/local/oidc-provider.sh >/dev/null
  deploy/images/build-devplane.sh "$DEVPLANE_IMAGE"
  deploy/images/build-workspace.sh "$WORKSPACE_IMAGE" --base "$BASE_IMAGE"
  printf 'image: %s\nworkspace: {image: %s}\n' "$DEVPLANE_IMAGE" "$WORKSPACE_IMAGE" >"$work/values.yaml"
  local target=x86_64-unknown-linux-musl
  [ "$(uname -m)" != aarch64 ] || target=aarch64-unknown-linux-musl
  deploy/airgap/bundle.sh --values "$work/values.yaml" --output "$work/bundle.tar" --devplane "$DEVPLANE_CACHE/target/$target/release/devplane"
}

# What `up.sh --from` wants: the values that load.sh prints, the authority, credentials, and the chart as helm pulls it.
fill_registry() {
  local from=$work/from user password
  tests/airgap/registry.sh "$work/registry" "$registry" registry.example.test
  user=$(cat "$work/registry/user") password=$(cat "$work/registry/password")
  mkdir -p "$from"
  tar -xf "$work/bundle.tar" --occurrence=1 -C "$work" load.sh images.tsv
  "$work/load.sh" "$work/bundle.tar" "$registry/platform" --ca "$work/registry/ca.crt" --user "$user" --password-file "$work/registry/password" >"$from/values.yaml"
  cp "$work/registry/ca.crt" "$from/ca.crt"
  (umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}' "$registry" "$(printf '%s:%s' "$user" "$password" | base64 -w0)" >"$from/config.json")
  PATH=$DEVPLANE_CACHE/bin:$PATH HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm \
    helm pull "oci://$registry/platform/charts/devplane" --ca-file "$from/ca.crt" --username "$user" --password "$password" -d "$work"
  mv "$work"/devplane-*.tgz "$from/devplane.tgz"
  rm "$work/bundle.tar"
}

# What runs in a control group of ours sends nothing by the machine's own interfaces; what it tries is counted.
cut_network() {
  local mount path
  mount=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
  [ -n "$mount" ] || { echo "error: there is no cgroup2 mount, by which the cluster's processes are told from others" >&2; return 1; }
  cgroup=$mount/devplane-closed
  mkdir -p "$cgroup"
  path=${cgroup#/sys/fs/cgroup/}
  nft -f - <<NFT
table inet devplane-closed {
  counter tried { }
  chain output {
    type filter hook output priority 0; policy accept;
    socket cgroupv2 level 1 "$path" oifname != { "lo", "devplane0", "devplane-pods" } counter name tried drop
  }
}
NFT
}
cut_off() { (echo "$BASHPID" >"$cgroup/cgroup.procs" && exec "$@"); }
tried() { nft -j list counter inet devplane-closed tried | jq '.nftables[] | .counter // empty | .packets'; }

prepare
fill_registry
cut_network
refused_outside() { ! cut_off curl -s -m 3 http://203.0.113.7/ && [ "$(tried)" -gt 0 ]; }
claim "with the network cut off nothing outside is reached, and what tries is counted" refused_outside
before=$(tried)
up=yes
cut_off deploy/local/up.sh --from "$work/from"
eval "$(deploy/local/env.sh)"
claim "the cluster and DevPlane come up all the same" kubectl -n workspace-operator-system get deployment workspace-gateway

phase() { [ "$(kubectl -n workspaces get workspace "$1" -o 'jsonpath={.status.phase}')" = "$2" ]; }
eventually() { # SECONDS COMMAND...
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do [ "$SECONDS" -lt "$deadline" ] && sleep 1 || return 1; done
}
kubectl apply --validate=strict -f deploy/local/workspace.yaml >/dev/null
claim "a workspace starts" eventually 240 phase dev1 Running
answers() { kubectl -n workspaces exec dev1-workspace-pod -- timeout 120 opencode run 'say something' | grep -q 'fixed answer'; }
claim "and opencode answers in it" answers

# What the kubelet says that each container runs, as `REFERENCE DIGEST`.
running() {
  kubectl get pods -A -o json | jq -r '.items[] | select(.metadata.namespace | IN("workspace-operator-system", "workspaces")) | .status.containerStatuses[] | "\(.image) \(.imageID)"'
}
from_registry() { [ "$(running | wc -l)" -ge 4 ] && ! running | grep -v "@sha256:" && ! running | awk '{ print $2 }' | grep -vF "$registry/platform/"; }
claim "every image of DevPlane comes from the registry, by digest" from_registry
as_bundled() { ! running | grep -oE 'sha256:[0-9a-f]{64}$' | grep -vxFf <(cut -f2 "$work/images.tsv"); }
claim "the digests are those of the bundle" as_bundled
loaded() { ctr --address /run/devplane-local/containerd.sock --namespace k8s.io images ls -q | grep devplane | grep -vE "^$registry/|^sha256:|fixed-answer|debian-base"; }
denied "none was brought in otherwise" loaded
pulled() { grep -q "GET.*/v2/platform/devplane-workspace/blobs" "$work/registry/log" || grep -q 'platform/devplane-workspace' "$work/registry/log"; }
claim "the registry was asked for them" pulled
claim "and in all of this nobody tried to reach anything outside" test "$(tried)" = "$before"

kubectl create namespace elsewhere >/dev/null
kubectl -n elsewhere run elsewhere --image=outside.example/devplane:1 --restart=Never >/dev/null
fails() { kubectl -n elsewhere get pod elsewhere -o 'jsonpath={.status.containerStatuses[0].state.waiting.reason}' | grep -qE 'ErrImagePull|ImagePullBackOff'; }
claim "an image of somewhere else is not to be had" eventually 90 fails

printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
