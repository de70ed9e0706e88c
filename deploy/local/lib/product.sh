# shellcheck shell=bash
# Turns images and the chart into a running DevPlane, here or in a cluster the caller has, and says what to do next.

RELEASE=devplane

namespace() { # NAME: with the strictest pod security; never touched again once it exists
  kubectl get namespace "$1" >/dev/null 2>&1 && return 0
  kubectl create namespace "$1" >/dev/null
  kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
}

# applied COMMAND...: a `kubectl create --dry-run=client` as an apply, which is silent when nothing changed.
applied() { kubectl "$@" --dry-run=client -o yaml | kubectl apply -f - >/dev/null; }

install_product() {
  local changed=${IMAGE_CHANGED-no} chart=$REPO/chart/devplane address values=(-f "$LOCAL_SRC/values.yaml")
  [ -s "$chart/Chart.yaml" ] || fail "there is no chart in $chart" "restore it from version control"
  namespace "$SYSTEM_NS"
  applied -n "$SYSTEM_NS" create configmap devplane-ca --from-file=ca.crt="$PKI/local-ca.crt"
  applied -n "$SYSTEM_NS" create secret tls workspace-gateway-tls --cert="$PKI/gateway.crt" --key="$PKI/gateway.key"
  # From files, so that the secret stands in no command line.
  local settings=$IDENTITY/settings
  (umask 077 && mkdir -p "$settings")
  printf %s "$ISSUER_URL" | put "$settings/issuer-url"
  printf %s "$OIDC_CLIENT_ID" | put "$settings/client-id"
  (umask 077 && tr -d '\n' <"$IDENTITY/client-secret" | put "$settings/client-secret")
  printf %s "$GATEWAY_URL/callback" | put "$settings/redirect-url"
  applied -n "$SYSTEM_NS" create secret generic workspace-gateway-oidc --from-file="$settings"

  local deployments=(workspace-operator workspace-gateway)
  if [ -n "$FROM" ]; then
    registry_secret "$SYSTEM_NS"
    registry_values
    values+=(-f "$FROM/values.yaml" -f "$STATE/conf/registry-values.yaml")
    [ ! -e "$FROM/devplane.tgz" ] || chart=$FROM/devplane.tgz
  fi
  helm_install "$chart" "${values[@]}"
  [ -z "$FROM" ] || registry_secret "$WORKSPACES_NS"
  applied -n "$WORKSPACES_NS" create configmap devplane-ca --from-file=ca.crt="$PKI/local-ca.crt"
  # The image keeps its name from build to build, so the Deployments do not see that it changed.
  [ "$changed" = no ] || {
    kubectl -n "$SYSTEM_NS" rollout restart deployment "${deployments[@]}" >/dev/null
    kubectl -n "$WORKSPACES_NS" rollout restart deployment workspace-canary >/dev/null
  }
  local deployment
  for deployment in "${deployments[@]}"; do deployed "$SYSTEM_NS" "$deployment"; done
  deployed "$WORKSPACES_NS" workspace-canary

  # A browser on this machine comes in by loopback, a pod that asks for the same name by the node's address.
  address=$(kubectl -n "$SYSTEM_NS" get service workspace-gateway -o 'jsonpath={.spec.clusterIP}:{.spec.ports[0].port}')
  start forward-loopback -- socat "TCP-LISTEN:$GATEWAY_PORT,bind=127.0.0.1,fork,reuseaddr" "TCP:$address"
  start forward-node -- socat "TCP-LISTEN:$GATEWAY_PORT,bind=$NODE_IP,fork,reuseaddr" "TCP:$address"
  wait_for 60 "$GATEWAY_URL/health" "$STATE/logs/forward-loopback.log" \
    curl -fsS --noproxy '*' --cacert "$PKI/local-ca.crt" "$GATEWAY_URL/health"
}

helm_install() { # CHART ARGUMENTS...
  local chart=$1
  shift
  logged helm "helm upgrade --install $RELEASE" "see the events: kubectl -n $SYSTEM_NS get events --sort-by=.lastTimestamp" \
    helm upgrade --install "$RELEASE" "$chart" -n "$SYSTEM_NS" --create-namespace "$@"
}

install_into_existing() { # IMAGE WORKSPACE-IMAGE VALUES
  [ -n "${KUBECONFIG-}" ] || fail "--use-existing needs KUBECONFIG" "KUBECONFIG=/path/to/kubeconfig deploy/local/up.sh --use-existing ..."
  [ -n "$1" ] || fail "--use-existing needs --image" "build it with deploy/images/build-devplane.sh REF and push it where the cluster pulls from"
  [ -n "$2" ] || fail "--use-existing needs --workspace-image" "build it with deploy/images/build-workspace.sh REF and push it where the cluster pulls from"
  [ -n "$3" ] || fail "--use-existing needs --values FILE" "at least gateway.oidc.issuerURL, clientID, clientSecret (or existingSecret) and redirectURL; see docs/reference/values.md"
  [ -r "$3" ] || fail "--values $3: no such readable file"
  local tool
  for tool in kubectl helm; do
    command -v "$tool" >/dev/null || fail "$tool is not on PATH" "install it, or build both here: PATH=\"\$($LOCAL_SRC/hyperkube.sh):\$PATH\""
  done
  mkdir -p "$STATE/logs"
  kubectl get --raw /readyz >/dev/null 2>"$STATE/logs/existing.log" ||
    fail "the cluster of KUBECONFIG=$KUBECONFIG does not answer: $(tail -n 1 "$STATE/logs/existing.log")" "try: kubectl cluster-info"
  STEP_TOTAL=1
  trap report_exit EXIT
  step "DevPlane by its Helm chart" existing_product "$@"
  printf '\nDevPlane is installed. Its pods: kubectl -n %s get pods\n' "$SYSTEM_NS"
}

existing_product() {
  helm_install "$REPO/chart/devplane" -f "$3" --set-string "image=$1" --set-string "workspace.image=$2"
  local deployment
  # The values may do without a gateway.
  for deployment in $(kubectl -n "$SYSTEM_NS" get deployments -l "app.kubernetes.io/instance=$RELEASE" -o 'jsonpath={.items[*].metadata.name}'); do
    deployed "$SYSTEM_NS" "$deployment"
  done
}

print_welcome() {
  cat <<EOF

DevPlane is up in $(seconds_since "$RUN_STARTED") s.

  open         $GATEWAY_URL
  sign in as   dev1 or dev2, any password
  certificate  signed by the local CA $PKI/local-ca.crt
               trust it in the browser, or go past the browser's warning: nothing but these two local names uses it

Try next
  opencode                               in the terminal: the assistant, with a model that always gives the same answer
  eval "\$($LOCAL_SRC/env.sh)"          in a shell here: kubectl, helm and ctr for this cluster
  kubectl -n $WORKSPACES_NS get ws -w         watch workspaces come and go
  kubectl -n $SYSTEM_NS logs deploy/workspace-gateway -f
  $LOCAL_SRC/down.sh               stop it; --purge also removes its state
EOF
}
