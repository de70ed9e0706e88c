#!/usr/bin/env bash
# Installs DevPlane on the one-machine cluster from a bundle alone: its images and chart come from a registry, and whatever the cluster
# is made of (API server, kubelet, containerd, helm) runs with the network of the machine cut off, but for loopback and its own bridges. What tries to
# leave is counted, by those processes and by pods.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
repo=$PWD
. tests/harness/cluster.sh
. tests/cluster/lib.sh
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
  # The registry has an address of loopback, which is another machine in a pod.
  echo 'doctor: {skip: [DP0505]}' >>"$from/values.yaml"
  cp "$work/registry/ca.crt" "$from/ca.crt"
  (umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}' "$registry" "$(printf '%s:%s' "$user" "$password" | base64 -w0)" >"$from/config.json")
  PATH=$DEVPLANE_CACHE/bin:$PATH HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm \
    helm pull "oci://$registry/platform/charts/devplane" --ca-file "$from/ca.crt" --username "$user" --password "$password" -d "$work"
  mv "$work"/devplane-*.tgz "$from/devplane.tgz"
  rm "$work/bundle.tar"
}

# What runs in a control group of ours sends nothing by the machine's own interfaces; what it tries is counted. So is what pods send to
# anything but pods, Services and the node, before any policy can drop it. Between a kernel and its link go neighbours and memberships alone.
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
  counter pods { }
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname "devplane-pods" ip daddr != { $POD_CIDR, $SERVICE_CIDR, $NODE_IP, 224.0.0.0/4, 255.255.255.255 } counter name pods
    iifname "devplane-pods" ip6 daddr != { $POD_CIDR6, $SERVICE_CIDR6, $NODE_IP6 } icmpv6 type != { mld-listener-report, mld2-listener-report, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } counter name pods
    iifname "devplane-pods" ip6 daddr != { $POD_CIDR6, $SERVICE_CIDR6, $NODE_IP6 } meta l4proto != ipv6-icmp counter name pods
  }
  chain output {
    type filter hook output priority 0; policy accept;
    socket cgroupv2 level 1 "$path" oifname != { "lo", "devplane0", "devplane-pods" } counter name tried drop
  }
}
NFT
}
cut_off() { (echo "$BASHPID" >"$cgroup/cgroup.procs" && exec "$@"); }
packets() { nft -j list counter inet devplane-closed "$1" | jq '.nftables[] | .counter // empty | .packets'; } # tried or pods

