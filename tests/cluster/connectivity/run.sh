#!/usr/bin/env bash
# Turns matrix.txt into packets on the local cluster that is up, with dev1 and dev2 running there: first with the engine of NetworkPolicies, then
# without it, by IPv4 and, where pods have it, by IPv6. Exit code 77 says that something was not shown: all of it where this
# cluster enforces nothing, the lines by IPv6 where its pods have no addresses of it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../../.." && pwd)
cd "$repo"
for library in settings log process outside addons; do
  # shellcheck source=/dev/null
  . "deploy/local/lib/$library.sh"
done
# shellcheck source=../lib.sh
. tests/cluster/lib.sh
eval "$(deploy/local/env.sh)"

# Hosts outside the cluster, in a network namespace of ours; the addresses are for documentation (RFC 5737, RFC 3849), but for those of the clouds' metadata
# service.
ALLOWED=198.51.100.10 OTHER=198.51.100.20 METADATA=169.254.169.254
ALLOWED6=2001:db8::10 OTHER6=2001:db8::20 METADATA6=fd00:ec2::254
ATTEMPTS=10000

outside_up() {
  # A test that was killed may have left its own.
  remove_outside
  ip netns add "$OUTSIDE"
  ip link add "$OUTSIDE_LINK" type veth peer name inner netns "$OUTSIDE"
  ip address add 198.51.100.1/24 dev "$OUTSIDE_LINK"
  ip link set "$OUTSIDE_LINK" up
  # For pods alone: this machine may have a metadata service of its own, and answers come back where no other route leads.
  ip rule add from "$POD_CIDR" to "$METADATA" lookup "$OUTSIDE_TABLE"
  ip route add "$METADATA/32" dev "$OUTSIDE_LINK" table "$OUTSIDE_TABLE"
  sysctl -qw "net.ipv4.conf.$OUTSIDE_LINK.rp_filter=2"
  ip -n "$OUTSIDE" link set lo up
  ip -n "$OUTSIDE" link set inner up
  local address
  for address in "$ALLOWED/24" "$OTHER/24" "$METADATA/32"; do ip -n "$OUTSIDE" address add "$address" dev inner; done
  ip -n "$OUTSIDE" route add default via 198.51.100.1
  local listen listens=({TCP4-LISTEN:443,TCP4-LISTEN:25,TCP4-LISTEN:80})
  # By UDP an answer must come from the address that was asked.
  listens+=("UDP4-LISTEN:53,bind=$ALLOWED" "UDP4-LISTEN:53,bind=$METADATA")
  if [ "$IPV6" = yes ]; then
    ip address add 2001:db8::1/64 dev "$OUTSIDE_LINK" nodad
    ip -6 rule add from "$POD_CIDR6" to "$METADATA6" lookup "$OUTSIDE_TABLE"
    ip -6 route add "$METADATA6/128" dev "$OUTSIDE_LINK" table "$OUTSIDE_TABLE"
    for address in "$ALLOWED6/64" "$OTHER6/64" "$METADATA6/128"; do ip -n "$OUTSIDE" address add "$address" dev inner nodad; done
    ip -6 -n "$OUTSIDE" route add default via 2001:db8::1
    listens+=({TCP6-LISTEN:443,TCP6-LISTEN:25,TCP6-LISTEN:80},ipv6only "UDP6-LISTEN:53,bind=[$ALLOWED6]" "UDP6-LISTEN:53,bind=[$METADATA6]")
  fi
  for listen in "${listens[@]}"; do
    alone ip netns exec "$OUTSIDE" socat "$listen,fork,reuseaddr" EXEC:cat >/dev/null 2>&1 </dev/null &
  done
}

clean_up() {
  local status=$?
  trap - EXIT
  remove_outside
  running netpol || start_policies
  kubectl delete namespace connectivity --wait=false --ignore-not-found >/dev/null
  kubectl -n "$SYSTEM_NS" delete pod as-operator as-gateway --wait=false --ignore-not-found >/dev/null
  kubectl -n "$WORKSPACES_NS" patch workspace dev1 --type merge -p '{"spec":{"aiConfig":{"egressCIDRs":null}}}' >/dev/null || true
  kubectl -n "$WORKSPACES_NS" delete workspace "$LATE" --wait=false --ignore-not-found >/dev/null || true
  hold_new_workspaces false || true
  rm -rf "$work"
  exit "$status"
}

