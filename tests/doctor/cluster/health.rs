//! Faults of what is installed.

use super::row;
use crate::site::Mend::{Printed, Script};
use crate::site::Row;

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
