//! Which Workspaces have changed and wait for a pass: the controller's own queue tells nobody.

use prometheus_client::metrics::gauge::Gauge;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct Queue {
    waiting: Mutex<HashSet<String>>,
    depth: Gauge,
}

/// A Workspace that a pass is at; it counts until this is dropped.
pub struct Taken<'a>(&'a Queue);

impl Queue {
    pub fn new(depth: Gauge) -> Self {
        Self {
            waiting: Mutex::default(),
            depth,
        }
    }

    /// Something of the Workspace `name` has changed.
    pub fn add(&self, name: &str) {
        let mut waiting = self.lock();
        if !waiting.contains(name) {
            waiting.insert(name.to_owned());
            self.depth.inc();
        }
    }

    /// A pass over it begins.
    pub fn take(&self, name: &str) -> Taken<'_> {
        if !self.lock().remove(name) {
            // A pass that time has brought about, not a change.
            self.depth.inc();
        }
        Taken(self)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// It is gone, so that no pass will come.
    pub fn forget(&self, name: &str) {
        if self.lock().remove(name) {
            self.depth.dec();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.depth.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_are_one_pass() {
        let depth = Gauge::default();
        let queue = Queue::new(depth.clone());
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(depth.get(), 2);
        let a = queue.take("a");
        // Changed again while it is worked on.
        queue.add("a");
        assert_eq!(depth.get(), 3);
        drop(a);
        drop(queue.take("a"));
        drop(queue.take("b"));
        drop(queue.take("requeued"));
        assert_eq!(depth.get(), 0);
        queue.add("deleted");
        queue.forget("deleted");
        queue.forget("deleted");
        assert_eq!(depth.get(), 0);
    }
}
