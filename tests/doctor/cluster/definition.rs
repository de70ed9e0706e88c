//! Faults of the settings, of the definition of Workspaces, and of rights.

use super::row;
use crate::site::Mend::{Script, Values};
use crate::site::Row;

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
];
