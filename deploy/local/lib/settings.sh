# shellcheck shell=bash
# Turns the environment into the names, addresses and directories that every other file uses.
# shellcheck disable=SC2034  # used by the files that source this one

LOCAL_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO=$(cd "$LOCAL_SRC/../.." && pwd)
CACHE=${DEVPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/devplane}
BIN=$CACHE/bin
STATE=${DEVPLANE_LOCAL_DIR:-$CACHE/local}
# Sockets and container state: on tmpfs, so that a reboot empties it as it ends the processes.
RUN=/run/devplane-local

KUBERNETES_VERSION=1.36.3
HELM_VERSION=3.22.0
LOCAL_PATH_VERSION=0.0.30

NODE=devplane
# On a bridge of our own, so that nothing listens on an address that the network outside can reach.
NODE_IP=10.250.0.1
NODE_BRIDGE=devplane0
POD_BRIDGE=devplane-pods
POD_CIDR=10.244.0.0/24
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
# Unique local addresses (RFC 4193), for pods, Services and the node where IPV6 is yes: network.sh decides it.
NODE_IP6=fd00:10:250::1
POD_CIDR6=fd00:10:244::/64
SERVICE_CIDR6=fd00:10:96::/112
IPV6=$(cat "$STATE/ipv6" 2>/dev/null || echo no)
# both IPV4 IPV6: as Kubernetes' programs take them, of both families where there are both.
both() { if [ "$IPV6" = yes ]; then printf '%s,%s' "$1" "$2"; else printf '%s' "$1"; fi; }
CLUSTER_DOMAIN=cluster.local

SYSTEM_NS=workspace-operator-system
WORKSPACES_NS=workspaces
MODEL_NS=ai-system
GATEWAY_HOST=devplane.localhost
GATEWAY_PORT=8443
IDP_HOST=idp.devplane.localhost
IDP_PORT=8444
GATEWAY_URL=https://$GATEWAY_HOST:$GATEWAY_PORT
ISSUER_URL=https://$IDP_HOST:$IDP_PORT
OIDC_CLIENT_ID=devplane

PAUSE_IMAGE=localhost/pause:1
COREDNS_IMAGE=localhost/coredns:1
MODEL_IMAGE=localhost/fixed-answer-llm:1
export BASE_IMAGE=localhost/debian-base:trixie
DEVPLANE_IMAGE=localhost/devplane:dev
WORKSPACE_IMAGE=localhost/devplane-workspace:dev
DEBIAN_SUITE=trixie
