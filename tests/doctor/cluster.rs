//! Faults of the cluster itself.

use crate::site::Mend::{Printed, Script, Values};
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

/// As a run leaves it that is killed, or one that goes on.
pub const LEFT_BY_ANOTHER_RUN: &str = r"
kubectl create secret generic devplane-doctor-left -n workspaces >/dev/null
kubectl label secret devplane-doctor-left -n workspaces workspace.devplane.io/doctor-probe=another >/dev/null
";

pub const IS_THERE: &str = "kubectl get secret devplane-doctor-left -n workspaces >/dev/null";

pub const IS_REMOVED: &str = "! kubectl get secret devplane-doctor-left -n workspaces 2>/dev/null";

pub const NO_VOLUMES: &str = "kubectl create quota no-volumes -n workspaces --hard=persistentvolumeclaims=0 >/dev/null";

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

const WITHOUT_CILIUM: &str = "kubectl delete crd ciliumnetworkpolicies.cilium.io >/dev/null";

const MAKE_KEYS: &str = r#"kubectl create secret generic workspace-gateway-session-keys -n workspace-operator-system --from-literal=keys="$(head -c 64 /dev/zero | base64 -w0)" >/dev/null"#;

const LEADER_AGAIN: &str = r#"kubectl patch lease workspace-operator -n workspace-operator-system --type merge -p '{"spec":{"holderIdentity":"workspace-operator-leader"}}' >/dev/null"#;

/// Pods of the gateway as nodes tell of them, of which none runs.
const TWO_KINDS: &str = r#"
for name in a b; do
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: {name: gateway-$name, namespace: workspace-operator-system, labels: {app: workspace-gateway, pod-template-hash: x}}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: gateway
    image: registry.example.test/devplane:2
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
END
  status "pod/gateway-$name" '{"status":{"containerStatuses":[{"name":"gateway","ready":true,"restartCount":0,"image":"i","imageID":"registry.example.test/devplane@sha256:'$name'"}]}}' merge workspace-operator-system
done"#;

const ONE_KIND: &str = r#"status pod/gateway-b '{"status":{"containerStatuses":[{"name":"gateway","ready":true,"restartCount":0,"image":"i","imageID":"registry.example.test/devplane@sha256:a"}]}}' merge workspace-operator-system"#;

