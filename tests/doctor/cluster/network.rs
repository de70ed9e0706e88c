//! Faults of names, of the network, and of what polices it.

use super::{row, with_values, with_values_that_are_installed};
use crate::site::Mend::{Printed, Script};
use crate::site::Row;

const WITHOUT_CILIUM: &str = "kubectl delete crd ciliumnetworkpolicies.cilium.io >/dev/null";

pub const ROWS: &[Row] = &[
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
];
