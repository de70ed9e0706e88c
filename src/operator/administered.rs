//! A Workspace that somebody changed becomes audit lines of what an administrator may do there: suspend, resume, restart, delete it,
//! and revoke sessions.
//!
//! Who did it stands in `managedFields`, under the name that they gave themselves; the API server's own audit log knows who that was.
//! A Workspace that is seen for the first time is compared with what its status says was acted upon, so that what was done while no
//! operator had the Lease is told too. Only of revoked sessions the status keeps nothing.

use super::requests::{self, Requests};
use crate::api::status::ConditionType;
use crate::api::{Reason, Workspace};
use crate::audit::{self, Action, Event, Target};
use crate::cluster::lean::{Lean, ManagedFields};
use crate::labels::{RESTART_REQUESTED_AT, REVOKED_SESSION, SESSIONS_REVOKED_BEFORE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::runtime::watcher;
use std::collections::{BTreeSet, HashMap};

/// What is known of all Workspaces, by uid.
#[derive(Default)]
pub struct Administered {
    known: HashMap<String, Known>,
}

/// What an administrator may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    suspended: bool,
    deleted: bool,
    restart: Option<String>,
    revoked_before: Option<String>,
    /// The ids of sessions.
    revoked: BTreeSet<String>,
}

/// Something that was done.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    action: Action,
    session: Option<String>,
    manager: Option<String>,
}

impl Known {
    fn of(workspace: &Workspace) -> Self {
        let annotations = workspace.annotations();
        let revoked = annotations.keys().filter_map(|key| key.strip_prefix(REVOKED_SESSION));
        Self {
            suspended: workspace.spec.suspended,
            deleted: workspace.metadata.deletion_timestamp.is_some(),
            restart: annotations.get(RESTART_REQUESTED_AT).cloned(),
            revoked_before: annotations.get(SESSIONS_REVOKED_BEFORE).cloned(),
            revoked: revoked.map(str::to_owned).collect(),
        }
    }

    /// What an operator has acted upon, by the status that it left; nothing of a Workspace that none has seen.
    fn acted_upon(workspace: &Workspace) -> Option<Self> {
        let status = workspace.status.as_ref()?;
        let now = Self::of(workspace);
        let is_suspended = || {
            let ready = status.condition(ConditionType::Ready);
            ready.is_some_and(|ready| ready.reason == Reason::Suspended.as_str())
        };
        let restarted_at = status.restarted_at.as_ref().map(|at| at.0);
        Some(Self {
            suspended: if status.observed_generation == workspace.metadata.generation {
                now.suspended
            } else {
                is_suspended()
            },
            deleted: false,
            restart: now
                .restart
                .filter(|_| Requests::of(workspace).restart_requested_at <= restarted_at),
            ..now
        })
    }
}

impl Administered {
    /// Is shown what the watch tells, with the `managedFields` of every Workspace.
    pub fn watch(&mut self, event: &watcher::Event<Lean<Workspace>>) {
        let lean = match event {
            watcher::Event::Apply(lean) | watcher::Event::InitApply(lean) => lean,
            watcher::Event::Delete(lean) => {
                self.known.remove(&lean.uid().unwrap_or_default());
                return;
            }
            watcher::Event::Init | watcher::Event::InitDone => return,
        };
        let Ok(workspace) = &lean.object else { return };
        for Done {
            action,
            session,
            manager,
        } in self.done(workspace, &lean.managed_fields)
        {
            let is_restart = action == Action::Restart;
            audit::emit(&Event::Administered {
                target: Target {
                    namespace: &workspace.namespace().unwrap_or_default(),
                    workspace: &workspace.name_any(),
                },
                user_id: &workspace.spec.user.id,
                request_id: if is_restart {
                    requests::request_id(workspace)
                } else {
                    ""
                },
                action,
                field_manager: manager.as_deref(),
                session: session.as_deref(),
            });
        }
    }

    fn done(&mut self, workspace: &Workspace, fields: &ManagedFields) -> Vec<Done> {
        let now = Known::of(workspace);
        let before = self.known.insert(workspace.uid().unwrap_or_default(), now.clone());
        match before.or_else(|| Known::acted_upon(workspace)) {
            Some(before) if before != now => changes(&before, &now, &fields.entries()),
            _ => vec![],
        }
    }
}

fn changes(before: &Known, now: &Known, fields: &[ManagedFieldsEntry]) -> Vec<Done> {
    let done = |action, session, path: Option<[&str; 3]>| Done {
        action,
        session,
        manager: path.and_then(|path| manager(fields, path)),
    };
    let annotation = |key: &str| format!("f:{key}");
    let mut all = vec![];
    if now.suspended != before.suspended {
        let action = if now.suspended { Action::Suspend } else { Action::Resume };
        all.push(done(action, None, Some(["f:spec", "f:suspended", ""])));
    }
    if now.deleted && !before.deleted {
        // Whoever deletes owns no field.
        all.push(done(Action::Delete, None, None));
    }
    let annotated = |key: &str, action, session| {
        let key = annotation(key);
        done(action, session, Some(["f:metadata", "f:annotations", &key]))
    };
    if now.restart.is_some() && now.restart != before.restart {
        all.push(annotated(RESTART_REQUESTED_AT, Action::Restart, None));
    }
    if now.revoked_before.is_some() && now.revoked_before != before.revoked_before {
        all.push(annotated(SESSIONS_REVOKED_BEFORE, Action::RevokeSessions, None));
    }
    for session in now.revoked.difference(&before.revoked) {
        let key = format!("{REVOKED_SESSION}{session}");
        all.push(annotated(&key, Action::RevokeSession, Some(session.clone())));
    }
    all
}