# A pod of nobody's, which listens and asks.
stranger_up() {
  kubectl create namespace connectivity >/dev/null
  kubectl -n connectivity apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: stranger
    image: $WORKSPACE_IMAGE
    imagePullPolicy: Never
    command: [python3, -m, http.server, "8000", --directory, /tmp]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
EOF
  kubectl -n connectivity wait --for=condition=Ready pod/stranger --timeout=120s >/dev/null
}

# Pods that the policies of operator and gateway select, but with something in them to ask with. They are never ready, so no Service leads to them.
control_plane_up() {
  local app
  for app in operator gateway; do
    kubectl -n "$SYSTEM_NS" apply -f - >/dev/null <<EOF
apiVersion: v1
kind: Pod
metadata: {name: as-$app, labels: {app: workspace-$app}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: asker
    image: $WORKSPACE_IMAGE
    imagePullPolicy: Never
    command: [sleep, infinity]
    readinessProbe: {exec: {command: ["false"]}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
EOF
  done
  kubectl -n "$SYSTEM_NS" wait --for=jsonpath='{.status.phase}'=Running pod/as-operator pod/as-gateway --timeout=120s >/dev/null
}

# of FAMILY: those of the addresses on stdin, ipv4 or ipv6.
of() { if [ "$1" = ipv6 ]; then grep : || true; else grep -v : || true; fi; }
pod_address() { # FAMILY NAMESPACE POD...
  kubectl -n "$2" get pod "${@:3}" -o 'jsonpath={range .items[0].status.podIPs[*]}{.ip}{"\n"}{end}{range .status.podIPs[*]}{.ip}{"\n"}{end}' | of "$1"
}

address_of() { # FAMILY NAME
  case $2 in
    dns) pod_address "$1" kube-system -l k8s-app=kube-dns ;;
    model) pod_address "$1" "$MODEL_NS" -l app=fixed-answer-llm ;;
    model-service) kubectl -n "$MODEL_NS" get service fixed-answer-llm -o 'jsonpath={range .spec.clusterIPs[*]}{@}{"\n"}{end}' | of "$1" ;;
    # Not those that were made here.
    operator | gateway) pod_address "$1" "$SYSTEM_NS" -l "app=workspace-$2,app.kubernetes.io/name" ;;
    stranger) pod_address "$1" connectivity stranger ;;
    dev1 | dev2) pod_address "$1" "$WORKSPACES_NS" "$2-workspace-pod" ;;
    api-server-service) echo "$API_SERVICE_IP" ;;
    api-server | kubelet | provider) printf '%s\n' "$NODE_IP" "$NODE_IP6" | of "$1" ;;
    allowed-host) printf '%s\n' "$ALLOWED" "$ALLOWED6" | of "$1" ;;
    other-host) printf '%s\n' "$OTHER" "$OTHER6" | of "$1" ;;
    metadata) printf '%s\n' "$METADATA" "$METADATA6" | of "$1" ;;
    *) printf "error: matrix.txt speaks of '%s', and nobody is called so\n" "$2" >&2 && exit 65 ;;
  esac
}

reaches() { # FROM ADDRESS PROTOCOL PORT
  local in=(-n "$WORKSPACES_NS" "$1-workspace-pod")
  case $1 in
    stranger) in=(-n connectivity stranger) ;;
    as-*) in=(-n "$SYSTEM_NS" "$1") ;;
  esac
  kubectl exec -i "${in[@]}" -- python3 - "$3" "$2" "$4" <"$here/probe.py"
}

# The canary's interval on the local cluster (deploy/local/values.yaml).
INTERVAL=30

# What the canary has found, by the condition of a workspace.
enforced() { kubectl -n "$WORKSPACES_NS" get workspace dev1 -o 'jsonpath={.status.conditions[?(@.type=="PolicyEnforced")].status}'; }

