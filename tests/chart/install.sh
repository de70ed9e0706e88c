# shellcheck shell=bash disable=SC2154  # here, chart and work come from run.sh
# Turns the chart into a release in a real API server, and what is then there and allowed into claims. No pod runs.

SYSTEM=workspace-operator-system

installed() { # SET [ARGUMENTS...]
  local set=$1
  shift
  helm upgrade --install devplane "$chart" -n "$SYSTEM" --create-namespace -f "$here/values/$set.yaml" "$@"
}

manifest() { helm -n "$SYSTEM" get manifest devplane; }

strictly_valid() { manifest | kubectl apply --server-side --force-conflicts --dry-run=server --validate=strict -f -; }

can() { # ACCOUNT NAMESPACE VERB RESOURCE [FLAGS...]
  local account=$1 namespace=$2 verb=$3 resource=$4
  shift 4
  kubectl auth can-i "$verb" "$resource" -n "$namespace" "$@" --as "system:serviceaccount:$SYSTEM:$account" -q
}

# The pod that a Deployment would make, in a namespace that enforces `restricted`.
admitted() { # DEPLOYMENT
  kubectl -n "$SYSTEM" get deployment "$1" -o json |
    python3 -c 'import json,sys
template = json.load(sys.stdin)["spec"]["template"]
template["spec"].pop("serviceAccountName"), template["spec"].pop("priorityClassName", None), template["spec"].pop("priority", None)
print(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "try"}, "spec": template["spec"]}))' |
    kubectl -n strict create --dry-run=server -f -
}

# The roles' own tests run with rights written down beside them: those must be the chart's.
same_rights_as_its_tests() { # ROLE TIER
  local role=$1 tier=$2 side
  kubectl -n workspaces get role "workspace-$role" -o json >"$work/workspaces.json"
  kubectl -n "$SYSTEM" get role "workspace-$role" -o json >"$work/own.json"
  sed 's/NAMESPACE/workspaces/' "$repo/tests/$tier/roles.yaml" | kubectl label --local -f - -o json x=y >"$work/tests.json"
  for side in "$work/workspaces.json $work/own.json" "$work/tests.json"; do
    # shellcheck disable=SC2086  # two files
    python3 - "$role" $side <<'PYTHON'
import json, sys
role, rights = sys.argv[1], set()
for name in sys.argv[2:]:
    text, at = open(name).read(), 0
    while text[at:].strip():
        document, used = json.JSONDecoder().raw_decode(text[at:].lstrip())
        at += used + len(text[at:]) - len(text[at:].lstrip())
        for item in document.get("items", [document]):
            if item["kind"] == "Role" and role in item["metadata"]["name"]:
                for rule in item["rules"]:
                    rights |= {(g, r, v, n) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
                               for n in rule.get("resourceNames", ["*"])}
print("\n".join(map(str, sorted(rights))))
PYTHON
    echo --
  done >"$work/rights"
  diff <(sed '/^--$/,$d' "$work/rights") <(sed '1,/^--$/d; /^--$/d' "$work/rights")
}

install_for_real() {
  kubectl create namespace strict >/dev/null
  kubectl label namespace strict pod-security.kubernetes.io/enforce=restricted >/dev/null

  claim "helm installs it" installed minimal
  claim "helm upgrades it to other values" installed full --set gateway.workspaceNamespace=workspaces,operator.image=registry.operator.example/devplane:1
  ceilings
  claim "helm installs it again" installed minimal --set 'clusterCIDRs={10.244.0.0/16}'
  helm -n "$SYSTEM" get notes devplane >"$work/notes"
  claim "the release's notes say what is next" grep -q 'Next steps' "$work/notes"
  denied "and hold no secret" grep -q planted-secret "$work/notes"
  claim "they tell of the canary" grep -q 'get pods -l app=workspace-canary' "$work/notes"
  claim "the server takes every object under strict validation" \
    strictly_valid
  monitored
  ways_in
  claim "the namespace of workspaces enforces restricted" \
    test "$(kubectl get namespace workspaces -o 'jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}')" = restricted
  claim "the operator's pod satisfies restricted" admitted workspace-operator
  claim "the gateway's pod satisfies restricted" admitted workspace-gateway
  claim "the operator's rights are those that its tests run with" same_rights_as_its_tests operator apiserver
  claim "the gateway's rights are those that its tests run with" same_rights_as_its_tests gateway gateway
  rights
  releases
  from_1_1
}

