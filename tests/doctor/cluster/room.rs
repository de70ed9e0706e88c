//! Faults of namespaces and storage, of room for a workspace, and of what the settings name.

use super::{row, with_values};
use crate::site::Mend::{Printed, Script};
use crate::site::Row;

/// What a device plugin makes a node tell of.
const TWO_DEVICES: &str = r#"status node/node-a '{"status":{"capacity":{"example.test/device":"2"},"allocatable":{"example.test/device":"2"}}}'"#;

const NO_DEVICES: &str = r#"status node/node-a '{"status":{"capacity":{"example.test/device":null},"allocatable":{"example.test/device":null}}}'"#;

pub const ROWS: &[Row] = &[
    Row {
        values: "gateway: {workspaceNamespace: others, createWorkspaceNamespace: false}",
        mend: Printed(
            r#"for name in workspace-operator workspace-gateway; do
  kubectl get role "$name" -n workspaces -o json | sed 's/"namespace": "workspaces"/"namespace": "others"/; /"resourceNames"/,/]/s/"workspaces"/"others"/; /resourceVersion\|uid/d' | kubectl apply -f - >/dev/null
  kubectl create rolebinding "$name" -n others --role="$name" --serviceaccount="workspace-operator-system:$name" >/dev/null
done"#,
        ),
        undo: "kubectl delete role,rolebinding -n others --all >/dev/null; kubectl delete namespace others --wait=false >/dev/null",
        ..row("a namespace that nobody makes", "DP0401", "")
    },
    row(
        "a namespace that admits anything",
        "DP0402",
        "kubectl label --overwrite namespace workspaces pod-security.kubernetes.io/enforce=privileged >/dev/null",
    ),
    row(
        "a release's namespace that admits anything",
        "DP0415",
        "kubectl label namespace workspace-operator-system pod-security.kubernetes.io/enforce- >/dev/null",
    ),
    Row {
        undo: "kubectl annotate --overwrite storageclass standard storageclass.kubernetes.io/is-default-class=true >/dev/null",
        ..row(
            "no default StorageClass",
            "DP0403",
            "kubectl annotate --overwrite storageclass standard storageclass.kubernetes.io/is-default-class=false >/dev/null",
        )
    },
    with_values(
        "a StorageClass that is not there",
        "DP0403",
        "workspace: {storageClass: gone}",
    ),
    row(
        "volumes that can't grow",
        "DP0404",
        "kubectl patch storageclass standard -p '{\"allowVolumeExpansion\":false}' >/dev/null",
    ),
    Row {
        values: "workspace: {storageClass: immediate}",
        undo: "kubectl delete storageclass immediate >/dev/null; kubectl label node node-a node-b topology.kubernetes.io/zone- >/dev/null",
        ..row(
            "volumes in the wrong zone",
            "DP0405",
            r"kubectl label node node-a topology.kubernetes.io/zone=a >/dev/null; kubectl label node node-b topology.kubernetes.io/zone=b >/dev/null
kubectl apply -f - >/dev/null <<'END'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: immediate}
provisioner: example.test/disk
allowVolumeExpansion: true
END",
        )
    },
    Row {
        undo: "kubectl delete resourcequota tight -n workspaces >/dev/null",
        ..row(
            "a quota of nothing",
            "DP0407",
            "kubectl create quota tight -n workspaces --hard=pods=0,requests.cpu=1 >/dev/null",
        )
    },
    Row {
        undo: "kubectl delete resourcequota policed -n workspaces >/dev/null",
        ..row(
            "a quota without Secrets and policies, and of the default StorageClass",
            "DP0407",
            r"kubectl create quota policed -n workspaces --hard=count/secrets=0,count/networkpolicies.networking.k8s.io=2,count/roles.rbac.authorization.k8s.io=0,standard.storageclass.storage.k8s.io/requests.storage=1Gi >/dev/null",
        )
    },
    Row {
        undo: "kubectl delete resourcequota lasting -n workspaces >/dev/null",
        ..row(
            "a quota of what has no deadline",
            "DP0407",
            "kubectl create quota lasting -n workspaces --hard=pods=0 --scopes=NotTerminating >/dev/null",
        )
    },
    Row {
        values: "workspace: {quota: {limits.memory: 1Gi}}",
        ..row(
            "a quota of the values that is too small",
            "DP0407",
            r"kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: ResourceQuota
metadata:
  name: workspaces
  namespace: workspaces
  labels: {app.kubernetes.io/part-of: devplane, app.kubernetes.io/managed-by: Helm}
  annotations: {meta.helm.sh/release-name: devplane, meta.helm.sh/release-namespace: workspace-operator-system}
spec: {hard: {limits.memory: 1Gi}}
END",
        )
    },
    Row {
        undo: "kubectl delete limitrange small -n workspaces >/dev/null",
        ..row(
            "limits below a workspace",
            "DP0408",
            r"kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: LimitRange
metadata: {name: small, namespace: workspaces}
spec: {limits: [{type: Container, max: {cpu: '1'}}, {type: PersistentVolumeClaim, max: {storage: 1Gi}}]}
END",
        )
    },
    Row {
        undo: r#"for node in node-a node-b; do status "node/$node" '{"status":{"allocatable":{"cpu":"8"}}}'; done"#,
        ..row(
            "nodes that are too small",
            "DP0409",
            r#"for node in node-a node-b; do status "node/$node" '{"status":{"allocatable":{"cpu":"1"}}}'; done"#,
        )
    },
    Row {
        undo: "kubectl uncordon node-a node-b >/dev/null",
        ..row(
            "nodes that take nothing",
            "DP0409",
            "kubectl cordon node-a node-b >/dev/null",
        )
    },
    Row {
        values: "workspace: {pod: {nodeSelector: {pool: dev}}}",
        undo: "kubectl label node node-a node-b pool- >/dev/null",
        ..row("a pool without nodes", "DP0409", "")
    },
    Row {
        values: "workspace: {pod: {extendedResources: {example.test/device: 2}}}",
        mend: Script(TWO_DEVICES),
        undo: NO_DEVICES,
        ..row("a device that no node offers", "DP0409", "")
    },
    Row {
        values: "workspace: {classes: [{name: a}, {name: b, pod: {extendedResources: {example.test/device: 2}}}]}",
        mend: Script(TWO_DEVICES),
        undo: NO_DEVICES,
        ..row("a device that a class asks for and no node offers", "DP0416", "")
    },
    Row {
        mend: Script("kubectl taint nodes --all dedicated- >/dev/null"),
        ..row(
            "nodes for others",
            "DP0409",
            "kubectl taint nodes --all dedicated=others:NoSchedule >/dev/null",
        )
    },
    Row {
        mend: Script("kubectl delete pod -n default hog-a hog-b --force --grace-period=0 >/dev/null 2>&1"),
        ..row(
            "nodes that are full",
            "DP0409",
            r#"for node in a b; do kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: {name: hog-$node, namespace: default}
spec:
  nodeName: node-$node
  containers: [{name: hog, image: "registry.example.test/hog:1", resources: {requests: {cpu: "7800m", memory: 32600Mi}}}]
END
done"#,
        )
    },
    Row {
        values: "workspace: {pod: {runtimeClassName: gvisor}}",
        mend: Script(
            "printf 'apiVersion: node.k8s.io/v1\\nkind: RuntimeClass\\nmetadata: {name: gvisor}\\nhandler: runsc\\n' | kubectl apply -f - >/dev/null",
        ),
        undo: "kubectl delete runtimeclass gvisor >/dev/null",
        ..row("a runtime class that is not there", "DP0410", "")
    },
    Row {
        undo: "kubectl delete priorityclass terminals >/dev/null",
        ..with_values(
            "a priority class that is not there",
            "DP0411",
            "workspace: {pod: {priorityClassName: terminals}}",
        )
    },
    Row {
        values: "imagePullSecrets: [{name: registry}]\nworkspace: {pod: {imagePullSecrets: [registry]}}",
        undo: "kubectl delete secret registry -n workspace-operator-system >/dev/null; kubectl delete secret registry -n workspaces >/dev/null",
        ..row(
            "a pull secret in one namespace alone",
            "DP0412",
            "kubectl create secret docker-registry registry -n workspace-operator-system --docker-server=registry.example.test --docker-username=u --docker-password=planted-secret >/dev/null",
        )
    },
    Row {
        values: "imagePullSecrets: [{name: registry}]",
        mend: Script(
            "kubectl delete secret registry -n workspace-operator-system >/dev/null\nkubectl create secret docker-registry registry -n workspace-operator-system --docker-server=registry.example.test --docker-username=u --docker-password=p >/dev/null",
        ),
        undo: "kubectl delete secret registry -n workspace-operator-system >/dev/null",
        ..row(
            "a pull secret of the wrong type",
            "DP0412",
            "kubectl create secret generic registry -n workspace-operator-system --from-literal=password=planted-secret >/dev/null",
        )
    },
    Row {
        values: "customCA: {configMap: {name: site-ca}}",
        undo: "kubectl delete configmap site-ca -n workspace-operator-system >/dev/null; kubectl delete configmap site-ca -n workspaces >/dev/null",
        ..row(
            "authorities in one namespace alone",
            "DP0413",
            "kubectl create configmap site-ca -n workspace-operator-system --from-literal=ca.crt='-----BEGIN CERTIFICATE-----' >/dev/null",
        )
    },
    Row {
        values: "gateway: {tls: {customCABundle: {configMapName: site-ca}}}",
        mend: Script(
            "kubectl patch configmap site-ca -n workspace-operator-system --type merge -p '{\"data\":{\"ca.crt\":\"-----BEGIN CERTIFICATE-----\"}}' >/dev/null",
        ),
        undo: "kubectl delete configmap site-ca -n workspace-operator-system >/dev/null",
        ..row(
            "authorities under another key",
            "DP0413",
            "kubectl create configmap site-ca -n workspace-operator-system --from-literal=bundle.pem=x >/dev/null",
        )
    },
    Row {
        values: "gateway: {oidc: {existingSecret: provider}}",
        mend: Script(
            "kubectl patch secret provider -n workspace-operator-system -p '{\"stringData\":{\"redirect-url\":\"https://devplane.example.test/callback\"}}' >/dev/null",
        ),
        undo: "kubectl delete secret provider -n workspace-operator-system >/dev/null",
        ..row(
            "a client's Secret without its redirect URL",
            "DP0414",
            "kubectl create secret generic provider -n workspace-operator-system --from-literal=issuer-url=https://idp.example.test --from-literal=client-id=a --from-literal=client-secret=planted-secret >/dev/null",
        )
    },
    Row {
        values: "gateway: {tls: {secretName: certificate}}",
        mend: Script(
            "kubectl create secret generic certificate -n workspace-operator-system --from-literal=tls.crt=x --from-literal=tls.key=planted-secret >/dev/null",
        ),
        undo: "kubectl delete secret certificate -n workspace-operator-system >/dev/null",
        ..row("a certificate that is not there", "DP0414", "")
    },
];
