//! Workspaces that a watch shows become answers to "whose is it?" and "what has become of it?". Pure.

use crate::api::Workspace;
use crate::identity::Identity;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::watch;

/// A Workspace as someone follows it; `None` while there is none of its name.
pub type Followed = watch::Receiver<Option<Arc<Workspace>>>;

/// All Workspaces of the namespace, by name and by owner.
#[derive(Default)]
pub struct Index {
    by_name: HashMap<String, Arc<Workspace>>,
    by_owner: HashMap<Identity, BTreeSet<String>>,
    followers: HashMap<String, watch::Sender<Option<Arc<Workspace>>>>,
}

impl Index {
    pub fn get(&self, name: &str) -> Option<Arc<Workspace>> {
        self.by_name.get(name).cloned()
    }

    /// The Workspaces that record `owner`, whatever their names.
    pub fn owned_by(&self, owner: &Identity) -> Vec<Arc<Workspace>> {
        let names = self.by_owner.get(owner).into_iter().flatten();
        names.filter_map(|name| self.get(name)).collect()
    }

    /// The names of those whose status tells of a terminal at this gateway.
    pub fn with_session_at(&self, gateway: &str) -> Vec<String> {
        let is_there = |workspace: &&Arc<Workspace>| {
            let sessions = workspace.status.iter().flat_map(|status| &status.sessions);
            sessions.into_iter().any(|session| session.gateway == gateway)
        };
        self.by_name
            .values()
            .filter(is_there)
            .map(|workspace| workspace.name_any())
            .collect()
    }

    /// The one whose status tells of a session of the provider.
    pub fn with_provider_session(&self, session: &str) -> Option<Arc<Workspace>> {
        let has_it = |workspace: &&Arc<Workspace>| {
            let mut sign_ins = workspace.status.iter().flat_map(|status| &status.sign_ins);
            sign_ins.any(|sign_in| sign_in.provider_session == session)
        };
        self.by_name.values().find(has_it).cloned()
    }

    /// Every later change of the Workspace `name`, beginning with how it is now.
    pub fn follow(&mut self, name: &str) -> Followed {
        self.followers.retain(|_, sender| sender.receiver_count() > 0);
        let current = self.get(name);
        let sender = self.followers.entry(name.to_owned());
        sender.or_insert_with(|| watch::Sender::new(current)).subscribe()
    }

    pub fn apply(&mut self, workspace: Workspace) {
        let name = workspace.name_any();
        self.forget_owner(&name);
        if let Some(owner) = recorded_owner(&workspace) {
            self.by_owner.entry(owner).or_default().insert(name.clone());
        }
        let workspace = Arc::new(workspace);
        self.tell(&name, Some(&workspace));
        self.by_name.insert(name, workspace);
    }

    pub fn remove(&mut self, name: &str) {
        self.forget_owner(name);
        if self.by_name.remove(name).is_some() {
            self.tell(name, None);
        }
    }

    /// Takes over a whole new list, as after a broken watch.
    pub fn replace(&mut self, workspaces: Vec<Workspace>) {
        let names: BTreeSet<_> = workspaces.iter().map(ResourceExt::name_any).collect();
        let gone: Vec<_> = self
            .by_name
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.remove(&name);
        }
        for workspace in workspaces {
            self.apply(workspace);
        }
    }

    fn forget_owner(&mut self, name: &str) {
        let Some(owner) = self.by_name.get(name).and_then(|workspace| recorded_owner(workspace)) else {
            return;
        };
        if let Some(names) = self.by_owner.get_mut(&owner) {
            names.remove(name);
            if names.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }

    fn tell(&self, name: &str, workspace: Option<&Arc<Workspace>>) {
        if let Some(sender) = self.followers.get(name) {
            sender.send_replace(workspace.cloned());
        }
    }
}

/// The owner that a Workspace records; `None` for one of version 1.1 that no administrator has bound yet.
pub fn recorded_owner(workspace: &Workspace) -> Option<Identity> {
    let user = &workspace.spec.user;
    Some(Identity {
        issuer: user.issuer.clone()?,
        subject: user.subject.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkspaceSpec;

    fn owner(subject: &str) -> Identity {
        Identity {
            issuer: "https://idp.test".into(),
            subject: subject.into(),
        }
    }

    fn workspace(name: &str, subject: Option<&str>) -> Workspace {
        let mut spec = WorkspaceSpec::default();
        spec.user.issuer = subject.map(|_| "https://idp.test".into());
        spec.user.subject = subject.map(Into::into);
        Workspace::new(name, spec)
    }

    fn names(index: &Index, subject: &str) -> Vec<String> {
        index.owned_by(&owner(subject)).iter().map(|w| w.name_any()).collect()
    }

    #[test]
    fn the_recorded_owner_decides_not_the_name() {
        let mut index = Index::default();
        index.apply(workspace("a", Some("dev1")));
        index.apply(workspace("b", None));
        assert_eq!(names(&index, "dev1"), ["a"]);
        assert_eq!(names(&index, "a"), Vec::<String>::new());
        // An administrator binds the second one to the same person.
        index.apply(workspace("b", Some("dev1")));
        assert_eq!(names(&index, "dev1"), ["a", "b"]);
        index.remove("a");
        assert_eq!(names(&index, "dev1"), ["b"]);
        index.replace(vec![workspace("c", Some("dev2"))]);
        assert_eq!(names(&index, "dev1"), Vec::<String>::new());
        assert_eq!(names(&index, "dev2"), ["c"]);
        assert!(index.by_owner.len() == 1 && index.by_name.len() == 1);
    }

    #[test]
    fn followers_see_changes_and_the_end() {
        let mut index = Index::default();
        let mut followed = index.follow("a");
        assert!(followed.borrow_and_update().is_none());
        index.apply(workspace("a", Some("dev1")));
        assert!(followed.has_changed().unwrap());
        assert_eq!(followed.borrow_and_update().as_ref().unwrap().name_any(), "a");
        index.apply(workspace("b", None));
        assert!(!followed.has_changed().unwrap());
        index.replace(Vec::new());
        assert!(followed.borrow_and_update().is_none());
        drop(followed);
        drop(index.follow("b"));
        assert!(index.followers.len() == 1, "followers that went away are forgotten");
    }
}
