# shellcheck shell=bash
# What the doctor finds from a pod that it makes beside the workspaces becomes checks: models answer there, and no longer when policies or servers are otherwise.

probe_log=$DEVPLANE_LOCAL_DIR/logs/probe.log
# probed STATUS TEXT [VALUES-FILE]: DP1006 has this status, and says this.
probed() {
  local values=(--values deploy/local/values.yaml)
  [ -z "${3-}" ] || values+=(--values "$3")
  "$DEVPLANE_CACHE/target/$(uname -m)-unknown-linux-musl/release/devplane" doctor --probe --only DP1006 -n workspace-operator-system "${values[@]}" >"$probe_log" 2>&1 || true
  grep -A6 "^$1 *DP1006" "$probe_log" | grep -qF -- "$2" || { cat "$probe_log" && return 1; }
}
nothing_of_probes() { [ -z "$(kubectl get pods,secrets,networkpolicies -A -l workspace.devplane.io/doctor-probe -o name)" ]; }

narrow=$DEVPLANE_LOCAL_DIR/narrow.yaml
printf 'workspace: {ai: {egressNamespaces: []}}\n' >"$narrow"
check "a pod that is policed like a workspace finds the model" probed ok 'DP1002: local: fixed-answer'
check "it does not where the policies of workspaces do not let it" probed FAIL 'DP1001: language model server local does not answer' "$narrow"
check "nothing is left of the doctor's pods" eventually 30 nothing_of_probes