# The kinds of Prometheus' operator, as far as an API server must know them.
monitored() {
  local kind
  refused "monitors where the cluster does not know them" 'ensure CRDs are installed first' installed monitoring
  for kind in ServiceMonitor PrometheusRule; do
    printf '{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%ss.monitoring.coreos.com"},
      "spec":{"group":"monitoring.coreos.com","scope":"Namespaced","names":{"kind":"%s","plural":"%ss"},"versions":[{"name":"v1","served":true,"storage":true,
      "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}]}}' \
      "${kind,,}" "$kind" "${kind,,}" | kubectl apply -f - >/dev/null
    kubectl wait --for condition=Established --timeout=30s "crd/${kind,,}s.monitoring.coreos.com" >/dev/null
  done
  claim "helm installs monitors, alerts and the dashboard" installed monitoring
  claim "the server takes those too under strict validation" strictly_valid
  claim "Grafana's sidecar finds the dashboard" \
    test "$(kubectl -n "$SYSTEM" get configmap -l grafana_dashboard=devplane -o name)" = configmap/devplane-dashboard
  claim "helm takes them away again" installed minimal
  denied "none is left" kubectl -n "$SYSTEM" get prometheusrule devplane
}

# The definition of a kind, as its own project publishes it: a file of a Go module.
definition_of() { # MODULE@VERSION FILE
  local directory
  directory=$(cd / && go mod download -json "$1" | jq -r .Dir) && kubectl apply --server-side -f "$directory/$2"
}

ways_in() {
  local set
  refused "a route where the cluster does not know the kind" 'ensure CRDs are installed first' installed gateway-api
  claim "the Gateway API is there" definition_of sigs.k8s.io/gateway-api@v1.4.1 config/crd/standard/gateway.networking.k8s.io_httproutes.yaml
  claim "Routes of OpenShift are there" definition_of github.com/openshift/api@v0.0.0-20230607130528-611114dca681 route/v1/route.crd.yaml
  kubectl wait --for condition=Established --timeout=30s crd/httproutes.gateway.networking.k8s.io crd/routes.route.openshift.io >/dev/null
  # Other objects of `openshift` and `air-gapped` are in golden files; here what a real server says of them. This definition of Routes is older than externalCertificate.
  for set in "gateway-api" "openshift --set gateway.route.certificateSecretName=,gateway.sessionRecording.enabled=false" high-availability air-gapped extra-objects; do
    # shellcheck disable=SC2086  # words
    claim "helm installs ${set%% *}" installed $set
    claim "the server takes it under strict validation" strictly_valid
  done
  claim "helm goes back to a plain one" installed minimal --set 'clusterCIDRs={10.244.0.0/16}'
  denied "its route is gone" kubectl -n "$SYSTEM" get httproute workspace-gateway
}

# With the values of `full`: 8 CPUs at most, two classes, and images of two registries.
ceilings() {
  local attempt
  # A new policy is enforced a moment after it is there.
  for attempt in $(seq 50); do with_cpu 9 --dry-run=server >/dev/null 2>&1 || break; sleep 0.2; done
  denied "a Workspace above the ceiling is refused" with_cpu 9
  refused "and told why" 'spec.resources.cpu is 9, and the most that a workspace may have is 8' with_cpu 9
  claim "one below it is taken" with_cpu 7500m
  denied "it can't be raised above the ceiling" with_cpu 8001m
  claim "what is no quantity is left to the operator" with_cpu lots
  refused "a class that there is not" 'spec.className is huge, and the classes are gpu, small' workspace_with '{"className":"huge"}'
  claim "one that there is" workspace_with '{"className":"gpu","resources":{"cpu":"9"}}'
  refused "what its own ceiling does not allow" 'the most that a workspace may have is 16 in the class gpu' workspace_with '{"className":"gpu","resources":{"cpu":"17"}}'
  refused "to keep in another class what was allowed in this one" 'spec.resources.cpu is 9, and the most that a workspace may have is 8 in the class small' \
    workspace_with '{"className":"small","resources":{"cpu":"9"}}'
  kubectl -n workspaces delete workspace ceiling --wait=false >/dev/null
  claim "a pod with an allowed image" pod_of registry.corp.example/any:1
  refused "a pod with another one" 'workspaces may not run the image registry.elsewhere.example/any:1' pod_of registry.elsewhere.example/any:1
  denied "one that only begins like an allowed one" pod_of registry.other.example/devplane-workspace:12
  claim "the canary with the operator's image" pod_of registry.operator.example/devplane:1 workspace-canary
  refused "which no other pod may run" 'workspaces may not run the image registry.operator.example/devplane:1' \
    pod_of registry.operator.example/devplane:1 anybody
  denied "nor the canary any other" pod_of registry.elsewhere.example/any:1 workspace-canary
}

with_cpu() { # CPU [FLAGS...]
  local cpu=$1
  shift
  workspace_with "{\"resources\":{\"cpu\":\"$cpu\"}}" "$@"
}

workspace_with() { # SPEC [FLAGS...]
  local spec=$1
  shift
  printf '{"apiVersion":"workspace.devplane.io/v1alpha1","kind":"Workspace","metadata":{"name":"ceiling","namespace":"workspaces"},"spec":%s}' "$spec" |
    kubectl apply "$@" -f -
}

# Whether the server would take a pod of this image in the workspaces' namespace.
pod_of() { # IMAGE [SERVICEACCOUNT]
  printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"try","namespace":"workspaces"},"spec":{"serviceAccountName":"%s","automountServiceAccountToken":false,"containers":[{"name":"a","image":"%s","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1","memory":"1Gi"}}}]}}' "${2-default}" "$1" |
    kubectl create --dry-run=server -f -
}

