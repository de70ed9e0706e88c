//! A terminal that is to be opened becomes a place, of which there are only so many: at this gateway, and for each user.

use crate::config::limits::Places;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The terminals that are open here, or are just being opened.
pub struct Terminals {
    most: Option<NonZeroUsize>,
    most_per_user: Option<NonZeroUsize>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// By workspace, which is by user. Those with none are not in it.
    of: HashMap<String, usize>,
}

/// Given back when it is dropped.
pub struct Place {
    terminals: Arc<Terminals>,
    workspace: String,
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Gateway,
    User,
}

impl Terminals {
    pub fn new(places: &Places) -> Arc<Self> {
        Arc::new(Self {
            most: places.terminals,
            most_per_user: places.terminals_per_user,
            open: Mutex::default(),
        })
    }

    /// Takes a place for a terminal of `workspace`, of which `elsewhere` are open at other gateways.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(self: &Arc<Self>, workspace: &str, elsewhere: usize) -> Result<Place, Full> {
        let mut open = self.lock();
        let own = open.of.get(workspace).copied().unwrap_or_default();
        if is_full(self.most_per_user, own + elsewhere) {
            return Err(Full::User);
        }
        if is_full(self.most, open.all) {
            return Err(Full::Gateway);
        }
        open.all += 1;
        open.of.insert(workspace.to_owned(), own + 1);
        Ok(Place {
            terminals: Arc::clone(self),
            workspace: workspace.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.terminals.lock();
        open.all -= 1;
        match open.of.get_mut(&self.workspace) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.of.remove(&self.workspace)),
        }
    }
}

fn is_full(most: Option<NonZeroUsize>, taken: usize) -> bool {
    most.is_some_and(|most| taken >= most.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let terminals = Terminals::new(&Places {
            connections: None,
            terminals: NonZeroUsize::new(3),
            terminals_per_user: NonZeroUsize::new(2),
        });
        let enter = |workspace, elsewhere| terminals.enter(workspace, elsewhere);
        let first = enter("dev1", 0).unwrap();
        assert_eq!(enter("dev1", 1).err(), Some(Full::User), "one is open elsewhere");
        let _second = enter("dev1", 0).unwrap();
        assert_eq!(enter("dev1", 0).err(), Some(Full::User));
        let third = enter("dev2", 0).unwrap();
        assert_eq!(enter("dev3", 0).err(), Some(Full::Gateway));
        drop(first);
        drop(third);
        let _again = enter("dev1", 0).unwrap();
        let open = terminals.lock();
        assert_eq!((open.all, open.of.len()), (2, 1), "who has none is forgotten");
    }

    #[test]
    fn nothing_is_full_that_is_unlimited() {
        let terminals = Terminals::new(&Places::default());
        let open: Vec<_> = (0..100).map(|_| terminals.enter("dev1", 100).unwrap()).collect();
        assert_eq!(open.len(), 100);
    }
}
