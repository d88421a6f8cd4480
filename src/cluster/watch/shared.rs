//! What all watches of one term of leadership share: the places for lists, what is broken, what could not be read.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Resource, ResourceExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::locked;
use crate::cluster::guard::Guarded;
use crate::server::metrics::Metrics;

/// Lists that are taken in at a time. A single object may be 1.5 MB in etcd and several times that as JSON; at a start all
/// watches list at once.
const LISTS_AT_ONCE: usize = 4;
/// Longest wait for a place: a list whose reader is held up must not hold up others for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A watch that has failed for so long, again and again, makes the operator unready.
const BROKEN_AFTER: Duration = Duration::from_secs(30);
/// A watch that is started again shows no sign until the next event. One whose last failure is longer ago than any back-off
/// (kube's: up to 30 s and as much jitter) and the connection's time limit has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(75);
/// Names of objects that were reported as unreadable. What comes after so many is only counted.
const MOST_REPORTED: usize = 1_000;

/// Shared by all watches of a term. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watches {
    inner: Arc<Inner>,
    /// Places for lists.
    lists: Arc<Semaphore>,
}

#[derive(Debug)]
struct Inner {
    metrics: Arc<Metrics>,
    broken: Mutex<BTreeMap<String, Failures>>,
    reported: Mutex<HashSet<String>>,
}

/// Failures of one watch that followed each other.
#[derive(Clone, Copy, Debug)]
struct Failures {
    first: Instant,
    last: Instant,
}

impl Watches {
    /// Nothing is wrong yet. What cannot be read is counted in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let lists = Arc::new(Semaphore::new(LISTS_AT_ONCE));
        let inner = Arc::new(Inner { metrics, broken: Mutex::default(), reported: Mutex::default() });
        Watches { inner, lists }
    }

    /// The same for a watch that must not wait for the lists of others.
    pub fn with_its_own_place(&self) -> Self {
        Watches { lists: Arc::new(Semaphore::new(1)), ..self.clone() }
    }

    /// Waits a while for a place to take in a list; `None`: go on without.
    pub(super) async fn place_for_list(&self) -> Option<OwnedSemaphorePermit> {
        timeout(LONGEST_WAIT, self.lists.clone().acquire_owned()).await.ok()?.ok()
    }

    /// The watch of these objects has failed.
    pub(crate) fn broke(&self, of: &str) {
        let now = Instant::now();
        let mut broken = locked(&self.inner.broken);
        let known = broken.get(of).filter(|failures| now - failures.last < RECOVERED_AFTER);
        let first = known.map_or(now, |failures| failures.first);
        broken.insert(of.to_owned(), Failures { first, last: now });
    }

    /// The watch of these objects shows what happens.
    pub(crate) fn holds(&self, of: &str) {
        locked(&self.inner.broken).remove(of);
    }

    /// The watches that have been broken for long.
    pub fn broken(&self) -> Vec<String> {
        let now = Instant::now();
        let is_broken = |failures: &Failures| {
            failures.last - failures.first >= BROKEN_AFTER && now - failures.last < RECOVERED_AFTER
        };
        let broken = locked(&self.inner.broken);
        broken.iter().filter(|(_, failures)| is_broken(failures)).map(|(of, _)| of.clone()).collect()
    }

    /// Counts an object that cannot be read, and logs its name once. What the parser says is left out: it may quote values,
    /// and the log is not its owner's to read.
    pub(super) fn unreadable<K: Resource<DynamicType = ()>>(&self, object: &Guarded<K>) {
        let kind = K::kind(&());
        self.inner.metrics.unreadable(&kind);
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut reported = locked(&self.inner.reported);
        if reported.len() < MOST_REPORTED && reported.insert(format!("{kind} {namespace}/{name}")) {
            tracing::warn!(namespace, name, "a {kind} cannot be read, and is left as it is; others are not affected");
        }
    }

    /// Counts an event that names no object.
    pub(super) fn nameless<K: Resource<DynamicType = ()>>(&self) {
        let kind = K::kind(&());
        self.inner.metrics.unreadable(&kind);
        if locked(&self.inner.reported).insert(format!("{kind} without a name")) {
            tracing::warn!("an event of the watch of {} names no object and is left out", K::plural(&()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_for_half_a_minute_is_broken_until_it_shows_something_or_fails_no_more() {
        /// What happens after so many seconds.
        enum Event {
            Broke,
            Holds,
            Nothing,
        }
        use Event::{Broke, Holds, Nothing};
        let rows = [
            (0, Broke, false),
            (20, Broke, false),
            (31, Nothing, false),
            (45, Broke, true),
            (100, Nothing, true),
            (121, Nothing, false),
            (130, Broke, false),
            (170, Broke, true),
            (171, Holds, false),
            (300, Broke, false),
            // One failure, and silence since: it was started again.
            (340, Nothing, false),
        ];
        let (start, watches) = (Instant::now(), Watches::new(Arc::new(Metrics::new())));
        for (second, event, is_broken) in rows {
            tokio::time::sleep_until(start + Duration::from_secs(second)).await;
            match event {
                Broke => watches.broke("pods"),
                Holds => watches.holds("pods"),
                Nothing => {}
            }
            assert_eq!(watches.broken() == ["pods"], is_broken, "after {second} s");
        }
    }
}