rights() {
  local verb account resource
  for verb in get list watch create patch; do
    claim "the gateway may $verb Workspaces" can workspace-gateway workspaces "$verb" workspaces.workspace.devplane.io
  done
  claim "the gateway may patch a Workspace's status" can workspace-gateway workspaces patch workspaces.workspace.devplane.io --subresource=status
  claim "the gateway may get its session keys" can workspace-gateway "$SYSTEM" get secrets/workspace-gateway-session-keys
  claim "the gateway may create its session keys" can workspace-gateway "$SYSTEM" create secrets
  denied "the gateway may not get another Secret" can workspace-gateway "$SYSTEM" get secrets/workspace-gateway-oidc
  denied "the gateway may not list Secrets" can workspace-gateway "$SYSTEM" list secrets
  denied "the gateway may not change its session keys" can workspace-gateway "$SYSTEM" update secrets/workspace-gateway-session-keys
  denied "the gateway may not delete Workspaces" can workspace-gateway workspaces delete workspaces.workspace.devplane.io
  for resource in pods secrets services persistentvolumeclaims configmaps; do
    denied "the gateway may not read $resource of users" can workspace-gateway workspaces get "$resource"
  done
  for account in workspace-operator workspace-gateway; do
    denied "$account may not exec" can "$account" workspaces create pods --subresource=exec
    denied "$account may not read Workspaces elsewhere" can "$account" default list workspaces.workspace.devplane.io
    denied "$account may not escalate" can "$account" workspaces escalate roles.rbac.authorization.k8s.io
    denied "$account may not bind" can "$account" workspaces bind roles.rbac.authorization.k8s.io
  done
  denied "the operator may not delete volumes" can workspace-operator workspaces delete persistentvolumeclaims
  denied "the operator may not delete Workspaces" can workspace-operator workspaces delete workspaces.workspace.devplane.io
  denied "the operator may not list users' Secrets" can workspace-operator workspaces list secrets
  denied "the operator may not delete users' Secrets" can workspace-operator workspaces delete secrets
  claim "the operator may hold its Lease" can workspace-operator "$SYSTEM" update leases.coordination.k8s.io/workspace-operator
  denied "the operator may not hold another Lease" can workspace-operator "$SYSTEM" update leases.coordination.k8s.io/other
}
