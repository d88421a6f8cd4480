//! Feeding caches from watches.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use tokio::sync::watch as flag;

pub mod events;
pub mod shared;
#[cfg(test)]
mod tests;

use super::client::described;
use super::index::{Child, OwnedIndex, OwnerKey};
use super::news::News;
use shared::Watches;

/// Owners that have to be looked at again, on their way to the queue. The queue takes them as fast as they come and
/// keeps each once, so this only smooths bursts.
pub const TRIGGER_BUFFER: usize = 1024;

/// Pause before a feeder is started again that has panicked, and the longest that it grows to.
const PANIC_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// One that has run for longer than this since its last panic pauses as after the first.
const SOUND_AFTER: Duration = Duration::from_secs(300);

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

/// Why a watch broke, in words that may be logged.
pub fn broken(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) => format!("the list failed: {}", described(error)),
        WatchStartFailed(error) | WatchFailed(error) => described(error),
        error => error.to_string(),
    }
}

/// Tells, without flooding the log, that a watch breaks; each try to start it again, at most 30 s apart, may fail alike.
#[derive(Debug)]
pub struct Trouble {
    of: String,
    said: News,
    watches: Watches,
}

impl Trouble {
    /// Nothing is wrong yet with the watch of these objects.
    pub fn of(objects: String, watches: Watches) -> Self {
        Trouble { of: objects, said: News::default(), watches }
    }

    /// The watch has broken; answers whether that is because the apiserver does not serve the kind.
    pub fn tell(&mut self, error: &watcher::Error) -> bool {
        let (of, why) = (&self.of, broken(error));
        if self.said.is_new(&why, Instant::now()) {
            tracing::warn!("the watch of {of} broke and is started again until it holds: {why}");
        }
        use watcher::Error::{InitialListFailed, WatchStartFailed};
        let is_unserved = matches!(error, InitialListFailed(kube::Error::Api(it)) | WatchStartFailed(kube::Error::Api(it)) if it.code == 404);
        // A kind that is not served makes nothing unready: nothing can be of it.
        if !is_unserved {
            self.watches.broke(of);
        }
        is_unserved
    }

    /// The watch holds.
    pub fn settle(&mut self) {
        self.watches.holds(&self.of);
        if self.said.settle() {
            tracing::info!("the watch of {} holds again", self.of);
        }
    }
}

/// Runs a feeder until it ends by itself. A panic is a defect of ours, but it must not end the process, which would only meet
/// the same object again: the feeder is started again, with a fresh list, after a pause that doubles.
pub async fn restarted<F: Future<Output = ()>>(of: &str, watches: &Watches, mut feeder: impl FnMut() -> F) {
    let [shortest, longest] = PANIC_PAUSES;
    let mut pause = shortest;
    loop {
        let started = tokio::time::Instant::now();
        if AssertUnwindSafe(feeder()).catch_unwind().await.is_ok() {
            return;
        }
        if started.elapsed() > SOUND_AFTER {
            pause = shortest;
        }
        tracing::error!(
            "feeding the cache of {of} panicked, which is a defect of this operator; begun again in {pause:?}"
        );
        watches.broke(of);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
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
    synced: &flag::Sender<Filled>,
    mut trouble: Trouble,
) where
    K: Resource<DynamicType = ()>,
    T: Child + From<K>,
{
    let mut events = std::pin::pin!(events);
    let mut filled = *synced.borrow() == Filled::Yes;
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
