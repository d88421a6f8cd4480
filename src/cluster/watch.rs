//! Feeding caches from watches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use tokio::sync::watch as flag;

use super::index::{Child, OwnedIndex, OwnerKey};
use super::news::News;

/// Owners that have to be looked at again, on their way to the queue. The queue takes them as fast as they come and
/// keeps each once, so this only smooths bursts.
pub const TRIGGER_BUFFER: usize = 1024;

/// How far a cache has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// No complete list has come yet.
    No,
    /// Nor can one: the apiserver does not serve the kind. The watch goes on asking.
    Unserved,
    /// It has been complete once, and is kept current.
    Yes,
}

impl Filled {
    /// How far several caches have come together.
    pub fn all(caches: impl IntoIterator<Item = Filled>) -> Filled {
        let worse = |one: Filled, other: Filled| match (one, other) {
            (Filled::Unserved, _) | (_, Filled::Unserved) => Filled::Unserved,
            (Filled::No, _) | (_, Filled::No) => Filled::No,
            (Filled::Yes, Filled::Yes) => Filled::Yes,
        };
        caches.into_iter().fold(Filled::Yes, worse)
    }
}

/// Tells, without flooding the log, that a watch breaks; each try to start it again, at most 30 s apart, may fail alike.
#[derive(Debug)]
pub struct Trouble {
    of: String,
    said: News,
}

impl Trouble {
    /// Nothing is wrong yet with the watch of these objects.
    pub fn of(objects: String) -> Self {
        Trouble { of: objects, said: News::default() }
    }

    /// The watch has broken; answers whether that is because the apiserver does not serve the kind.
    pub fn tell(&mut self, error: &watcher::Error) -> bool {
        let of = &self.of;
        if self.said.is_new(&error.to_string(), Instant::now()) {
            tracing::warn!("the watch of {of} broke and is started again until it holds: {error}");
        }
        use watcher::Error::{InitialListFailed, WatchStartFailed};
        matches!(error, InitialListFailed(kube::Error::Api(it)) | WatchStartFailed(kube::Error::Api(it)) if it.code == 404)
    }

    /// The watch holds.
    pub fn settle(&mut self) {
        if self.said.settle() {
            tracing::info!("the watch of {} holds again", self.of);
        }
    }
}

/// A cache behind a lock: `pick` finds the index of one kind in it.
pub type Shared<C> = Arc<Mutex<C>>;

/// Locks, also after a panic elsewhere: what these locks guard is whole after every statement.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the index of one kind of child current from its watch.
///
/// Every change after the first complete list is announced as the owner it concerns; until then nobody decides anything,
/// and afterwards every owner is looked at once anyway. `synced` turns to yes with that list. Ends only when nobody listens
/// to `triggers` any more: a watch that breaks is logged, and starts again by itself.
pub async fn feed<K, T, C>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    caches: Shared<C>,
    pick: fn(&mut C) -> &mut OwnedIndex<T>,
    mut triggers: mpsc::Sender<OwnerKey>,
    synced: flag::Sender<Filled>,
) where
    K: Resource<DynamicType = ()>,
    T: Child + From<K>,
{
    let mut events = std::pin::pin!(events);
    let mut filled = false;
    let mut trouble = Trouble::of(format!("children ({})", K::plural(&())));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                if trouble.tell(&error) && !filled {
                    synced.send_replace(Filled::Unserved);
                }
                continue;
            }
        };
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            trouble.settle();
        }
        let complete = matches!(event, Event::InitDone);
        let concerned = {
            let mut caches = locked(&caches);
            take_in(pick(&mut caches), event)
        };
        // The listeners start once all caches are filled: announcing the first list would wait for them for ever.
        let announced = filled;
        if complete && !filled {
            filled = true;
            synced.send_replace(Filled::Yes);
        }
        for key in concerned.into_iter().filter(|_| announced) {
            if triggers.send(key).await.is_err() {
                return;
            }
        }
    }
}

fn take_in<K: Resource, T: Child + From<K>>(index: &mut OwnedIndex<T>, event: Event<K>) -> Vec<OwnerKey> {
    match event {
        Event::Init => {
            index.begin_relist();
            Vec::new()
        }
        Event::InitApply(object) | Event::Apply(object) => index.apply(T::from(object)),
        Event::InitDone => index.finish_relist(),
        Event::Delete(object) => {
            index.delete(&object.namespace().unwrap_or_default(), &object.name_any()).into_iter().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::pod::{PodFacts, WatchedPod};
    use futures::stream;
    use serde_json::json;

    fn pod(number: usize) -> WatchedPod {
        serde_json::from_value(json!({"metadata": {
            "namespace": "ns", "name": format!("p{number}"),
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": format!("{number}"), "controller": true}],
        }}))
        .unwrap()
    }

    #[test]
    fn a_kind_that_is_not_served_outweighs_caches_that_fill() {
        use Filled::{No, Unserved, Yes};
        let cases: [(&[Filled], Filled); 6] = [
            (&[], Yes),
            (&[Yes, Yes], Yes),
            (&[Yes, No], No),
            (&[No, Unserved, Yes], Unserved),
            (&[Yes, Unserved], Unserved),
            (&[No, No], No),
        ];
        for (caches, expected) in cases {
            assert_eq!(Filled::all(caches.iter().copied()), expected, "{caches:?}");
        }
    }

    #[test]
    fn a_kind_that_is_not_served_is_told_from_a_watch_that_breaks() {
        let error = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
        };
        let mut trouble = Trouble::of("trainingjobs".to_owned());
        assert!(trouble.tell(&error(404)));
        for code in [403, 410, 500] {
            assert!(!trouble.tell(&error(code)), "{code}");
        }
    }

    #[test]
    fn a_long_first_list_does_not_wait_for_listeners_and_later_changes_are_announced() {
        let caches: Shared<OwnedIndex<PodFacts>> = Shared::default();
        let (triggers, mut triggered) = mpsc::channel(1);
        let (synced, is_synced) = flag::channel(Filled::No);
        let first_list = (0..100).map(|number| Event::InitApply(pod(number)));
        let later = [Event::InitDone, Event::Delete(pod(7))];
        let events = stream::iter(std::iter::once(Event::Init).chain(first_list).chain(later).map(Ok));
        futures::executor::block_on(feed(events, caches.clone(), |index| index, triggers, synced));
        assert_eq!(*is_synced.borrow(), Filled::Yes);
        assert_eq!(caches.lock().unwrap().of("ns", "8").len(), 1);
        let announced: Vec<OwnerKey> = std::iter::from_fn(|| triggered.try_recv().ok()).collect();
        assert_eq!(announced.len(), 1);
        assert_eq!(announced[0].owner.uid, "7");
    }
}
