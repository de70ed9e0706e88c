# shellcheck shell=bash
# A second authority in the ConfigMap that the values name (customCA) becomes checks: gateways trust it without a restart, a workspace that runs says what it waits
# for and goes on, and has it from its next start.

both=$DEVPLANE_LOCAL_DIR/both-authorities.crt
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=an authority that comes' \
  -keyout "$DEVPLANE_LOCAL_DIR/coming.key" -out "$DEVPLANE_LOCAL_DIR/coming.crt" 2>/dev/null
cat "$DEVPLANE_LOCAL_CA" "$DEVPLANE_LOCAL_DIR/coming.crt" >"$both"

give_both() { # NAMESPACE
  kubectl -n "$1" create configmap devplane-ca --from-file=ca.crt="$both" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}
gateways() {
  kubectl -n workspace-operator-system get pods -l app=workspace-gateway -o 'jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{"\n"}{end}' | sort
}
all_trust_it() {
  local pod
  for pod in $(kubectl -n workspace-operator-system get pods -l app=workspace-gateway -o name); do
    kubectl -n workspace-operator-system logs "$pod" --tail=-1 | grep -q 'the authorities to trust have changed' || return 1
  done
}
update_of() { kubectl -n workspaces get workspace "$1" -o 'jsonpath={.status.conditions[?(@.type=="UpdatePending")].status} {.status.conditions[?(@.type=="UpdatePending")].message}'; }
waits_for_certificates() { update_of dev2 | grep -q '^True .*CA certificates'; }
waits_for_nothing() { ! update_of dev2 | grep -q '^True '; }
starts_again() { [ "$(uid dev2)" != "$before" ] && ready dev2 && phase dev2 Running; }
trusted_in() { inside "$1" 'grep -c "BEGIN CERTIFICATE" ~/.config/devplane/ca-bundle.crt'; }

# Nobody is at dev2, which by itself would start again at once.
updates_by() { kubectl -n workspaces patch workspace dev2 --type merge -p "{\"spec\":{\"lifecycle\":{\"updatePolicy\":$1}}}" >/dev/null; }
updates_by '"Manual"'
ran=$(gateways) before=$(uid dev2) trusted=$(trusted_in dev2)
give_both workspace-operator-system
give_both workspaces
check "a workspace that runs tells that there is another authority" eventually 60 waits_for_certificates
check "and goes on with those that it has" test "$(uid dev2) $(trusted_in dev2)" = "$before $trusted"
# The kubelet brings a ConfigMap into pods about once a minute.
check "every gateway trusts it" eventually 150 all_trust_it
check "without a restart" test "$(gateways)" = "$ran"
kubectl -n workspaces annotate workspace dev2 "workspace.devplane.io/restart-requested-at=$(date -u +%FT%TZ)" >/dev/null
check "the workspace starts again" eventually 180 starts_again
check "with the new authority beside the others" test "$(trusted_in dev2)" = "$((trusted + 1))"
check "and waits for nothing any more" eventually 60 waits_for_nothing
updates_by null
