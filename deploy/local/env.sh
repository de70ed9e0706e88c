#!/usr/bin/env bash
# Turns the state directory into shell exports: eval "$(deploy/local/env.sh)" and kubectl, helm and ctr speak to the cluster.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ "${1-}" = --dir ]; then
  [ -n "${2-}" ] || { echo "error: --dir needs a directory" >&2; exit 64; }
  DEVPLANE_LOCAL_DIR=$(realpath -m "$2")
fi
# shellcheck source=lib/settings.sh
. "$here/lib/settings.sh"
[ -s "$STATE/conf/admin.kubeconfig" ] || {
  printf 'error: no local cluster in %s\nhint: bring one up with deploy/local/up.sh, or name its directory with --dir\n' "$STATE" >&2
  exit 1
}
printf 'export %s=%q\n' KUBECONFIG "$STATE/conf/admin.kubeconfig" DEVPLANE_LOCAL_DIR "$STATE" \
  CONTAINERD_ADDRESS "$RUN/containerd.sock" CONTAINERD_NAMESPACE k8s.io DEVPLANE_LOCAL_CA "$STATE/pki/local-ca.crt" \
  DEVPLANE_URL "$GATEWAY_URL" DEVPLANE_ISSUER "$ISSUER_URL"
printf 'case ":$PATH:" in *:%q:*) ;; *) export PATH=%q:"$PATH" ;; esac\n' "$BIN" "$BIN"
