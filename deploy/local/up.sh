#!/usr/bin/env bash
# Turns this machine into a one-node Kubernetes with DevPlane on it, or installs DevPlane into a cluster you have.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'EOF'
usage: deploy/local/up.sh [--dir DIR] [--only cluster] [--from DIR]
       deploy/local/up.sh --use-existing --image REF --workspace-image REF --values FILE

Brings up everything on this machine, from package registries only; run again, it does only what is left to do.
  --dir DIR              where state lives (default: DEVPLANE_LOCAL_DIR, else <cache>/local)
  --only cluster         stop before DevPlane itself: Kubernetes, sign-in provider and model server only
  --from DIR             pull DevPlane's images from a registry instead of building them: DIR has values.yaml, ca.crt, config.json
                         and perhaps devplane.tgz, the chart (deploy/local/lib/registry.sh)

Into the cluster of KUBECONFIG, building nothing of Kubernetes:
  --use-existing         install there
  --image REF            the devplane image, pullable there
  --workspace-image REF  the workspace image, pullable there
  --values FILE          Helm values with the OIDC settings and all that is particular to that cluster

Everything it starts is stopped by deploy/local/down.sh, and removed by deploy/local/down.sh --purge.
EOF
}

usage_error() {
  printf 'error: %s\nhint: %s --help\n' "$1" "$0" >&2
  exit 64
}

only=all existing=no image='' workspace_image='' values='' FROM=''
while [ $# -gt 0 ]; do
  case $1 in
    --use-existing) existing=yes && shift && continue ;;
    -h | --help) usage && exit 0 ;;
    --dir | --only | --from | --image | --workspace-image | --values)
      [ $# -ge 2 ] || usage_error "$1 needs a value"
      ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  case $1 in
    --dir) DEVPLANE_LOCAL_DIR=$(realpath -m -- "$2") ;;
    --only) only=$2 ;;
    --from) FROM=$(realpath -m -- "$2") ;;
    --image) image=$2 ;;
    --workspace-image) workspace_image=$2 ;;
    --values) values=$2 ;;
  esac
  shift 2
done
[ "$only" = all ] || [ "$only" = cluster ] || usage_error "--only '$only': expected 'cluster'"

for library in settings log process require binaries pki network controlplane runtime images node addons identity registry product; do
  # shellcheck source=/dev/null
  . "$here/lib/$library.sh"
done

if [ "$existing" = yes ]; then
  [ "$only" = all ] && [ -z "$FROM" ] || usage_error "--only, --from and --use-existing exclude each other"
  install_into_existing "$image" "$workspace_image" "$values"
  exit
fi
[ -z "$image$workspace_image$values" ] || usage_error "--image, --workspace-image and --values go with --use-existing"

mkdir -p "$STATE"/{conf,logs,pids,images} "$BIN/store"
trap report_exit EXIT
require_machine
claim_machine
# Two runs at once would start everything twice. Daemons do not inherit the lock (`alone` in process.sh).
exec 8>"$RUN/lock"
flock -n 8 || fail "another up.sh or down.sh is at work on this machine" "wait until it ends"
export PATH=$BIN:$PATH KUBECONFIG=$STATE/conf/admin.kubeconfig

build_all() {
  exec 9>"$CACHE/bin.lock"
  flock 9
  build_binaries
  exec 9>&-
}

STEP_TOTAL=14
[ "$only" = all ] || STEP_TOTAL=12
step "Debian packages" install_packages
[ -z "$FROM" ] || check_registry
step "binaries from pinned sources" build_all
step "certificates" make_pki
step "network of the node" make_network
step "etcd and API server" start_apiserver
step "controllers and scheduler" start_controllers
step "container runtime and its images" start_runtime_with_images
step "node: kubelet and kube-proxy" start_node
step "DNS" start_dns
step "volumes and NetworkPolicy engine" start_storage_and_policies
step "sign-in provider (OIDC)" start_identity
step "fixed-answer model server" start_model_server
if [ "$only" = cluster ]; then
  cat <<EOF

The cluster is up in $(seconds_since "$RUN_STARTED") s.
  speak to it       eval "\$($here/env.sh)"; kubectl get pods -A
  sign-in provider  $ISSUER_URL
  add DevPlane      $0
  stop              $here/down.sh   (--purge also removes its state)
EOF
  exit 0
fi
if [ -n "$FROM" ]; then
  step "trust in the registry of DevPlane's images" trust_registry
else
  step "images of DevPlane and of workspaces" build_product_images
fi
step "DevPlane by its Helm chart" install_product
print_welcome