pub const ROWS: &[Row] = &[
    Row {
        values: "workspace: {idleTimeout: soon}",
        mend: Values("workspace: {idleTimeout: 30m}"),
        ..row("a setting that is none", "DP0101", "")
    },
    row(
        "no definition",
        "DP0202",
        "kubectl delete crd workspaces.workspace.devplane.io >/dev/null",
    ),
    row(
        "a definition of before",
        "DP0202",
        r#"kubectl patch crd workspaces.workspace.devplane.io --type json -p '[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/suspended"}]' >/dev/null"#,
    ),
    row(
        "an operator without its binding",
        "DP0302",
        "kubectl delete rolebinding workspace-operator -n workspaces >/dev/null",
    ),
    Row {
        mend: Script("kubectl replace -f ~/role.json >/dev/null"),

        ..row(
            "an operator whose Role was narrowed",
            "DP0302",
            r#"kubectl get role workspace-operator -n workspaces -o json | sed '/"resourceVersion"\|"uid"/d' > ~/role.json
kubectl patch role workspace-operator -n workspaces --type json -p '[{"op":"remove","path":"/rules/2"}]' >/dev/null"#,
        )
    },
    row(
        "a gateway without its binding",
        "DP0303",
        "kubectl delete rolebinding workspace-gateway -n workspace-operator-system >/dev/null",
    ),
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
        mend: Script("kubectl delete crd others.workspace.devplane.io >/dev/null"),
        ..row(
            "a definition whose names another one has",
            "DP0204",
            r#"kubectl get crd workspaces.workspace.devplane.io -o json | sed '/"resourceVersion"\|"uid"/d' > ~/definition.json
kubectl delete crd workspaces.workspace.devplane.io >/dev/null
kubectl apply -f - >/dev/null <<'END'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: others.workspace.devplane.io}
spec:
  group: workspace.devplane.io
  scope: Namespaced
  names: {plural: others, singular: other, kind: Workspace, listKind: WorkspaceList}
  versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
END
until kubectl get others.workspace.devplane.io -A >/dev/null 2>&1; do sleep 0.2; done
kubectl create -f ~/definition.json >/dev/null
kubectl wait --for=condition=NamesAccepted=False crd/workspaces.workspace.devplane.io --timeout=30s >/dev/null"#,
        )
    },
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
    Row {
        undo: "kubectl label --overwrite pod coredns-0 -n kube-system k8s-app=kube-dns >/dev/null",
        ..row(
            "DNS pods with another label",
            "DP0801",
            "kubectl label --overwrite pod coredns-0 -n kube-system k8s-app=coredns >/dev/null",
        )
    },
    with_values("another port of DNS pods", "DP0801", "workspace: {dns: {port: 5353}}"),
    Row {
        mend: Script(
            r#"status pod/coredns-0 '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}' merge kube-system"#,
        ),
        ..row(
            "DNS pods that are not ready",
            "DP0801",
            r#"status pod/coredns-0 '{"status":{"conditions":[{"type":"Ready","status":"False"}]}}' merge kube-system"#,
        )
    },
    with_values("another domain", "DP0802", "clusterDomain: corp.internal"),
    with_values(
        "ranges that lack the pods'",
        "DP0803",
        "clusterCIDRs: [10.96.0.0/16, 192.168.7.0/24]",
    ),
    Row {
        values: "clusterCIDRs: []",
        mend: Script("kubectl delete node node-c >/dev/null"),
        ..row(
            "a node that hides its pods' range",
            "DP0803",
            "upgrade ~/values.yaml ~/fault.yaml; printf 'apiVersion: v1\\nkind: Node\\nmetadata: {name: node-c}\\nspec: {unschedulable: true}\\n' | kubectl apply -f - >/dev/null; status node/node-c '{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}'",
        )
    },
    with_values(
        "ranges that lack nodes and the API server",
        "DP0803",
        "clusterCIDRs: [10.244.0.0/16, 10.96.0.0/16, 192.168.7.128/25]",
    ),
    Row {
        mend: Script("kubectl delete pod elsewhere -n default --force --grace-period=0 >/dev/null 2>&1"),
        ..row(
            "a pod with an address of elsewhere",
            "DP0803",
            r#"printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: elsewhere, namespace: default}\nspec: {containers: [{name: a, image: registry.example.test/a:1}]}\n' | kubectl apply -f - >/dev/null
status pod/elsewhere '{"status":{"phase":"Running","podIPs":[{"ip":"10.50.3.4"}]}}' merge default"#,
        )
    },
    Row {
        undo: "kubectl delete pod node-local-dns-0 -n kube-system --force --grace-period=0 >/dev/null 2>&1",
        ..row(
            "a DNS cache that nobody may ask",
            "DP0804",
            r#"kubectl apply -f - >/dev/null <<'END'
apiVersion: v1
kind: Pod
metadata: {name: node-local-dns-0, namespace: kube-system, labels: {k8s-app: node-local-dns}}
spec: {containers: [{name: cache, image: "registry.example.test/cache:1", args: [-localip, "169.254.20.10,10.96.0.10", -conf, /etc/Corefile]}]}
END"#,
        )
    },
    Row {
        mend: Script("kubectl create -f ~/plugin.json >/dev/null"),
        ..row(
            "nobody who enforces policies",
            "DP0805",
            r#"kubectl get daemonset calico-node -n kube-system -o json | sed '/resourceVersion\|"uid"/d' > ~/plugin.json
kubectl delete daemonset calico-node -n kube-system >/dev/null"#,
        )
    },
    with_values_that_are_installed(
        "a kind of policies that the cluster does not know",
        "DP0811",
        "workspace: {networkPolicyBackend: cilium}",
    ),
    Row {
        // What is others' is still there after the printed command.
        mend: Printed("kubectl get ciliumnetworkpolicy.cilium.io others -n workspaces >/dev/null"),
        undo: WITHOUT_CILIUM,
        ..row(
            "what another backend of policies has left",
            "DP0811",
            r#"with_cilium
for name in alice-workspace-egress others; do kubectl apply -f - >/dev/null <<END
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: $name
  namespace: workspaces
  labels: {app: workspace, managed-by: devplane}
  ownerReferences: [{apiVersion: workspace.devplane.io/v1alpha1, kind: Workspace, name: alice, uid: b1946ac9-0000-4000-8000-000000000000, controller: true}]
spec: {endpointSelector: {matchLabels: {"k8s:app": workspace}}, egress: [{toEntities: [world]}]}
END
done"#,
        )
    },
    Row {
        values: "workspace: {networkPolicyBackend: cilium}",
        mend: Script(
            r#"kubectl get daemonset calico-node -n kube-system -o json | sed '/resourceVersion\|"uid"/d; s/calico-node/cilium/' | kubectl create -f - >/dev/null"#,
        ),
        undo: "kubectl delete daemonset cilium -n kube-system >/dev/null; kubectl delete crd ciliumnetworkpolicies.cilium.io >/dev/null",
        ..row(
            "a kind of policies that nobody keeps to",
            "DP0812",
            "with_cilium; upgrade ~/values.yaml ~/fault.yaml",
        )
    },
    Row {
        mend: Script("kubectl delete workspace alice -n workspaces >/dev/null"),
        undo: WITHOUT_CILIUM,
        ..row(
            "names that are asked for and left out",
            "DP0812",
            r#"with_cilium
kubectl apply -f - >/dev/null <<'END'
apiVersion: workspace.devplane.io/v1alpha1
kind: Workspace
metadata: {name: alice, namespace: workspaces}
spec: {user: {id: alice, email: alice@example.test}, aiConfig: {egressFQDNs: [git.corp.example]}}
END"#,
        )
    },
    Row {
        mend: Script(
            r#"kubectl patch daemonset aws-node -n kube-system --type json -p '[{"op":"add","path":"/spec/template/spec/containers/0/args","value":["--enable-network-policy=true"]}]' >/dev/null"#,
        ),
        undo: "kubectl create -f ~/plugin.json >/dev/null; kubectl delete daemonset aws-node -n kube-system >/dev/null",
        ..row(
            "Amazon's plug-in without its agent for policies",
            "DP0805",
            r#"kubectl get daemonset calico-node -n kube-system -o json | sed '/resourceVersion\|"uid"/d' > ~/plugin.json
sed 's/calico-node/aws-node/' ~/plugin.json | kubectl create -f - >/dev/null
kubectl delete daemonset calico-node -n kube-system >/dev/null"#,
        )
    },
    row(
        "an operator scaled to nothing",
        "DP1101",
        "kubectl scale deployment workspace-operator -n workspace-operator-system --replicas=0 >/dev/null",
    ),
    Row {
        mend: Script(
            "status deployment/workspace-operator '{\"status\":{\"readyReplicas\":1}}' merge workspace-operator-system",
        ),
        ..row(
            "an operator that does not get ready",
            "DP1101",
            "status deployment/workspace-operator '{\"status\":{\"readyReplicas\":0,\"availableReplicas\":0}}' merge workspace-operator-system",
        )
    },
    row("an operator that has stopped leading", "DP1102", ""),
    Row {
        mend: Printed(LEADER_AGAIN),
        ..row(
            "a leader that is gone",
            "DP1102",
            "kubectl patch lease workspace-operator -n workspace-operator-system --type merge -p '{\"spec\":{\"holderIdentity\":\"workspace-operator-gone\"}}' >/dev/null",
        )
    },
    Row {
        mend: Printed(ONE_KIND),
        undo: "kubectl delete pod -n workspace-operator-system gateway-a gateway-b --force --grace-period=0 >/dev/null 2>&1",
        ..row("gateways of two images under one name", "DP1103", TWO_KINDS)
    },
    Row {
        mend: Script(
            "status deployment/workspace-gateway '{\"status\":{\"updatedReplicas\":2}}' merge workspace-operator-system",
        ),
        ..row(
            "gateways of two kinds",
            "DP1103",
            "status deployment/workspace-gateway '{\"status\":{\"updatedReplicas\":1}}' merge workspace-operator-system",
        )
    },
    row(
        "a gateway that is held up",
        "DP1103",
        "kubectl rollout pause deployment workspace-gateway -n workspace-operator-system >/dev/null",
    ),
    Row {
        mend: Printed(MAKE_KEYS),
        ..row(
            "no session keys",
            "DP1104",
            "kubectl delete secret workspace-gateway-session-keys -n workspace-operator-system >/dev/null",
        )
    },
    Row {
        mend: Printed(MAKE_KEYS),
        ..row(
            "session keys that are none",
            "DP1104",
            "kubectl patch secret workspace-gateway-session-keys -n workspace-operator-system -p '{\"stringData\":{\"keys\":\"planted-secret\"}}' >/dev/null",
        )
    },
    Row {
        mend: Script("kubectl delete workspace alice -n workspaces >/dev/null"),
        ..row(
            "a workspace that has failed",
            "DP1105",
            r#"kubectl apply -f - >/dev/null <<'END'
apiVersion: workspace.devplane.io/v1alpha1
kind: Workspace
metadata: {name: alice, namespace: workspaces}
spec: {user: {id: alice, email: alice@example.test}}
END
status workspace/alice '{"status":{"phase":"Failed","message":"the image is not there","remediationHint":"Check the image."}}' merge workspaces"#,
        )
    },
    // The operator's port is one that the chart lets nobody reach unless it is told to: that nobody answers there is no fault.
    Row {
        // Both pods have the one address that is there.
        mend: Script("delete_pods workspace-operator-0; serve devplane_gateway_up"),
        undo: "stop_serving; delete_pods workspace-gateway-0",
        ..row(
            "a gateway without metrics",
            "DP1107",
            "running_pod workspace-operator; running_pod workspace-gateway",
        )
    },
    Row {
        values: "networkPolicy: {enabled: false}",
        mend: Script("serve devplane_operator_leader"),
        undo: "stop_serving; delete_pods workspace-operator-0",
        ..row(
            "an operator whose metrics are another's",
            "DP1106",
            "running_pod workspace-operator; serve other_total; upgrade ~/values.yaml ~/fault.yaml",
        )
    },
];