# The state that the metric of the operator that began last tells, and that alone.
measured() {
  local pod
  pod=$(kubectl -n "$SYSTEM_NS" get pods -l app=workspace-operator,app.kubernetes.io/name --sort-by=.metadata.creationTimestamp -o 'jsonpath={.items[-1:].metadata.name}')
  kubectl get --raw "/api/v1/namespaces/$SYSTEM_NS/pods/$pod:8080/proxy/metrics" |
    sed -n 's/^devplane_operator_policy_enforcement{state="\([a-z_]*\)"} 1$/\1/p'
}

# found STATUS STATE SECONDS: whether the condition and the metric say it within so many seconds; prints how many it took.
found() {
  local began=$SECONDS
  until [ "$(enforced)" = "$1" ] && [ "$(measured)" = "$2" ]; do
    [ $((SECONDS - began)) -lt "$3" ] || { printf 'after %s s the condition says %s and the metric %s\n' "$3" "$(enforced)" "$(measured)" && return 1; }
    sleep 0.5
  done
  printf '%s\n' $((SECONDS - began))
}

# An Event is written after the condition.
told_by_event() { eventually 20 has_event; }
has_event() { kubectl -n "$WORKSPACES_NS" get events --field-selector reason=PoliciesNotEnforced -o name | grep -q .; }

# A workspace that is to start while no policy is enforced.
LATE=late

# Whether nothing starts while policies are not known to be enforced. An operator that is told so begins anew.
hold_new_workspaces() { kubectl -n "$SYSTEM_NS" set env deployment/workspace-operator "POLICY_ENFORCEMENT_REQUIRED=$1" >/dev/null; }
held() {
  [ "$(kubectl -n "$WORKSPACES_NS" get workspace "$LATE" -o 'jsonpath={.status.phase} {.status.conditions[?(@.type=="Ready")].reason}')" = 'Failed PoliciesNotEnforced' ] &&
    [ -z "$(kubectl -n "$WORKSPACES_NS" get pods -l "user=$LATE" -o name)" ]
}
# The workspaces that were there before: each pod, and how often it was started.
early() {
  kubectl -n "$WORKSPACES_NS" get pods -l "app=workspace,user!=$LATE" -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.phase} {.status.containerStatuses[*].restartCount}{"\n"}{end}'
}

# Whether the engine is there, and its tables hold each of these addresses.
engine_has() {
  local address tables
  tables=$(nft list table ip devplane-netpol 2>/dev/null && nft list table ip6 devplane-netpol) || return 1
  for address in "$@"; do grep -qwF -- "$address" <<<"$tables" || return 1; done
}
engine_has_not() { ! engine_has "$@"; }

# The doctor's own look from pods that it makes, as it prints it.
probed() {
  "$CACHE/target/$(uname -m)-unknown-linux-musl/release/devplane" doctor --probe --only DP0810 --output json \
    --namespace "$SYSTEM_NS" --values "$repo/deploy/local/values.yaml"
}

# What the doctor tries, as it calls it.
PROBED=("the canary's terminal port" 'the API server' "another workspace's terminal port" "a node's kubelet" 'the metadata service' 'another port of the DNS pods')

FAMILIES=(ipv4)
[ "$IPV6" = no ] || FAMILIES+=(ipv6)

# One more time where it should get through: on a busy machine a packet comes late, or kubectl does.
patiently_reaches() { reaches "$@" 2>/dev/null || { sleep 1 && reaches "$@" 2>/dev/null; }; }

# tried_by FAMILY POLICED: each line of the matrix with what came of it; without policies each should get through.
tried_by() {
  local from to port expected only address try
  while read -r from to port expected only; do
    case $from in "" | "#"*) continue ;; esac
    [ "${only:-$1}" = "$1" ] || continue
    address=$(address_of "$1" "$to")
    [ -n "$address" ] || { printf 'error: %s has no address of %s\n' "$to" "$1" >&2 && return 1; }
    try=patiently_reaches
    [ "$expected $2" != "refused policed" ] || try=reaches
    if "$try" "$from" "$address" "${port%/*}" "${port#*/}" 2>/dev/null; then printf '%s reached\n' "$from $to $port $1 $expected"; else printf '%s refused\n' "$from $to $port $1 $expected"; fi
  done <"$here/matrix.txt"
}

