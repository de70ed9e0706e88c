# shellcheck shell=bash
# Turns growth of a workspace's volume into checks, with Kubernetes' own resizer, a kubelet and a CSI driver: in two steps, as with block storage.

csi=$DEVPLANE_LOCAL_DIR/csi registry=$DEVPLANE_LOCAL_DIR/kubelet/plugins_registry csi_programs=$(tests/cluster/csi/programs.sh)
mkdir -p "$csi/volumes"
"$csi_programs/csi-driver" --volumes "$csi/volumes" --socket "$csi/socket" --registry "$registry" --node "$(kubectl get nodes -o name | cut -d/ -f2)" \
  --most $((4 << 30)) >"$DEVPLANE_LOCAL_DIR/logs/csi-driver.log" 2>&1 &
csi_driver=$!
"$csi_programs/csi-resizer" --csi-address "$csi/socket" --kubeconfig "$KUBECONFIG" >"$DEVPLANE_LOCAL_DIR/logs/csi-resizer.log" 2>&1 &
csi_resizer=$!
kubectl apply -f tests/cluster/csi/manifests.yaml >/dev/null

suspended() { kubectl -n workspaces patch workspace "$1" --type=merge -p "{\"spec\":{\"suspended\":$2}}" >/dev/null; }
file_system() { [ "$(inside "$1" 'df --block-size=M --output=size ~ | tail -n 1 | tr -d " M"')" = "$2" ]; } # ID MEBIBYTES
# The kubelet looks at a pod's volumes when it looks at the pod: about every minute, and when the pod changes.
looked_at() { kubectl -n workspaces annotate pod "$1-workspace-pod" --overwrite "devplane.test/changed=$2" >/dev/null; }
grows_to() { # ID SIZE MEBIBYTES
  storage "$1" "$2"
  eventually 60 size "$1" 'the volume has grown; its file system is being made larger' && looked_at "$1" "$2" && eventually 120 file_system "$1" "$3"
}

kubectl apply --validate=strict -f - >/dev/null < <(sed 's/dev1/growing/g; s/cpu: 500m/cpu: 150m/; s/^spec:/&\n  persistence: {storageClass: volumes.devplane.test}/' deploy/local/workspace.yaml)
check "a workspace runs on a volume that can grow" eventually 120 phase growing Running
inside growing 'echo kept > ~/work.txt'
suspended growing true
eventually 60 phase growing Stopped
storage growing 2Gi
check "a volume that grows while its workspace is stopped waits for its start, and says so" eventually 60 size growing 'the volume has grown; its file system grows when the workspace starts'
suspended growing false
kubectl -n workspaces annotate workspace growing --overwrite "workspace.devplane.io/wake-requested-at=$(date -u +%FT%TZ)" >/dev/null
check "the workspace starts" eventually 120 phase growing Running
check "with the larger file system" eventually 60 file_system growing 2048
check "what has grown is told no more" eventually 60 size growing '"status":"True"'
check "the user's file is there" inside growing 'grep -q kept ~/work.txt'

before=$(uid growing)
check "a volume grows under a workspace that runs" grows_to growing 3Gi 3072
check "which is told when it is done" eventually 60 size growing '"status":"True"'
storage growing 5Gi
check "a growth that the storage can't do is told" eventually 60 size growing '"reason":"ResizeFailed"'
check "in its words" size growing 'the storage has no volumes of more than'
storage growing 3Gi
check "and no longer, once it is not asked for" eventually 60 size growing '"status":"True"'
check "a growth that it can do takes its place" grows_to growing 4Gi 4096
check "and ends" eventually 60 size growing '"status":"True"'
storage growing 1Gi
check "a volume that is to shrink says that it can't" eventually 60 size growing '"reason":"CantShrink"'
check "in words" size growing "the volume has 4Gi and can't be made smaller"
check "in all of this, its workspace goes on" goes_on growing
check "and the user's file with it" inside growing 'grep -q kept ~/work.txt'

kubectl -n workspaces delete workspace growing --wait=true >/dev/null
check "nothing is left of it" eventually 60 all_gone growing
kubectl delete -f tests/cluster/csi/manifests.yaml --wait=true >/dev/null
rm "$registry/csi.sock"
kill "$csi_driver" "$csi_resizer"
wait "$csi_driver" "$csi_resizer" 2>/dev/null || true
# What the driver has mounted goes with the cluster's directory.
