//! Pods that end by themselves, and how long they are given.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::pod::PodFacts;

/// How long a pod whose containers have ended may take to say so: longer than most grace periods. A kubelet that died over it
/// never will, and a pod must be deleted before Kubernetes gives it up for lost.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Since when which pods, by UID, are ending by themselves, as far as this process has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endings(BTreeMap<String, Timestamp>);

impl Endings {
    /// Takes in what the cache shows.
    pub fn catch_up<'a>(&mut self, pods: impl Iterator<Item = &'a PodFacts>, now: Timestamp) {
        let known = std::mem::take(&mut self.0);
        let ending = pods.filter(|pod| pod.is_ending()).map(|pod| &pod.meta.uid);
        // A clock that was set back must not make the wait longer.
        let since = |uid: &String| known.get(uid).map_or(now, |since| *since.min(&now));
        self.0 = ending.map(|uid| (uid.clone(), since(uid))).collect();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pod has ended, or is given the time to do so by itself: those are kept, for their logs.
    pub fn ends_by_itself(&self, pod: &PodFacts, now: Timestamp) -> bool {
        let given = || self.0.get(&pod.meta.uid).is_none_or(|since| now < *since + PATIENCE);
        pod.is_terminal() || (pod.is_ending() && given())
    }

    /// When the next of them has had its time.
    pub fn at_the_latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.values().map(|since| *since + PATIENCE).filter(|end| *end > now).min()
    }
}
