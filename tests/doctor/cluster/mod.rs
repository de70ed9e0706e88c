//! Faults of the cluster itself, by subject.

mod definition;
mod health;
mod network;
mod room;

use crate::site::Mend::Printed;
use crate::site::Row;

/// Values that nothing is wrong with.
pub const VALUES: &str = r"
image: registry.example.test/devplane:2
clusterCIDRs: [10.244.0.0/16, 10.96.0.0/16, 192.168.7.0/24]
gateway:
  oidc: {issuerURL: https://idp.example.test, clientID: devplane, clientSecret: planted-secret, redirectURL: https://devplane.example.test/callback}
workspace:
  image: registry.example.test/devplane-workspace:2
";

/// A cluster that nothing is wrong with: nodes, storage, DNS, a network plugin, and the keys that a gateway has made.
pub const HEALTHY: &str = r#"
kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {kubernetes.io/hostname: node-a}}
spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24]}
---
apiVersion: v1
kind: Node
metadata: {name: node-b, labels: {kubernetes.io/hostname: node-b}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: example.test/disk
allowVolumeExpansion: true
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data: {Corefile: ".:53 {\n  kubernetes cluster.local in-addr.arpa ip6.arpa {\n  }\n}\n"}
---
apiVersion: v1
kind: Pod
metadata: {name: coredns-0, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  nodeName: node-a
  containers:
  - name: coredns
    image: registry.example.test/coredns:1
    ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: metrics, containerPort: 9153}]
    resources: {requests: {cpu: 100m, memory: 70Mi}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [192.168.7.2]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: calico-node, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: calico-node}}
  template:
    metadata: {labels: {k8s-app: calico-node}}
    spec: {containers: [{name: calico-node, image: "registry.example.test/calico:1"}]}
END
for node in node-a node-b; do
  status "node/$node" '{"status":{"conditions":[{"type":"Ready","status":"True"}],"allocatable":{"cpu":"8","memory":"32Gi","pods":"110"},"addresses":[{"type":"InternalIP","address":"192.168.7.2"}]}}'
  kubectl patch node "$node" --type merge -p '{"spec":{"taints":null}}' >/dev/null
done
status pod/coredns-0 '{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}' merge kube-system
kubectl create secret generic workspace-gateway-session-keys -n workspace-operator-system --from-literal=keys="$(head -c 64 /dev/zero | base64 -w0)" >/dev/null
kubectl label namespace workspace-operator-system pod-security.kubernetes.io/enforce=restricted >/dev/null
"#;

/// A driver of a class that keeps its volumes: it makes one for the trial claim, once that has a pod, which the namespace lets in under `restricted`.
pub const KEEPING_DRIVER: &str = r#"
label=workspace.devplane.io/doctor-probe
for _ in $(seq 100); do
  pod=$(kubectl get pod -n workspaces -l $label -o name)
  [ -z "$pod" ] || break
  sleep 0.2
done
[ "$(kubectl get namespace workspaces -o 'jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}')" = restricted ]
set -- $(kubectl get pvc "${pod#pod/}" -n workspaces -o 'jsonpath={.metadata.name} {.metadata.uid}')
kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: trial}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: standard
  csi: {driver: example.test, volumeHandle: trial}
  claimRef: {kind: PersistentVolumeClaim, namespace: workspaces, name: $1, uid: $2}
END
kubectl patch pvc "$1" -n workspaces --type merge -p '{"spec":{"volumeName":"trial"}}' >/dev/null
status "pvc/$1" '{"status":{"phase":"Bound"}}' merge workspaces
"#;

/// The volume goes with the trial's claim, which is gone but for what keeps it until no pod uses it.
pub const IS_LET_GO: &str = r#"
[ "$(kubectl get pv trial -o 'jsonpath={.spec.persistentVolumeReclaimPolicy}')" = Delete ]
for claim in $(kubectl get pvc -n workspaces -l workspace.devplane.io/doctor-probe -o name); do
  [ -n "$(kubectl get "$claim" -n workspaces -o 'jsonpath={.metadata.deletionTimestamp}')" ]
  kubectl patch "$claim" -n workspaces --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null
done
kubectl patch pv trial --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null
kubectl delete pv trial >/dev/null
"#;

/// Limits that a workspace keeps to, and that a pod which does little would not.
pub const LIMITS_FROM_BELOW: &str = r"
kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: LimitRange
metadata: {name: below, namespace: workspaces}
spec: {limits: [{type: Container, min: {cpu: 500m, memory: 1Gi}}]}
END
";