/// Who owns a field (Kubernetes API: `FieldsV1`), the last to write it when there are several; an empty step is none.
fn manager(fields: &[ManagedFieldsEntry], path: [&str; 3]) -> Option<String> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let mut steps = path.iter().filter(|step| !step.is_empty());
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && fields.is_some_and(|fields| steps.try_fold(fields, |fields, step| fields.get(step)).is_some())
    };
    let last = fields
        .iter()
        .filter(owns)
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last?.manager.clone()
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests as given;
    use super::*;
    use serde_json::{Value, json};

    /// A version of a Workspace, with annotations and the owners of fields: manager, second, fields.
    fn workspace(suspended: bool, annotations: &[(&str, &str)], owners: &[(&str, u32, Value)]) -> Workspace {
        let mut workspace = given::workspace(given::spec());
        workspace.spec.suspended = suspended;
        workspace.metadata.uid = Some("u".to_owned());
        for (key, value) in annotations {
            workspace
                .annotations_mut()
                .insert((*key).to_owned(), (*value).to_owned());
        }
        let entry = |(manager, second, fields): &(&str, u32, Value)| {
            let time = format!("2027-01-15T08:00:{second:02}Z");
            serde_json::from_value(json!({"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields}))
        };
        workspace.metadata.managed_fields = Some(owners.iter().map(|owner| entry(owner).unwrap()).collect());
        workspace
    }

    /// As the watch tells of it.
    fn lean(workspace: &Workspace) -> Lean<Workspace> {
        serde_json::from_str(&serde_json::to_string(workspace).unwrap()).unwrap()
    }

    fn told(administered: &mut Administered, workspace: &Workspace) -> Vec<(Action, Option<String>, Option<String>)> {
        let lean = lean(workspace);
        let done = administered.done(lean.object.as_ref().unwrap(), &lean.managed_fields);
        done.into_iter()
            .map(|done| (done.action, done.session, done.manager))
            .collect()
    }

    #[test]
    fn what_was_changed_is_told_once_and_by_whom() {
        let mut administered = Administered::default();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(&mut administered, &workspace(true, &[], &[])),
            [],
            "the first look"
        );
        let owners = [
            ("kubectl-create", 1, json!({"f:spec": {"f:suspended": {}}})),
            ("kubectl-patch", 2, json!({"f:spec": {"f:suspended": {}}})),
            ("other", 3, json!({"f:spec": {"f:user": {}}})),
        ];
        let resumed = workspace(false, &[], &owners);
        assert_eq!(
            told(&mut administered, &resumed),
            [(Action::Resume, None, some("kubectl-patch"))]
        );
        assert_eq!(told(&mut administered, &resumed), []);
        let one = format!("{REVOKED_SESSION}s1");
        let key = format!("f:{one}");
        let owners = [(
            "kubectl-annotate",
            4,
            json!({"f:metadata": {"f:annotations": {key: {}}}}),
        )];
        let annotations = [
            (one.as_str(), "now"),
            (SESSIONS_REVOKED_BEFORE, "x"),
            (RESTART_REQUESTED_AT, "y"),
        ];
        assert_eq!(
            told(&mut administered, &workspace(true, &annotations, &owners)),
            [
                (Action::Suspend, None, None),
                (Action::Restart, None, None),
                (Action::RevokeSessions, None, None),
                (Action::RevokeSession, some("s1"), some("kubectl-annotate")),
            ]
        );
        // A revocation that is tidied away is nobody's doing.
        assert_eq!(told(&mut administered, &workspace(true, &annotations[1..], &[])), []);
        let mut deleted = workspace(true, &annotations[1..], &[]);
        deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2027-01-15T08:00:00Z")).unwrap());
        assert_eq!(told(&mut administered, &deleted), [(Action::Delete, None, None)]);
        assert_eq!(told(&mut administered, &deleted), []);
        administered.watch(&watcher::Event::Delete(lean(&deleted)));
        assert!(administered.known.is_empty());
    }

    #[test]
    fn what_was_done_while_no_operator_looked_is_told_when_one_does() {
        let (early, late) = ("2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z");
        // The generation that was acted upon, of two; the Ready reason; the restart that was acted upon; now suspended; what is told.
        for (observed, reason, restarted, suspended, expected) in [
            (2, "Running", late, false, vec![]),
            (2, "Progressing", late, true, vec![]),
            (1, "Running", late, false, vec![]),
            (1, "Running", late, true, vec![Action::Suspend]),
            (1, "Suspended", late, false, vec![Action::Resume]),
            (2, "Running", early, false, vec![Action::Restart]),
        ] {
            let mut workspace = workspace(suspended, &[(RESTART_REQUESTED_AT, late)], &[]);
            workspace.metadata.generation = Some(2);
            let status = json!({
                "observedGeneration": observed,
                "restartedAt": restarted,
                "conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": early}],
            });
            workspace.status = Some(serde_json::from_value(status).unwrap());
            let mut administered = Administered::default();
            let told = told(&mut administered, &workspace);
            let actions: Vec<Action> = told.into_iter().map(|(action, ..)| action).collect();
            assert_eq!(actions, expected, "{observed} {reason} {restarted}");
        }
        let mut deleted = workspace(false, &[], &[]);
        deleted.status = Some(crate::api::status::WorkspaceStatus::default());
        deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!(late)).unwrap());
        assert_eq!(
            told(&mut Administered::default(), &deleted),
            [(Action::Delete, None, None)]
        );
    }
}