prepare
fill_registry
cut_network
refused_outside() { [ "$(packets tried)" = 0 ] && ! cut_off curl -s -m 3 http://203.0.113.7/ && [ "$(packets tried)" -gt 0 ]; }
claim "with the network cut off nothing outside is reached, and what tries is counted" refused_outside
before=$(packets tried) lines=$(wc -l <"$work/registry/log")
up=yes
cut_off deploy/local/up.sh --from "$work/from"
eval "$(deploy/local/env.sh)"
comes_up() { kubectl -n workspace-operator-system rollout status deployment workspace-operator --timeout=60s && kubectl -n workspace-operator-system rollout status deployment workspace-gateway --timeout=60s; }
claim "the cluster and DevPlane come up all the same" comes_up

kubectl apply --validate=strict -f deploy/local/workspace.yaml >/dev/null
claim "a workspace starts" eventually 240 phase dev1 Running
answers() { kubectl -n workspaces exec dev1-workspace-pod -- timeout 120 opencode run 'say something' | grep -q 'fixed answer'; }
claim "and opencode answers in it" answers

# What the kubelet says that each container runs, as `REFERENCE DIGEST`.
running() {
  kubectl get pods -A -o json | jq -r '.items[] | select(.metadata.namespace | IN("workspace-operator-system", "workspaces")) | .status.containerStatuses[] | "\(.image) \(.imageID)"'
}
from_registry() { [ "$(running | wc -l)" -ge 4 ] && ! running | awk '{ print $2 }' | grep -vE "^$registry/platform/[^@]+@sha256:[0-9a-f]{64}$"; }
claim "every image of DevPlane comes from the registry, by digest" from_registry
# The bundle's images, as `NAME DIGEST`; the chart is none that a node runs.
bundled() { awk -F'\t' '$1 !~ /^charts\// { sub(/:.*/, "", $1); print $1, $2 }' "$work/images.tsv" | sort -u; }
ran() { running | awk '{ print $2 }' | sed "s|^$registry/platform/||; s|@| |" | sort -u; }
as_bundled() { [ "$(bundled | wc -l)" -ge 2 ] && diff <(bundled) <(ran); }
claim "they are the bundle's, each of them and no other" as_bundled

# What the node has by other names than those of the registry is what the local cluster itself is made of.
node_images() { ctr images ls -q | grep -v '^sha256:' | grep -vF "$registry/platform/" | sort; }
of_the_cluster() { diff <(printf '%s\n' "$BASE_IMAGE" "$COREDNS_IMAGE" "$MODEL_IMAGE" "$PAUSE_IMAGE" | sort) <(node_images); }
claim "none was brought in otherwise" of_the_cluster

# What the registry has served to containerd since the cluster began, as `NAME KIND DIGEST`. The first time it asks for a password.
served() { tail -n "+$((lines + 1))" "$work/registry/log" | sed -nE 's#.*"GET /v2/platform/([^ ]+)/(manifests|blobs)/([^ ]+) HTTP/[0-9.]+" 200 .*"containerd/.*#\1 \2 \3#p' | sort -u; }
of_registry() { # PATH
  curl -fsS --noproxy '*' --cacert "$work/from/ca.crt" --user "$(cat "$work/registry/user"):$(cat "$work/registry/password")" \
    -H 'Accept: application/vnd.oci.image.manifest.v1+json' "https://$registry/v2/platform/$1"
}
# What an image consists of, but for layers that the node has: those of the image that volumes are made with.
parts() { # NAME DIGEST
  local manifest had
  manifest=$(of_registry "$1/manifests/$2")
  had=$(buildah inspect --type image "$BASE_IMAGE" | jq -c '.OCIv1.rootfs.diff_ids')
  of_registry "$1/blobs/$(jq -r .config.digest <<<"$manifest")" | jq -r --arg name "$1" --arg digest "$2" --argjson manifest "$manifest" --argjson had "$had" '
    "\($name) manifests \($digest)", "\($name) blobs \($manifest.config.digest)",
    ([$manifest.layers, .rootfs.diff_ids] | transpose[] | select(.[1] as $layer | $had | index($layer) | not) | "\($name) blobs \(.[0].digest)")'
}
all_parts() { while read -r name digest; do parts "$name" "$digest"; done < <(bundled) | sort -u; }
pulled() { [ "$(all_parts | wc -l)" -ge 6 ] && diff <(all_parts) <(served); }
claim "the registry has served each part of each of them to the node, and nothing else" pulled

claim "the doctor finds nothing wrong" helm test devplane -n workspace-operator-system --timeout 120s
claim "and in all of this nothing of the cluster tried to reach anything outside" test "$(packets tried)" = "$before"
claim "and no pod did" test "$(packets pods)" = 0
asks_outside() { ! kubectl -n workspaces exec dev1-workspace-pod -- curl -s -m 3 http://203.0.113.7/ && [ "$(packets pods)" -gt 0 ]; }
claim "while what a pod does send is counted" asks_outside

kubectl create namespace elsewhere >/dev/null
# waits_for NAME IMAGE PATTERN: a pod of this image does not start, and why.
waits_for() {
  kubectl -n elsewhere get pod "$1" >/dev/null 2>&1 || kubectl -n elsewhere run "$1" --image="$2" --restart=Never >/dev/null
  kubectl -n elsewhere get events --field-selector "involvedObject.name=$1,reason=Failed" -o 'jsonpath={.items[*].message}' | grep -q "$3"
}
claim "an image that the registry does not have is not to be had" eventually 90 waits_for missing "$registry/platform/devplane-missing:1" 'failed to resolve\|not found\|authorization failed'
asked_for_missing() { grep -q '"\(HEAD\|GET\) /v2/platform/devplane-missing/manifests/1 .*"containerd/' "$work/registry/log"; }
claim "the registry was asked for it" asked_for_missing
claim "an image of somewhere else is not to be had" eventually 90 waits_for elsewhere 203.0.113.7:5000/devplane:1 'dial tcp 203.0.113.7:5000\|i/o timeout'
claim "and that the node tried to reach it is counted" test "$(packets tried)" -gt "$before"

printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
