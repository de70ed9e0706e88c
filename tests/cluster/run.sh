#!/usr/bin/env bash
# Installs the chart's operator on the one-machine cluster and lives a workspace's life there: real pods, volumes and packets.
#
# The cluster is one of deploy/local with state of its own; it is removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/harness/cluster.sh
. tests/cluster/lib.sh

with_cluster

inside() { # ID COMMAND: in the workspace's container
  kubectl -n workspaces exec "$1-workspace-pod" -- bash -c "$2"
}
gone() { [ -z "$(kubectl -n workspaces get pods,pvc,services,networkpolicies,roles,rolebindings,serviceaccounts -l "user=$1" -o name)" ]; }

workspace dev1
workspace dev2
check "a workspace becomes Running" eventually 180 phase dev1 Running
check "and so does a second one" eventually 180 phase dev2 Running
check "the terminal's session is there" inside dev1 'TMUX_TMPDIR=/tmp tmux has-session -t =workspace'
check "the root is read-only, the home is not" inside dev1 '! touch /probe 2>/dev/null && touch ~/probe'
check "no service-account token is mounted" inside dev1 '! test -e /var/run/secrets/kubernetes.io'
check "opencode answers through the model in the cluster" inside dev1 'timeout 120 opencode run "say something" | grep -q .'

# A pod that the API server has not seen before and that is ready: status.phase alone may still tell of the last one.
uid() { kubectl -n workspaces get pod "$1-workspace-pod" -o 'jsonpath={.metadata.uid}'; }
ready() { [ "$(kubectl -n workspaces get pod "$1-workspace-pod" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }
replaced() { [ "$(uid dev1)" != "$before" ] && ready dev1 && phase dev1 Running; }

inside dev1 'echo kept > ~/work.txt'
before=$(uid dev1)
kubectl -n workspaces delete pod dev1-workspace-pod --wait=true >/dev/null
check "a deleted pod comes back" eventually 180 replaced
check "with the user's file" inside dev1 'grep -q kept ~/work.txt'

# The screen of the last run, after a restart.
screen() { inside "$1" "TMUX_TMPDIR=/tmp tmux capture-pane -p -S - -t =workspace: | grep -q -- '$2'"; }
inside dev1 'TMUX_TMPDIR=/tmp tmux send-keys -t =workspace: "echo seen-\$((20+3))" Enter'
eventually 30 screen dev1 seen-23
before=$(uid dev1)
# By a watch: what is told for a moment would be missed by who asks now and then.
reasons=$DEVPLANE_LOCAL_DIR/stop-reasons
kubectl -n workspaces get workspace dev1 --watch -o 'jsonpath={.status.stopReason}{"\n"}' >"$reasons" &
watch=$!
eventually 30 test -s "$reasons" || true
kubectl -n workspaces annotate workspace dev1 "workspace.devplane.io/restart-requested-at=$(date -u +%FT%TZ)" >/dev/null
check "a restart says why it stops the pod" eventually 60 grep -qx Restart "$reasons"
# The API server may have ended it.
kill "$watch" 2>/dev/null || true
check "and replaces it" eventually 180 replaced
check "the next terminal shows the last screen" eventually 60 screen dev1 'the screen of the last run'
check "with what was on it" screen dev1 seen-23

. tests/cluster/probes.sh

# counted EXIT-CODE: how many have passed, failed and been skipped with one command that ends so.
counted() { (passed=0 failed=0 skipped=0 && check 'a command' sh -c "exit $1" >/dev/null && printf '%s %s %s' "$passed" "$failed" "$skipped"); }
tells_apart() { [ "$(counted 0), $(counted 1), $(counted 77)" = '1 0 0, 0 1 0, 0 0 1' ]; }
check "what can show nothing is skipped, and has not passed" tells_apart
check "who reaches what is as in connectivity/matrix.txt" tests/cluster/connectivity/run.sh

# Two workspaces and the canary.
kubectl -n workspaces create quota full --hard=pods=3 >/dev/null
is_full() { [ "$(kubectl -n workspaces get quota full -o 'jsonpath={.status.used.pods}')" = 3 ]; }
eventually 30 is_full
workspace dev3 100m
said() { kubectl -n workspaces get workspace "$1" -o 'jsonpath={.status.message}' | grep -q "$2"; }
check "a workspace that a quota leaves no room for says so" eventually 60 said dev3 'exceeded quota'
kubectl -n workspaces delete quota full >/dev/null
check "and starts by itself once there is room" eventually 180 phase dev3 Running
kubectl -n workspaces delete workspace dev3 --wait=true >/dev/null

kubectl -n workspaces delete workspace dev1 --wait=true >/dev/null
check "what a deleted Workspace owned goes with it" eventually 120 gone dev1
check "another user's objects stay" phase dev2 Running

. tests/cluster/life.sh
. tests/cluster/growth.sh
. tests/cluster/authorities.sh

check "every audit line is as its schema says" audit_lines_fit

. tests/cluster/releases.sh

outcome
