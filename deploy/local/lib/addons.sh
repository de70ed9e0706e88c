# shellcheck shell=bash
# Turns a Ready node into a cluster with DNS, volumes, enforced NetworkPolicies and the fixed-answer model server.

deployed() { # NAMESPACE DEPLOYMENT
  kubectl -n "$1" rollout status "deployment/$2" --timeout=120s >"$STATE/logs/rollout-$2.log" 2>&1 ||
    fail "deployment $2 in namespace $1 did not become ready: $(tail -n 1 "$STATE/logs/rollout-$2.log")" \
      "see why: eval \"\$($LOCAL_SRC/env.sh)\"; kubectl -n $1 describe pods"
}

# A new build under the same image name needs new pods.
apply_with_image() { # NAMESPACE DEPLOYMENT IMAGE MANIFEST
  kubectl apply -f "$4" >/dev/null
  local key
  key=$(sha256sum <"$(key_file "$3")" | cut -c1-16)
  kubectl -n "$1" patch deployment "$2" --type merge -p \
    "{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"devplane.io/image-key\":\"$key\"}}}}}" >/dev/null
  deployed "$1" "$2"
}

start_dns() { apply_with_image kube-system coredns "$COREDNS_IMAGE" "$LOCAL_SRC/manifests/coredns.yaml"; }

start_volumes() {
  mkdir -p "$STATE/volumes"
  kubectl apply -f "$LOCAL_SRC/manifests/local-path.yaml" >/dev/null
  printf '{"nodePathMap":[{"node":"DEFAULT_PATH_FOR_NON_LISTED_NODES","paths":["%s"]}]}' "$STATE/volumes" | put "$STATE/conf/local-path.json"
  start local-path --reads "$STATE/conf/local-path.json" -- local-path-provisioner start --config "$STATE/conf/local-path.json" \
    --kubeconfig "$STATE/conf/admin.kubeconfig" --namespace local-path-storage --helper-image "$BASE_IMAGE" \
    --service-account-name local-path-helper
}

start_policies() {
  start netpol -- netpol "$STATE/conf/admin.kubeconfig"
  wait_for 30 "the NetworkPolicy engine's table" "$STATE/logs/netpol.log" nft list table ip6 devplane-netpol
}

start_model_server() { apply_with_image "$MODEL_NS" fixed-answer-llm "$MODEL_IMAGE" "$LOCAL_SRC/manifests/fixed-answer-llm.yaml"; }

start_storage_and_policies() {
  start_volumes
  start_policies
}