# tried NAME POLICED: all of it, in the file NAME.
tried() {
  local family trying=()
  for family in "${FAMILIES[@]}"; do
    tried_by "$family" "$2" >"$1.$family" &
    trying+=($!)
  done
  for family in "${trying[@]}"; do wait "$family"; done
  for family in "${FAMILIES[@]}"; do cat "$1.$family"; done >"$1"
}

# shown NAME: whether a policy has refused anything.
shown() { grep -q ' refused refused$' "$1"; }

work=$(mktemp -d "${TMPDIR:-/tmp}/devplane-connectivity-XXXXXX")
trap clean_up EXIT
hold_new_workspaces true
outside_up
stranger_up
control_plane_up
kubectl -n "$WORKSPACES_NS" exec dev2-workspace-pod -- sh -c 'python3 -m http.server 8000 --directory /tmp >/dev/null 2>&1 &'
kubectl -n "$WORKSPACES_NS" exec dev1-workspace-pod -- sh -c 'python3 -m http.server 8000 --directory /tmp >/dev/null 2>&1 &'
kubectl -n "$WORKSPACES_NS" patch workspace dev1 --type merge -p "{\"spec\":{\"aiConfig\":{\"egressCIDRs\":[\"$ALLOWED/32\",\"$ALLOWED6/128\"]}}}" >/dev/null
kubectl -n "$SYSTEM_NS" rollout status deployment workspace-operator --timeout=120s >/dev/null
# What is policed, and the change that was just made.
policed=("$ALLOWED")
for family in "${FAMILIES[@]}"; do
  for pod in "$SYSTEM_NS as-operator" "$SYSTEM_NS as-gateway" "$WORKSPACES_NS dev1-workspace-pod" "$WORKSPACES_NS dev2-workspace-pod"; do
    # shellcheck disable=SC2086
    policed+=("$(pod_address "$family" $pod)")
  done
done
[ "$IPV6" = no ] || policed+=("$ALLOWED6")
! engine_has || eventually 60 engine_has "${policed[@]}" || { printf 'error: after 60 s the policies are not applied to all of %s\n' "${policed[*]}" >&2 && exit 1; }
tried "$work/with" policed
if ! shown "$work/with"; then
  printf 'skipped this cluster enforces no NetworkPolicies: every line of the matrix is reached, and nothing is shown\n'
  exit 77
fi
canary_on=$(found True enforced $((3 * INTERVAL))) || true
probed >"$work/probed-on" || true
early >"$work/early"
stop netpol
for family in ip ip6; do nft delete table "$family" devplane-netpol; done
# What is found within the interval is told a moment later: the operator still has to write it, and this to ask for it.
if canary_off=$(found False not_enforced $((INTERVAL + 10))); then told_by_event || canary_off='no Event tells of it'; fi
workspace "$LATE" 100m >/dev/null
held_at_once=$(eventually 30 held && echo yes) || true
tried "$work/without" not-policed
probed >"$work/probed-off" || true
# What is left when no policy is enforced: each side's certificate.
kubectl -n "$WORKSPACES_NS" exec -i dev2-workspace-pod -- python3 - "$(address_of ipv4 dev1)" "$ATTEMPTS" <"$here/terminal.py" >"$work/attempts"
held_to_the_end=$(held && echo yes) || true
early >"$work/early-goes-on"
start_policies
canary_again=$(found True enforced $((2 * INTERVAL))) || true
starts_again=$(eventually 120 phase "$LATE" Running && echo yes) || true
kubectl -n "$WORKSPACES_NS" delete workspace "$LATE" --timeout=60s >/dev/null

# A pod whose own policies are gone, as while it is being deleted.
kubectl -n "$SYSTEM_NS" scale deployment workspace-operator --replicas=0 >/dev/null
kubectl -n "$SYSTEM_NS" wait --for=delete pod -l app=workspace-operator,app.kubernetes.io/name --timeout=60s >/dev/null
hold_new_workspaces false
kubectl -n "$WORKSPACES_NS" delete networkpolicies -l user=dev1 >/dev/null
eventually 60 engine_has_not "$ALLOWED" || { printf 'error: after 60 s the policies that were deleted are still applied\n' >&2 && exit 1; }
orphan=ok
for family in "${FAMILIES[@]}"; do
  for target in "allowed-host 443" "dns 53" "stranger 8000"; do
    read -r to port <<<"$target"
    if reaches dev1 "$(address_of "$family" "$to")" tcp "$port" 2>/dev/null; then orphan="$to is reached by $family"; fi
  done
  if reaches stranger "$(address_of "$family" dev1)" tcp 8000 2>/dev/null; then orphan="it is reached by $family"; fi
