# shellcheck shell=bash
# Turns what goes wrong for workspaces on a real node, and how a terminal ends under its user's hands, into checks. Everything goes wrong at once, and is
# mended at once.

# classes JSON: the operator's, by its environment, as the chart sets it.
classes() {
  kubectl -n workspace-operator-system set env deployment/workspace-operator "WORKSPACE_CLASSES=$1" >/dev/null
  kubectl -n workspace-operator-system rollout status deployment/workspace-operator --timeout=60s >/dev/null
}
troubled() { # ID CLASS
  kubectl apply --validate=strict -f - >/dev/null < <(sed "s/dev1/$1/g; s/cpu: 500m/cpu: 150m/; s/^spec:/&\n  className: $2/" deploy/local/workspace.yaml)
}
# told ID 'PHASE REASON' TEXT: with what to check, and what is wrong.
told() {
  kubectl -n workspaces get workspace "$1" \
    -o 'jsonpath={.status.phase} {.status.conditions[?(@.type=="Ready")].reason}; {.status.remediationHint}; {.status.message}' | grep -qE "^$2; .*$3"
}
devices() { # COUNT: what a device plugin would say of the node (Kubernetes: "Advertise Extended Resources for a Node")
  kubectl patch node "$(kubectl get nodes -o 'jsonpath={.items[0].metadata.name}')" --subresource=status --type=merge \
    -p "{\"status\":{\"capacity\":{\"devplane.test/device\":$1}}}" >/dev/null
}
size() { kubectl -n workspaces get workspace "$1" -o 'jsonpath={.status.conditions[?(@.type=="VolumeSizeAsRequested")]}' | grep -q "$2"; }
storage() { kubectl -n workspaces patch workspace "$1" --type=merge -p "{\"spec\":{\"resources\":{\"storage\":\"$2\"}}}" >/dev/null; }
goes_on() { phase "$1" Running && [ "$(uid "$1")" = "$before" ]; }
has_device() { [ "$(kubectl -n workspaces get pod "$1-workspace-pod" -o 'jsonpath={.spec.containers[0].resources.limits.devplane\.test/device}')" = 1 ]; }
all_gone() {
  local id
  for id in "$@"; do gone "$id" || return 1; done
}
# terminal FILE: what dev1's terminal shows, from sign-in on.
terminal() {
  tests/cluster/terminal.py dev1 >"$1" 2>"$1.errors" &
  # It gives up by itself before.
  eventually 240 shown_or_ended "$1" "$!" || true
  shown "$1" || { cat "$1" "$1.errors" && return 1; }
}
# More than the name of the Workspace.
shown() { [ "$(wc -c <"$1")" -gt 200 ]; }
shown_or_ended() { shown "$1" || ! kill -0 "$2" 2>/dev/null; }
has() { grep -qF -- "$2" "$1" || { cat "$1" "$1.errors" && return 1; }; }

first=$DEVPLANE_LOCAL_DIR/logs/terminal-1.log second=$DEVPLANE_LOCAL_DIR/logs/terminal-2.log
classes '[{"name":"unpullable","image":"localhost:9/nothing:1","imagePullPolicy":"IfNotPresent"},{"name":"crashing","image":"localhost/devplane:dev"},
  {"name":"device","pod":{"extendedResources":{"devplane.test/device":1}}}]'
troubled life-image unpullable
troubled life-crash crashing
troubled life-device device
before=$(uid dev2)
storage dev2 2Gi
check "a volume that can't grow says so" eventually 60 size dev2 '"reason":"ResizeRefused"'
check "in words" size dev2 'must support resize'
check "and its workspace goes on" goes_on dev2
storage dev2 1Gi
check "what is no longer asked for is no longer told" eventually 60 size dev2 '"status":"True"'
check "an image that can't be pulled is told, with what to check" eventually 60 told life-image 'Failed (ErrImagePull|ImagePullBackOff)' 'Check that the image exists.*localhost:9'
check "a device that no node offers is waited for, with what to check" eventually 60 told life-device 'Creating Unschedulable' 'Check the free CPU.*Insufficient devplane.test/device'
check "a container that ends again and again is told, with what to check" eventually 60 told life-crash 'Failed CrashLoopBackOff' 'kubectl logs --previous.*exit code'
devices 1
classes '[{"name":"unpullable"},{"name":"crashing"},{"name":"device","pod":{"extendedResources":{"devplane.test/device":1}}}]'

check "dev1 opens a terminal by the gateway" terminal "$first"
mine=$(head -n 1 "$first")
kubectl -n workspaces annotate workspace "$mine" "workspace.devplane.io/restart-requested-at=$(date -u +%FT%TZ)" >/dev/null
check "which ends when an administrator restarts the workspace" eventually 60 has "$first" 'closed 4410 restart'
check "and says who did and why" has "$first" 'This workspace is being restarted: you or an administrator asked for it.'

check "a workspace starts once its image can be pulled" eventually 120 phase life-image Running
check "one that crashed runs once it is mended" eventually 120 phase life-crash Running
check "one that waited for a device has it" eventually 120 phase life-device Running
check "and the node counts it" has_device life-device

check "dev1 comes back" terminal "$second"
kubectl -n workspaces patch workspace "$mine" --type=merge -p '{"spec":{"suspended":true}}' >/dev/null
check "the terminal ends when an administrator suspends the workspace" eventually 60 has "$second" 'closed 4403'
check "and says who did and why" has "$second" 'This workspace is being stopped: an administrator has suspended it.'
check "which stops" eventually 60 phase "$mine" Stopped

kubectl -n workspaces delete workspace life-image life-crash life-device "$mine" --wait=true >/dev/null
devices null
kubectl -n workspace-operator-system set env deployment/workspace-operator WORKSPACE_CLASSES- >/dev/null
kubectl -n workspace-operator-system rollout status deployment/workspace-operator --timeout=60s >/dev/null
check "nothing is left of them" eventually 60 all_gone life-image life-crash life-device "$mine"
