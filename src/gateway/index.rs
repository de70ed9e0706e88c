//! Workspaces that a watch shows become answers to "whose is it?" and "what has become of it?". Pure.

use crate::api::Workspace;
use crate::identity::Identity;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::watch;

/// A Workspace as someone follows it; `None` while there is none of its name.
pub type Followed = watch::Receiver<Option<Arc<Workspace>>>;

/// Below this, nobody looks for followers that went away.
const FEW: usize = 64;

/// All Workspaces of the namespace, by name and by owner.
#[derive(Default)]
pub struct Index {
    by_name: HashMap<String, Arc<Workspace>>,
    by_owner: HashMap<Identity, BTreeSet<String>>,
    followers: HashMap<String, watch::Sender<Option<Arc<Workspace>>>>,
    /// With how many followers those are looked for that went away: a share of them each time, however many come at once.
    swept_at: usize,
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

    /// The names of those for which `holds` is true.
    pub fn which(&self, holds: impl Fn(&Workspace) -> bool) -> Vec<String> {
        let which = self.by_name.values().filter(|workspace| holds(workspace));
        which.map(|workspace| workspace.name_any()).collect()
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
        if self.followers.len() >= self.swept_at.max(FEW) {
            self.followers.retain(|_, sender| sender.receiver_count() > 0);
            self.swept_at = 2 * self.followers.len();
        }
        let current = self.get(name);
        let sender = self.followers.entry(name.to_owned());
        sender.or_insert_with(|| watch::Sender::new(current)).subscribe()
    }

    /// Gives the one whose place it takes, of the same name and deleted meanwhile.
    pub fn apply(&mut self, workspace: Workspace) -> Option<Arc<Workspace>> {
        let name = workspace.name_any();
        self.forget_owner(&name);
        if let Some(owner) = recorded_owner(&workspace) {
            self.by_owner.entry(owner).or_default().insert(name.clone());
        }
        let workspace = Arc::new(workspace);
        self.tell(&name, Some(&workspace));
        let uid = workspace.uid();
        self.by_name
            .insert(name, workspace)
            .filter(|before| before.uid() != uid)
    }

    /// Gives the one that was there.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Workspace>> {
        self.forget_owner(name);
        let removed = self.by_name.remove(name)?;
        self.tell(name, None);
        Some(removed)
    }

    /// Takes over a whole new list, as after a broken watch. Gives those that were there and are not any more.
    pub fn replace(&mut self, workspaces: Vec<Workspace>) -> Vec<Arc<Workspace>> {
        let names: BTreeSet<_> = workspaces.iter().map(ResourceExt::name_any).collect();
        let gone: Vec<_> = self
            .by_name
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        let mut departed: Vec<_> = gone.iter().filter_map(|name| self.remove(name)).collect();
        departed.extend(workspaces.into_iter().filter_map(|workspace| self.apply(workspace)));
        departed
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
        for number in 0..100 * FEW {
            drop(index.follow(&number.to_string()));
        }
        assert!(index.followers.len() <= FEW, "followers that went away are forgotten");
        // Nobody who follows pays for those that followed before.
        let all: Vec<_> = (0..10 * FEW).map(|number| index.follow(&number.to_string())).collect();
        assert!(index.followers.len() >= all.len() && index.swept_at > all.len());
    }

    #[test]
    fn whatever_way_one_goes_it_is_told() {
        let of = |uid: &str| {
            let mut workspace = workspace("a", Some("dev1"));
            workspace.metadata.uid = Some(uid.into());
            workspace
        };
        let uid = |workspace: Option<Arc<Workspace>>| workspace.and_then(|workspace| workspace.uid());
        let mut index = Index::default();
        assert_eq!(uid(index.apply(of("1"))), None);
        assert_eq!(uid(index.apply(of("1"))), None);
        assert_eq!(uid(index.apply(of("2"))).as_deref(), Some("1"));
        assert_eq!(index.replace(vec![of("2")]), Vec::<Arc<Workspace>>::new());
        assert_eq!(uid(index.replace(vec![of("3")]).pop()).as_deref(), Some("2"));
        assert_eq!(uid(index.replace(vec![]).pop()).as_deref(), Some("3"));
        assert_eq!(uid(index.remove("a")), None);
    }
}