done
kubectl -n "$SYSTEM_NS" scale deployment workspace-operator --replicas=1 >/dev/null
kubectl -n "$SYSTEM_NS" rollout status deployment workspace-operator --timeout=120s >/dev/null

if [ "$orphan" = ok ]; then
  printf 'ok      %s\n' "a workspace whose own policies are gone reaches nothing, and nobody reaches it"
else
  printf 'FAILED  without its own policies %s\n' "$orphan" && failed=$((failed + 1))
fi
canary() { # TITLE GOT: the seconds that it took
  case $2 in
    *[!0-9]* | '') printf 'FAILED  %s: %s\n' "$1" "$2" && failed=$((failed + 1)) ;;
    *) printf 'ok      %s (%s s)\n' "$1" "$2" ;;
  esac
}
canary 'the canary finds that policies are enforced' "$canary_on"
canary "it finds within its interval of $INTERVAL s that they are not, and a condition, an Event and the metric say so" "$canary_off"
canary 'it finds that they are enforced again' "$canary_again"
check "with canary.holdNewWorkspaces a new workspace is not made meanwhile, and says so" [ "$held_at_once $held_to_the_end" = 'yes yes' ]
check "those that are there go on" cmp "$work/early" "$work/early-goes-on"
check "and the new one is made once policies are enforced again" [ "$starts_again" = yes ]
without_is_skipped() { ! shown "$work/without"; }
check "without policies this very test is skipped, as it shows nothing" without_is_skipped
probe() { # TITLE STATUS FIELD FILE: the doctor has found STATUS, and FIELD tells of each line
  local told line missing=
  told=$(python3 -c 'import json, sys; f = json.load(open(sys.argv[1]))["findings"][0]; print(f["status"], f.get("evidence"), f.get("failure", {}).get("found"))' "$4")
  for line in "${PROBED[@]}"; do
    case $told in "$2 "*"$3"*"$line at "*) ;; *) missing="$missing, $line" ;; esac
  done
  if [ -z "$missing" ]; then printf 'ok      %s\n' "$1"; else printf 'FAILED  %s (%s): %s\n' "$1" "${missing#, }" "$told" && failed=$((failed + 1)); fi
}
probe 'the doctor finds each of its lines refused, and names resolved' ok "the cluster's DNS; refused: " "$work/probed-on"
probe 'without policies it finds each of them answered' failed 'an answer to what they refuse: ' "$work/probed-off"
if [ "$(cat "$work/attempts")" = "$ATTEMPTS 0" ]; then
  printf 'ok      without policies %s attempts at the terminal of another reach it and get 0 bytes\n' "$ATTEMPTS"
else
  printf 'FAILED  of %s attempts at the terminal of another so many reached it, and so many bytes came back: %s\n' "$ATTEMPTS" "$(cat "$work/attempts")" && failed=$((failed + 1))
fi
while read -r from to port family expected got _ _ _ _ _ open; do
  line="$from -> $to $port by $family: $expected"
  if [ "$expected" != "$got" ]; then
    printf 'FAILED  %s, but it is %s\n' "$line" "$got" && failed=$((failed + 1))
  elif [ "$open" != reached ]; then
    printf 'FAILED  %s, which shows nothing: it is not reached without policies either\n' "$line" && failed=$((failed + 1))
  else
    printf 'ok      %s\n' "$line"
  fi
done < <(paste -d' ' "$work/with" "$work/without")
[ "$IPV6" = yes ] || printf 'skipped by IPv6: the pods of this cluster have no addresses of it\n'
printf 'connectivity: %d lines, %d failed\n' "$(wc -l <"$work/with")" "$failed"
[ "$failed" = 0 ] || exit 1
[ "$IPV6" = yes ] || exit 77
