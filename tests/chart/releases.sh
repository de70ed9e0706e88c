# shellcheck shell=bash disable=SC2154  # here, repo, chart and work come from run.sh
# Turns the life of a release into claims: changed values, going back, being removed and coming back, and what users have through all of it.

# A user's Workspace and volume, as the operator would have made it.
user_data() { # NAMESPACE
  printf '{"apiVersion":"workspace.devplane.io/v1alpha1","kind":"Workspace","metadata":{"name":"dev1","namespace":"%s"},"spec":{
    "user":{"id":"dev1","email":"dev1@example.test"},"resources":{"cpu":"2","memory":"4Gi","storage":"20Gi"},
    "aiConfig":{"providers":[{"name":"local","endpoint":"http://llm:8000","models":["m"]}]}}}' "$1" | kubectl apply -f - >/dev/null
  printf '{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"dev1-workspace-pvc","namespace":"%s"},"spec":{
    "accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"20Gi"}}}}' "$1" | kubectl apply -f - >/dev/null
  uids "$1"
}
# They are the same only when nobody removed them and made others.
uids() { kubectl -n "$1" get workspace/dev1 persistentvolumeclaim/dev1-workspace-pvc -o 'jsonpath={.items[*].metadata.uid}'; }
kept() { test "$(uids "$1")" = "$2"; }

replicas() { test "$(kubectl -n "$SYSTEM" get deployment workspace-gateway -o 'jsonpath={.spec.replicas}')" = "$1"; }
revision() { test "$(helm -n "$SYSTEM" history devplane -o json | jq -r 'last | "\(.status) \(.description)"')" = "$1"; }
same_manifest_as() { diff "$1" <(manifest); }

releases() {
  local data
  data=$(user_data workspaces)
  # The release before: an older chart, without what is new in this one.
  cp -r "$chart" "$work/earlier"
  sed -i 's/^version: .*/version: 1.99.0/' "$work/earlier/Chart.yaml"
  rm "$work/earlier/templates/network-policies.yaml"
  helm uninstall devplane -n "$SYSTEM" >/dev/null 2>&1
  claim "helm installs an earlier chart" helm install devplane "$work/earlier" -n "$SYSTEM" -f "$here/values/minimal.yaml"
  denied "which had no policies" kubectl -n "$SYSTEM" get networkpolicy workspace-gateway
  manifest >"$work/earlier.yaml"
  claim "helm upgrades it to this one" installed minimal
  claim "and now there are" kubectl -n "$SYSTEM" get networkpolicy workspace-gateway
  claim "with changed values, too" installed gateway-api --set gateway.replicas=3
  claim "the values are there" replicas 3
  claim "so is the route" kubectl -n "$SYSTEM" get httproute workspace-gateway
  refused "an upgrade to values that are wrong changes nothing" "/gateway/replicas" installed minimal --set-string gateway.replicas=two
  claim "the last good one stands" replicas 3
  claim "helm goes back by one" helm rollback devplane -n "$SYSTEM"
  claim "the values of before are there" replicas 2
  denied "the route is gone" kubectl -n "$SYSTEM" get httproute workspace-gateway
  claim "helm goes back to the earlier chart" helm rollback devplane 1 -n "$SYSTEM"
  claim "everything is as it was" same_manifest_as "$work/earlier.yaml"
  denied "what came later is gone" kubectl -n "$SYSTEM" get networkpolicy workspace-gateway
  claim "helm says where it went back to" revision "deployed Rollback to 1"
  claim "and forward again" installed minimal
  claim "users have their Workspace and volume all the time" kept workspaces "$data"

  claim "the notes say what stays when it is uninstalled" grep -q "namespace workspaces stays" <(helm -n "$SYSTEM" get notes devplane)
  helm uninstall devplane -n "$SYSTEM" >"$work/uninstalled" 2>&1
  claim "helm says what it keeps" grep -q 'Namespace.* workspaces' <(tr '\n' ' ' <"$work/uninstalled")
  claim "the CRD stays" kubectl get crd workspaces.workspace.devplane.io
  claim "users still have their Workspace and volume" kept workspaces "$data"
  denied "the operator goes" kubectl -n "$SYSTEM" get deployment workspace-operator
  claim "helm installs it anew over what stayed" installed minimal
  claim "the namespace is the release's again" grep -q 'kind: Namespace' <(manifest)
  claim "and users' are the same" kept workspaces "$data"
  helm uninstall devplane -n "$SYSTEM" >/dev/null 2>&1
  kubectl create namespace made-by-hand >/dev/null
  claim "a namespace that somebody else made is used" installed minimal --set gateway.workspaceNamespace=made-by-hand
  claim "and stays as it was" \
    test -z "$(kubectl get namespace made-by-hand -o 'jsonpath={.metadata.annotations}{.metadata.labels.app\.kubernetes\.io/name}')"
  helm uninstall devplane -n "$SYSTEM" >/dev/null 2>&1
}

# The steps of docs/setup/upgrade-from-1.1.md, from a release of 1.1 with a user in it.
from_1_1() {
  local SYSTEM=old-system data old=$here/release-1.1
  kubectl delete crd workspaces.workspace.devplane.io >/dev/null
  claim "a release of 1.1" helm install devplane "$old" -n "$SYSTEM" --create-namespace
  data=$(user_data old-workspaces)
  claim "its values are taken" helm template devplane "$chart" -n "$SYSTEM" -f "$old/values.yaml" --kube-version 1.36.0
  claim "the definition is replaced first" kubectl apply --server-side --force-conflicts -f "$chart/crds"
  claim "and accepts what users have" kept old-workspaces "$data"
  claim "helm upgrades it in place" helm upgrade devplane "$chart" -n "$SYSTEM" -f "$old/values.yaml" -f "$here/values-2.0.yaml"
  claim "users have their Workspace and volume" kept old-workspaces "$data"
  claim "the namespace is kept from now on" test "$(kubectl get namespace old-workspaces -o 'jsonpath={.metadata.annotations.helm\.sh/resource-policy}')" = keep
  denied "the right to write Roles anywhere is gone" kubectl get clusterrole workspace-operator
  claim "both run this version's image" test "$(kubectl -n "$SYSTEM" get deployments -o 'jsonpath={.items[*].spec.template.spec.containers[*].image}')" = \
    "registry.corp.example/devplane/devplane:2.0.0 registry.corp.example/devplane/devplane:2.0.0"
  claim "a Workspace of 1.1 is bound to its owner" kubectl -n old-workspaces patch workspace dev1 --type merge \
    -p '{"spec":{"user":{"issuer":"https://idp.corp.example/realms/dev","subject":"dev1"}}}'
  claim "helm goes back to 1.1" helm rollback devplane 1 -n "$SYSTEM"
  claim "users have theirs then, too" kept old-workspaces "$data"
}
