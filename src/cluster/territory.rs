//! The namespaces that a term of leadership may write in.
//!
//! An operator of the whole cluster never serves the namespaces of the system, nor its own: whoever may create a TrainingJob
//! there could run a pod under a ServiceAccount that may do far more, the operator's included.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::Stream;
use futures::channel::mpsc;
use tokio::sync::watch;

use super::watch::{Filled, locked};
use crate::names::SYSTEM_NAMESPACES;

/// What belongs to us, as far as we know. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Territory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Namespaces that are never served.
    unserved: BTreeSet<String>,
    /// Namespaces that others have claimed.
    left_alone: Mutex<BTreeSet<String>>,
    /// Who wants to hear of namespaces that come back.
    listeners: Mutex<Vec<mpsc::UnboundedSender<String>>>,
    /// Whether the claims of others are known.
    known: watch::Sender<Filled>,
    /// Why nothing new is heard of them.
    deaf: watch::Sender<Option<String>>,
}

impl Territory {
    /// Everything that is watched belongs to us.
    pub fn undisputed() -> Self {
        Territory::new(Filled::Yes, BTreeSet::new())
    }

    /// The whole cluster but for the namespaces of the system and the operator's `own`. Others may have claimed more;
    /// nothing is to be written before it is known which.
    pub fn of_cluster(own: &str) -> Self {
        let unserved = SYSTEM_NAMESPACES.into_iter().chain([own]);
        Territory::new(Filled::No, unserved.map(str::to_owned).collect())
    }

    fn new(known: Filled, unserved: BTreeSet<String>) -> Self {
        let known = watch::channel(known).0;
        let deaf = watch::channel(None).0;
        Territory(Arc::new(Shared { unserved, left_alone: Mutex::default(), listeners: Mutex::default(), known, deaf }))
    }

    /// Whether a namespace is served at all, and nobody else has claimed it.
    pub fn is_ours(&self, namespace: &str) -> bool {
        !self.0.unserved.contains(namespace) && !locked(&self.0.left_alone).contains(namespace)
    }

    /// Turns to [`Filled::Yes`] once the claims of others are known.
    pub fn known(&self) -> watch::Receiver<Filled> {
        self.0.known.subscribe()
    }

    /// The claims of others are known from now on.
    pub(super) fn set_known(&self) {
        self.0.known.send_if_modified(|known| std::mem::replace(known, Filled::Yes) != Filled::Yes);
    }

    /// Why nothing new is heard of the claims of others, so that nothing is written; nothing while it is.
    pub fn deaf(&self) -> watch::Receiver<Option<String>> {
        self.0.deaf.subscribe()
    }

    /// Nothing new is heard of the claims of others, for this reason; `None`: it is.
    pub(super) fn set_deaf(&self, why: Option<String>) {
        self.0.deaf.send_if_modified(|known| {
            let changes = *known != why;
            *known = why;
            changes
        });
    }

    /// The namespaces that come back to us from now on, each when it does. Everything in them is to be looked at anew.
    pub fn returned(&self) -> impl Stream<Item = String> + Send + 'static {
        let (sender, receiver) = mpsc::unbounded();
        locked(&self.0.listeners).push(sender);
        receiver
    }

    /// Leaves exactly these namespaces alone; answers those that were ours so far, and those that come back.
    pub(super) fn leave_alone(&self, namespaces: BTreeSet<String>) -> Change {
        let before = std::mem::replace(&mut *locked(&self.0.left_alone), namespaces.clone());
        let change = Change {
            left: namespaces.difference(&before).cloned().collect(),
            returned: before.difference(&namespaces).cloned().collect(),
        };
        for namespace in &change.returned {
            locked(&self.0.listeners).retain(|listener| listener.unbounded_send(namespace.clone()).is_ok());
        }
        change
    }
}

/// Namespaces that changed hands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// No longer ours.
    pub(super) left: Vec<String>,
    /// Ours again.
    pub(super) returned: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_comes_back_is_announced_once_to_each() {
        let territory = Territory::of_cluster("trainyard-system");
        assert_eq!(*territory.known().borrow(), Filled::No);
        let (mut first, mut second) = (territory.returned(), territory.returned());
        assert!(territory.is_ours("a"));
        let change = territory.leave_alone(set(&["a", "b"]));
        assert_eq!(change, Change { left: vec!["a".to_owned(), "b".to_owned()], returned: vec![] });
        assert!(!territory.is_ours("a") && territory.is_ours("c"));
        let change = territory.leave_alone(set(&["b", "c"]));
        assert_eq!(change, Change { left: vec!["c".to_owned()], returned: vec!["a".to_owned()] });
        for listener in [&mut first, &mut second] {
            assert_eq!(listener.next().now_or_never(), Some(Some("a".to_owned())));
            assert_eq!(listener.next().now_or_never(), None);
        }
        assert_eq!(territory.leave_alone(set(&["b", "c"])), Change::default());
    }

    #[test]
    fn neither_the_systems_namespaces_nor_its_own_are_served_whoever_claims_them() {
        let territory = Territory::of_cluster("ops");
        for claims in [set(&["kube-system", "ops", "a"]), set(&[])] {
            territory.leave_alone(claims);
            for unserved in ["kube-system", "kube-public", "kube-node-lease", "ops"] {
                assert!(!territory.is_ours(unserved), "{unserved}");
            }
        }
        assert!(territory.is_ours("a") && territory.is_ours("trainyard-system"));
        assert!(Territory::undisputed().is_ours("ops"), "whoever names a namespace gets it");
    }
}
