# shellcheck shell=bash disable=SC2154  # here, repo, chart and work come from run.sh
# Turns what helm renders, without any cluster, into claims.

golden_files() { # [--update]
  local set
  # monitoring.sh has the set `monitoring`.
  for set in "$here"/values/*.yaml; do
    set=$(basename "$set" .yaml)
    [ "$set" != monitoring ] || continue
    render "$set" >"$work/$set.yaml" || return
    [ "${1-}" != --update ] || cp "$work/$set.yaml" "$here/golden/$set.yaml"
    claim "renders $set as golden/$set.yaml" diff -u "$here/golden/$set.yaml" "$work/$set.yaml"
    claim "helm lint with $set" helm lint --quiet "$chart" -f "$here/values/$set.yaml" --kube-version 1.36.0
  done
  claim "renders the local cluster's values" render minimal -f "$repo/deploy/local/values.yaml"
  render minimal --kube-version 1.27.0 >"$work/old.yaml"
  denied "asks Kubernetes 1.27 for no preStop sleep" grep -q preStop "$work/old.yaml"
  render full --kube-version 1.29.0 >"$work/older.yaml"
  denied "asks Kubernetes 1.29 for no ValidatingAdmissionPolicy" grep -q ValidatingAdmissionPolicy "$work/older.yaml"
  claim "and leaves the ceilings to the operator" grep -q WORKSPACE_CEILINGS "$work/older.yaml"
}

bad_values() {
  local what text arguments words
  refused "names every OIDC value that is missing" \
    'gateway.oidc.issuerURL, gateway.oidc.clientID, gateway.oidc.clientSecret, gateway.oidc.redirectURL are not set' \
    helm template devplane "$chart" -n x --kube-version 1.36.0
  claim "takes plain http on a loopback address" render minimal --set gateway.oidc.issuerURL=http://127.0.0.1:9000
  while IFS='|' read -r what text arguments; do
    case $what in "" | "#"*) continue ;; esac
    text=${text#"${text%%[! ]*}"}
    eval "words=($arguments)"
    # shellcheck disable=SC2154  # eval sets it
    refused "refuses ${what%"${what##*[! ]}"}" "${text%"${text##*[! ]}"}" render minimal "${words[@]}"
  done <"$here/refused.txt"
}

schema_is_closed() {
  claim "no object of the schema is open without a reason" "$here/open-objects.py" "$chart/values.schema.json"
  python3 - "$chart/values.schema.json" "$work/open.json" <<'PYTHON'
import json, sys
schema = json.load(open(sys.argv[1]))
schema["properties"]["log"].pop("additionalProperties")
schema["properties"]["workspace"]["properties"]["classes"]["items"].pop("additionalProperties")
json.dump(schema, open(sys.argv[2], "w"))
PYTHON
  refused "one that is open is found" "/properties/log takes any key" "$here/open-objects.py" "$work/open.json"
  refused "in the entries of a list too" "/properties/workspace/properties/classes/items takes any key" "$here/open-objects.py" "$work/open.json"
}

# What the values say of disruption, spreading and policies, where a golden file alone would be passed over.
control_plane() {
  claim "two operators have a budget" grep -q 'name: workspace-operator$' <(render high-availability -s templates/disruption-budgets.yaml)
  denied "one has none" grep -q PodDisruptionBudget "$work/existing-secret.yaml"
  claim "replicas are spread over zones" grep -q 'topologyKey: topology.kubernetes.io/zone' "$work/minimal.yaml"
  claim "nobody reaches the operator" grep -qx '  ingress: \[\]' <(render minimal -s templates/network-policies.yaml)
  claim "the port of the issuer is open" grep -q 'port: 8443}' <(render gateway-api -s templates/network-policies.yaml)
  # What must not be there is looked for in a file: of a render that failed nothing would be found either.
  local policies=$work/policies
  render gateway-api --set 'networkPolicy.apiServer.ports={6443}' -s templates/network-policies.yaml >"$policies"
  claim "the API server's port is another one where the values say so" grep -q 'port: 6443}' "$policies"
  denied "and no other of its kind is open" grep -q 'port: 443}' "$policies"
  grep -A3 'kind: NetworkPolicy' "$work/extra-objects.yaml" >"$policies" || true
  denied "without policies there are none" grep -q 'name: workspace-operator$' "$policies"
  both_ways "$work/both-ways.yaml"
  own_spreading "$work/spreading.yaml"
  local set app
  for set in minimal full air-gapped openshift; do
    for app in workspace-operator workspace-gateway; do
      claim "every rule of $app's policy names ports, with $set" every_rule_has_ports "$app" "$work/$set.yaml"
    done
  done
}

# A move from one to the other without a gap.
both_ways() { # FILE
  claim "an Ingress and an HTTPRoute are both there when both are wanted" rendered "$1" gateway-api --set gateway.ingress.enabled=true,gateway.ingress.host=devplane.example.test
  claim "the Ingress" grep -q '^kind: Ingress$' "$1"
  claim "and the HTTPRoute" grep -q '^kind: HTTPRoute$' "$1"
}

own_spreading() { # FILE
  claim "a constraint with a labelSelector" rendered "$1" minimal --set-json 'operator.topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"rack","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"tier":"control"}}},{"maxSkew":1,"topologyKey":"row","whenUnsatisfiable":"DoNotSchedule"}]'
  claim "is left as it is, and one without gets that of the pods" spread_by "$1" '[{"tier":"control"},{"app":"workspace-operator"}]'
}
spread_by() { # FILE LABELS
  object Deployment workspace-operator "$1" | jq -e --argjson labels "$2" '[.spec.template.spec.topologySpreadConstraints[].labelSelector.matchLabels] == $labels'
}
rendered() { # FILE SET [ARGUMENTS...]
  render "${@:2}" >"$1"
}

# One key for all, and 1.1's keys for one of them.
private_ca() {
  local set=$work/private-ca.yaml
  claim "customCA.pem is in both namespaces" test "$(render private-ca --no-hooks | grep -A3 '^kind: ConfigMap' | grep -cE 'namespace: (workspace-operator-system|workspaces)$')" = 2
  claim "the gateway reads it" grep -q '/etc/devplane/ca/ca.crt' "$set"
  claim "workspaces get it" grep -A1 'DEFAULT_CA_BUNDLE_CONFIGMAP' "$set"
  claim "an existing ConfigMap reaches both" \
    test "$(render air-gapped --no-hooks | grep -cE '(name|value): "?corporate-authorities')" = 2
  claim "under its key" grep -q '/etc/devplane/ca/trust-bundle.pem' "$work/air-gapped.yaml"
  claim "1.1's keys say another one for each" \
    test "$(render private-ca --no-hooks --set gateway.tls.customCABundle.configMapName=of-gateway,workspace.defaultCABundle.configMapName=of-workspaces |
      grep -cE '^ +(name|value): ("of-workspaces"|of-gateway)$')" = 2
}

# What the doctor runs with in the cluster.
doctor_in_the_cluster() {
  denied "the doctor's values have no client secret" grep -q planted-secret "$work/minimal.yaml"
  claim "it runs as the test of the release" grep -q 'helm.sh/hook: test$' "$work/minimal.yaml"
  denied "and after no install, unless it is asked to" grep -q 'helm.sh/hook: post-install' "$work/minimal.yaml"
  claim "after an install and an upgrade" grep -q 'helm.sh/hook: post-install,post-upgrade$' <(render full --set doctor.hook=true)
  claim "reads Secrets by their names alone" \
    test "$(awk '/workspace-doctor/ { d = 1 } /^---/ { d = 0 } d' "$work/full.yaml" | grep -A1 'resources: .secrets.' | grep -c resourceNames)" -ge 1
  denied "nothing of it is cluster-wide" grep -q 'devplane-doctor[.]' "$work/full.yaml"
  claim "unless it is allowed to" grep -q 'kind: ClusterRole' <(render full --set doctor.clusterWide=true)
  claim "a Job of it that has failed goes by itself" \
    test "$(render full --set doctor.hook=true | grep -cE '^kind: Job|^  ttlSecondsAfterFinished: ')" = 4
  denied "it is not there when it is off" grep -q workspace-doctor <(render minimal --set doctor.test=false)
}

# A rule without would be for all ports.
every_rule_has_ports() { # APP FILE
  object NetworkPolicy "$1" "$2" | jq -e '.spec | .policyTypes == ["Ingress", "Egress"] and all(.ingress[], .egress[]; .ports | length > 0)'
}

# Every setting that the program has is given by the chart, and the chart gives no other, but for the allocator's.
settings_agree() {
  local role known given
  for role in operator gateway; do
    # Those that it declares, and those that it has in common with another role.
    known=$(grep -ohE '(setting\(|rate_settings!|^ +[A-Z_]+ )"?[A-Z_"]*' "$repo/src/config/$role.rs" | grep -oE '"[A-Z_]{4,}"' | tr -d '"'
      grep -ohE 'super::[a-z]+::[A-Z_]{4,}' "$repo/src/config/$role.rs" | sed 's/.*:://'; echo LOG_LEVEL; echo LOG_FORMAT)
    known=$(sort -u <<<"$known")
    given=$(cat "$work/full.yaml" "$work/existing-secret.yaml" | awk -v role="args: [$role]|- $role" '
      /^kind:/ { kind = $2 } /^  name: workspace-/ && kind == "Deployment" { name = $2 }
      kind == "Deployment" && /^        - name: [A-Z]/ { print name, $3 }' | sed -n "s/^workspace-$role //p" | grep -v '^MIMALLOC_' | sort -u)
    # Set by flags, or by Kubernetes itself.
    local otherwise='^(LEADER_ELECT|METRICS_BIND_ADDRESS|HEALTH_PROBE_BIND_ADDRESS|KUBERNETES_SERVICE_HOST|KUBERNETES_SERVICE_PORT)$'
    claim "the chart gives the $role exactly the settings it has" \
      diff <(grep -vE "$otherwise" <<<"$known") <(echo "$given")
  done
}

# Every image reference in FILE: of containers, and of what the operator is told.
images() {
  sed -n 's/^ *image: "\(.*\)"$/\1/p; /name: WORKSPACE_IMAGE$/{n; s/^ *value: "\(.*\)"$/\1/p}' "$1"
}

# The same with those of the classes, each once, in order of the alphabet.
all_images() {
  {
    sed -nE 's/^[ -]*image: "?([^"]+)"?$/\1/p' "$1"
    images "$1"
    sed -n '/name: WORKSPACE_CLASSES$/{n; s/^ *value: //p}' "$1" | head -n 1 | jq -r 'fromjson[] | .image // empty'
    sed -n '/name: WORKSPACE_ALLOWED_IMAGES$/{n; s/^ *value: "\(.*\)"$/\1/p}' "$1" | head -n 1 | tr , '\n' | grep -v '\*$' | grep . || true
  } | LC_ALL=C sort -u
}

listed_images() { # VALUES
  cargo run --quiet --locked --manifest-path "$repo/Cargo.toml" -- doctor images --values "$1" | LC_ALL=C sort -u
}

images_are_listed() {
  local set
  for set in "$work"/*.yaml; do
    set=$(basename "$set" .yaml)
    [ -e "$here/golden/$set.yaml" ] || continue
    claim "doctor images lists what $set renders" diff <(all_images "$work/$set.yaml") <(listed_images "$here/values/$set.yaml")
  done
  claim "those of the classes too" grep -qx 'registry.corp.example/gpu:1' <(all_images "$work/full.yaml")
}

nothing_leaks() {
  local set
  denied "with clusterCIDRs no rule of RBAC is cluster-wide" grep -q 'kind: ClusterRole' "$work/full.yaml"
  denied "nor in another namespace than its own two" grep -qx '  namespace: default' "$work/full.yaml"
  render minimal --api-versions cilium.io/v2/CiliumNetworkPolicy -s templates/operator-rbac.yaml >"$work/knows-cilium.yaml"
  claim "what Cilium's backend has left may be deleted where the cluster knows it" grep -A2 -x -- '- apiGroups: \[cilium.io\]' "$work/knows-cilium.yaml"
  denied "nowhere else" grep -q 'cilium' <(render minimal -s templates/operator-rbac.yaml)
  claim "without, one ClusterRole reads the cluster's ranges" test "$(grep -c '^kind: ClusterRole$' "$work/minimal.yaml")" = 1
  denied "no rule of RBAC has a wildcard" grep -nE "(verbs|resources|apiGroups): .*['\"]?\\*" "$work/full.yaml"
  for set in minimal full; do
    denied "the client secret of $set is nowhere in plain" grep -q planted-secret "$work/$set.yaml"
    claim "the client secret of $set is in one Secret only" \
      test "$(grep -c "$(printf planted-secret | base64)" "$work/$set.yaml")" = 1
  done
  denied "the operator alone brings nothing of the gateway" grep -qE 'name: workspace-gateway' "$work/operator-only.yaml"
  claim "every image comes from the mirror that the values name" test -z "$(images "$work/full.yaml" | grep -v '^mirror[.]example[.]test:5000/')"
  claim "no image of the defaults names a registry" test -z "$(images "$work/minimal.yaml" | grep /)"
}

reference_page() {
  claim "docs/reference/values.md is what the schema says" "$repo/docs/reference/generate-values.py" --check
}
