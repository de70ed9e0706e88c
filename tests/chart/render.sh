# shellcheck shell=bash disable=SC2154  # here, repo, chart and work come from run.sh
# Turns what helm renders, without any cluster, into claims.

golden_files() { # [--update]
  local set
  for set in minimal operator-only existing-secret full; do
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
  refused "refuses Kubernetes 1.26" 'requires kubeVersion: >=1.27.0-0' render minimal --kube-version 1.26.0
}

bad_values() {
  local key
  refused "names every OIDC value that is missing" \
    'gateway.oidc.issuerURL, gateway.oidc.clientID, gateway.oidc.clientSecret, gateway.oidc.redirectURL are not set' \
    helm template devplane "$chart" -n x --kube-version 1.36.0
  for key in issuerURL clientID clientSecret redirectURL; do
    refused "names gateway.oidc.$key when it alone is missing" "but gateway.oidc.$key is not set: set it, or name in gateway.oidc.existingSecret" \
      render minimal --set "gateway.oidc.$key="
  done
  refused "refuses a readable wire to the provider" 'gateway.oidc.issuerURL is "http://idp.example.test", which is not https' \
    render minimal --set gateway.oidc.issuerURL=http://idp.example.test
  claim "takes plain http on a loopback address" render minimal --set gateway.oidc.issuerURL=http://127.0.0.1:9000
  refused "refuses another redirect path" 'does not end in /callback' render minimal --set gateway.oidc.redirectURL=https://a.example.test/
  refused "refuses an Ingress without host" 'gateway.ingress.host is not set' render minimal --set gateway.ingress.enabled=true
  refused "refuses two operators that do not take turns" 'operator.leaderElect is false' \
    render minimal --set operator.replicas=2 --set operator.leaderElect=false
  refused "refuses users beside the control plane" "users' pods must not share it" \
    render minimal --set gateway.workspaceNamespace=workspace-operator-system

  # The schema: helm names the key.
  refused "an unknown key" "additional properties 'replica' not allowed" render minimal --set operator.replica=2
  refused "an unknown key deep down" "additional properties 'storageclass' not allowed" render minimal --set workspace.storageclass=a
  refused "a pod setting that could weaken its security" "securityContext" render minimal --set workspace.pod.securityContext.privileged=true
  refused "a pull policy" "/imagePullPolicy" render minimal --set imagePullPolicy=Sometimes
  refused "a number as text" "/gateway/replicas" render minimal --set-string gateway.replicas=two
  refused "a port" "/workspace/ai/egressPorts/0" render minimal --set 'workspace.ai.egressPorts={70000}'
  refused "a namespace" "/gateway/workspaceNamespace" render minimal --set gateway.workspaceNamespace=Up
  refused "an egress range" "/workspace/ai/egressCIDRs/0" render minimal --set 'workspace.ai.egressCIDRs={10.0.0.1}'
  refused "a namespace without ports that has a list of them" "/workspace/ai/egressNamespaces/0/ports" \
    render minimal --set-json 'workspace.ai.egressNamespaces=[{"name":"git","ports":[]}]'
  refused "a range" "/clusterCIDRs/0" render minimal --set 'clusterCIDRs={10.0.0.1}'
  refused "a duration" "/workspace/idleTimeout" render minimal --set workspace.idleTimeout=8hours
  refused "a quantity" "/workspace/defaultResources/memory" render minimal --set workspace.defaultResources.memory=2GB
  refused "a provider without models" "/workspace/ai/providers/0" \
    render minimal --set-json 'workspace.ai.providers=[{"name":"a","endpoint":"http://a"}]'
  refused "a recording mode" "/gateway/sessionRecording/mode" render minimal --set gateway.sessionRecording.mode=everything
  refused "a size of recordings" "/gateway/sessionRecording/maxSize" render minimal --set gateway.sessionRecording.maxSize=much
  refused "an image with a blank" "/image" render minimal --set 'image=a b'
}

# Every setting that the program has is given by the chart, and the chart gives no other.
settings_agree() {
  local role known given
  for role in operator gateway; do
    # Those that it declares, and those that it has in common with another role.
    known=$(grep -ohE '(setting\(|rate_settings!|^ +[A-Z_]+ )"?[A-Z_"]*' "$repo/src/config/$role.rs" | grep -oE '"[A-Z_]{4,}"' | tr -d '"'
      grep -ohE 'super::[a-z]+::[A-Z_]{4,}' "$repo/src/config/$role.rs" | sed 's/.*:://'; echo LOG_LEVEL; echo LOG_FORMAT)
    known=$(sort -u <<<"$known")
    given=$(cat "$work/full.yaml" "$work/existing-secret.yaml" | awk -v role="args: [$role]|- $role" '
      /^kind:/ { kind = $2 } /^  name: workspace-/ && kind == "Deployment" { name = $2 }
      kind == "Deployment" && /^        - name: [A-Z]/ { print name, $3 }' | sed -n "s/^workspace-$role //p" | sort -u)
    # Set by flags.
    local otherwise='^(LEADER_ELECT|METRICS_BIND_ADDRESS|HEALTH_PROBE_BIND_ADDRESS)$'
    claim "the chart gives the $role exactly the settings it has" \
      diff <(grep -vE "$otherwise" <<<"$known") <(echo "$given")
  done
}

# Every image reference in FILE: of containers, and of what the operator is told.
images() {
  sed -n 's/^ *image: "\(.*\)"$/\1/p; /name: WORKSPACE_IMAGE$/{n; s/^ *value: "\(.*\)"$/\1/p}' "$1"
}

nothing_leaks() {
  local set
  denied "with clusterCIDRs no rule of RBAC is cluster-wide" grep -q 'kind: ClusterRole' "$work/full.yaml"
  denied "nor in another namespace than its own two" grep -qx '  namespace: default' "$work/full.yaml"
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
