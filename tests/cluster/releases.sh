# shellcheck shell=bash
# Turns the life of the release into checks, on a real node and while dev2 works: changed values, going back, its test, being removed and coming back.

SYSTEM=workspace-operator-system
release() { helm "$1" devplane "${@:2}" -n "$SYSTEM" >"$release_log" 2>&1 || { cat "$release_log" && return 1; }; }
installed() { # COMMAND [ARGUMENTS...]: install or upgrade, as deploy/local/up.sh does
  release "$1" chart/devplane -f deploy/local/values.yaml --wait --timeout 180s "${@:2}"
}
release_log=$DEVPLANE_LOCAL_DIR/logs/release.log

# What dev2 has: the same only when nobody restarted the pod, or made another one, or another volume, and the file is the one that was written.
life() {
  kubectl -n workspaces get pod dev2-workspace-pod -o 'jsonpath={.metadata.uid} {.status.containerStatuses[*].restartCount} '
  kubectl -n workspaces get workspace/dev2 persistentvolumeclaim/dev2-workspace-pvc -o 'jsonpath={.items[*].metadata.uid} '
  inside dev2 'cat ~/release.txt'
}
lives_on() { [ "$(life)" = "$life" ] && phase dev2 Running; }
isolated() { [ "$(kubectl -n workspaces get networkpolicies -l user=dev2 -o 'jsonpath={.items[*].metadata.uid}')" = "$isolation" ]; }

control_plane() { kubectl -n "$SYSTEM" get pods -l 'app in (workspace-operator, workspace-gateway)' -o 'jsonpath={range .items[*]}{.metadata.uid}{"\n"}{end}'; }
# Everything that ran is gone, and something else runs.
rolled() { [ -n "$(control_plane)" ] && ! control_plane | grep -qxF "$before"; }
level() { [ "$(kubectl -n "$SYSTEM" get deployment workspace-operator -o 'jsonpath={.spec.template.spec.containers[0].env[?(@.name=="LOG_LEVEL")].value}')" = "$1" ]; }

# reconciled NUMBER: the operator that runs now changes dev2's policy to what the Workspace says now, so it has seen dev2.
allows() { kubectl -n workspaces get networkpolicy dev2-workspace-egress -o 'jsonpath={.spec.egress[*].to[*].ipBlock.cidr}' | grep -qF "198.51.100.$1/32"; }
reconciled() {
  kubectl -n workspaces patch workspace dev2 --type merge -p "{\"spec\":{\"aiConfig\":{\"egressCIDRs\":[\"198.51.100.$1/32\"]}}}" >/dev/null
  eventually 60 allows "$1"
}

# The doctor's objects of the release, wherever they are.
of_doctor() {
  kubectl get jobs,pods,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings -A -l app.kubernetes.io/name=workspace-doctor \
    -o 'jsonpath={range .items[*]}{.kind}/{.metadata.name}{"\n"}{end}'
}
nothing_of_doctor() { [ -z "$(of_doctor)" ]; }
model_servers() {
  kubectl -n ai-system scale deployment fixed-answer-llm --replicas="$1" >/dev/null
  kubectl -n ai-system rollout status deployment fixed-answer-llm --timeout=60s >/dev/null
}
# A pod that is ready is reached as soon as kube-proxy has heard of it, and not before.
model_answers() { inside dev2 'curl -fsS -m 5 -o /dev/null http://fixed-answer-llm.ai-system.svc.cluster.local:8000/v1/models'; }
fails_and_says() { # TEXT
  ! release test --timeout 120s >/dev/null && grep -q -- "$1" "$release_log"
}
only_its_job() { [ "$(of_doctor | cut -d/ -f1 | sort -u | tr '\n' ' ')" = 'Job Pod ' ]; }

said_kept() { grep -A3 'kept due to the resource policy' "$release_log" | grep -q 'Namespace.* workspaces'; }
# But for what refuses all that no workspace's own policies allow.
none_of_the_release() {
  [ "$(kubectl get deployments,services,pods,networkpolicies -A -l app.kubernetes.io/instance=devplane -o name)" = networkpolicy.networking.k8s.io/workspaces-refuse-all ]
}
# By the certificate that it had before: its Secrets are not the release's.
answers() {
  curl -fsS --noproxy '*' --cacert "$DEVPLANE_LOCAL_CA" --connect-to "::$(kubectl -n "$SYSTEM" get service workspace-gateway -o 'jsonpath={.spec.clusterIP}:{.spec.ports[0].port}')" "$DEVPLANE_URL/health"
}

inside dev2 'echo "of before" > ~/release.txt'
life=$(life) before=$(control_plane)
isolation=$(kubectl -n workspaces get networkpolicies -l user=dev2 -o 'jsonpath={.items[*].metadata.uid}')

# With the doctor as a hook of it.
check "helm upgrades the release to other values" installed upgrade --set log.level=debug --set doctor.hook=true
check "and the doctor looks at it, whose findings helm prints" grep -qE '^[0-9]+ ok, 0 failed' "$release_log"
check "nothing of the doctor is left" eventually 30 nothing_of_doctor
check "operator and gateway are other pods" eventually 60 rolled
check "with the values" level debug
check "the new operator goes on with dev2" reconciled 31
check "whose pod, volume and file are the same" lives_on

before=$(control_plane)
check "helm goes back" release rollback --wait --timeout 180s
check "to other pods" eventually 60 rolled
check "with the values of before" level info
check "that operator goes on, too" reconciled 32
check "and dev2 lives on" lives_on

check "helm's test of the release passes" release test --timeout 120s
check "and says what it found" grep -qE '^[0-9]+ ok, 0 failed' "$release_log"
check "nothing is left of that either" eventually 30 nothing_of_doctor
model_servers 0
check "it fails when the model does not answer, and says so" fails_and_says DP1001
check "its log stays" grep -q DP1001 <(kubectl -n "$SYSTEM" logs job/workspace-doctor-test)
check "but no right" only_its_job
model_servers 1
check "the model answers again" eventually 60 model_answers
check "once the model answers it passes" release test --timeout 120s
check "and nothing is left of the one that failed either" eventually 30 nothing_of_doctor

check "helm uninstalls the release" release uninstall --wait --timeout 120s
check "and says that it keeps the workspaces' namespace" said_kept
check "operator, gateway and canary are gone" eventually 60 none_of_the_release
check "the kind of Workspaces stays" kubectl get crd workspaces.workspace.devplane.io -o name
check "dev2 lives on without an operator" lives_on
check "and is as isolated as before" isolated

check "helm installs it anew" installed install
check "the gateway answers" eventually 60 answers
check "the operator takes dev2 over" reconciled 33
check "with the same pod, volume and file" lives_on