/// A volume that was there before, with somebody's files: it waits for whoever claims one.
pub const KEPT_VOLUME: &str = r#"
kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: kept}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: standard
  csi: {driver: example.test, volumeHandle: kept}
END
# The API server's times are in seconds.
sleep 1.1
"#;

/// What binds the trial claim to it, once that has a pod.
pub const BINDER: &str = r#"
for _ in $(seq 100); do
  pod=$(kubectl get pod -n workspaces -l workspace.devplane.io/doctor-probe -o name)
  [ -z "$pod" ] || break
  sleep 0.2
done
kubectl patch pvc "${pod#pod/}" -n workspaces --type merge -p '{"spec":{"volumeName":"kept"}}' >/dev/null
status "pvc/${pod#pod/}" '{"status":{"phase":"Bound"}}' merge workspaces
"#;

pub const IS_KEPT: &str = r#"
[ "$(kubectl get pv kept -o 'jsonpath={.spec.persistentVolumeReclaimPolicy}')" = Retain ]
for claim in $(kubectl get pvc -n workspaces -l workspace.devplane.io/doctor-probe -o name); do
  kubectl patch "$claim" -n workspaces --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null
done
kubectl patch pv kept --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null
kubectl delete pv kept >/dev/null
"#;

/// Before the installation: there is something to copy, and no namespace yet to copy it to.
pub const AUTHORITIES: &str = "kubectl create configmap site-ca -n workspace-operator-system --from-literal=ca.crt='-----BEGIN CERTIFICATE-----' >/dev/null";
pub const NEW_NAMESPACE: &str = "gateway: {workspaceNamespace: yet-to-come}\ncustomCA: {configMap: {name: site-ca}}";
pub const NO_AUTHORITIES: &str = "kubectl delete configmap site-ca -n workspace-operator-system >/dev/null";

/// As a run leaves it that is killed, or one that goes on.
pub const LEFT_BY_ANOTHER_RUN: &str = r"
kubectl create secret generic devplane-doctor-left -n workspaces >/dev/null
kubectl label secret devplane-doctor-left -n workspaces workspace.devplane.io/doctor-probe=another >/dev/null
";

pub const IS_THERE: &str = "kubectl get secret devplane-doctor-left -n workspaces >/dev/null";

pub const IS_REMOVED: &str = "! kubectl get secret devplane-doctor-left -n workspaces 2>/dev/null";

pub const NO_ROOM: &str = "kubectl create quota no-volumes -n workspaces --hard=persistentvolumeclaims=0 >/dev/null";

pub const ROOM: &str = "kubectl delete quota no-volumes -n workspaces >/dev/null";

/// A policy of somebody else's that takes a workspace's volume, and not the trial's.
pub const NO_TRIAL: &str = r#"
kubectl apply -f - >/dev/null <<'END'
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-trial}
spec:
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [persistentvolumeclaims]}]}
  validations: [{expression: "!('workspace.devplane.io/doctor-probe' in object.metadata.?labels.orValue({}))"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-trial}
spec: {policyName: no-trial, validationActions: [Deny]}
END
claim='{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"tried","namespace":"workspaces","labels":{"workspace.devplane.io/doctor-probe":"x"}},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1"}}}}'
for _ in $(seq 150); do
  kubectl create --dry-run=server -f - <<<"$claim" >/dev/null 2>&1 || break
  sleep 0.2
done
"#;

pub const TRIAL: &str = "kubectl delete validatingadmissionpolicybinding,validatingadmissionpolicy no-trial >/dev/null";

const fn row(name: &'static str, code: &'static str, fault: &'static str) -> Row {
    Row {
        name,
        code,
        fault,
        values: "",
        mend: Printed(""),
        undo: "",
    }
}

const fn with_values(name: &'static str, code: &'static str, values: &'static str) -> Row {
    Row {
        values,
        ..row(name, code, "")
    }
}

const fn with_values_that_are_installed(name: &'static str, code: &'static str, values: &'static str) -> Row {
    Row {
        values,
        ..row(name, code, "upgrade ~/values.yaml ~/fault.yaml")
    }
}

pub fn rows() -> impl Iterator<Item = &'static Row> {
    [definition::ROWS, room::ROWS, network::ROWS, health::ROWS]
        .into_iter()
        .flatten()
}
