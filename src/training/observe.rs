//! What a decision is made from, besides the job itself: its children as the caches have them, and what this process
//! remembers of its own recent writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::endpoints::{ServiceFacts, SliceFacts};
use crate::cluster::index::ChildMeta;
use crate::cluster::pod::PodFacts;

/// The children of a job, as the caches have them; each cache may lag behind the cluster, and behind the others.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Pods that the job controls, of all attempts.
    pub pods: Vec<Arc<PodFacts>>,
    /// Its headless Service, if it is there.
    pub service: Option<Arc<ServiceFacts>>,
    /// Its EndpointSlices.
    pub slices: Vec<Arc<SliceFacts>>,
}

/// How long a cache may take to show what we created before we doubt that it is there.
const CACHE_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// How long a pod whose containers have ended may take to say so: longer than most grace periods. A kubelet that died
/// over it never will, and a pod must be deleted before Kubernetes gives it up for lost.
const ENDING_PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// What the process remembers of one job between reconciles.
///
/// Losing it, in a crash, never breaks an invariant. It costs a few requests; and a pod that vanished before status said
/// that all of its attempt were there is made again instead of being counted as lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// resourceVersion of the job that our last status patch replaced: a cache that still shows it is stale.
    pub patched_from: Option<String>,
    /// Children created and not yet seen, by name, and when they were created.
    pub created: BTreeMap<String, Timestamp>,
    /// When the first pod of the job, or the first after it was suspended, was created.
    pub launched_at: Option<Timestamp>,
    /// resourceVersion of each slice that our last change replaced, by name of the slice.
    pub slices_changed_from: BTreeMap<String, String>,
    /// When a slice was last written.
    pub slices_written_at: Option<Timestamp>,
    /// When status was last written.
    pub published_at: Option<Timestamp>,
    /// What the apiserver would not create, and until when we do not ask again.
    pub refusal: Option<Refusal>,
    /// Attempt and rank of the pods that the cache has shown, of the newest attempt: one of them that is missing is lost,
    /// even if the record that all were there was not written yet.
    pub seen: BTreeSet<(u32, u32)>,
    /// Attempt, and its ranks that have ended well as the last decision counted them; status may not say so yet.
    pub succeeded: Option<(u32, String)>,
    /// UIDs of the pods that are ending by themselves, and when they were first seen so.
    pub ending: BTreeMap<String, Timestamp>,
    /// When this process first looked at the job.
    pub noticed_at: Option<Timestamp>,
    /// When a decision first found all pods running.
    pub running_since: Option<Timestamp>,
}

impl Memory {
    /// Takes in what the caches show: creations that are seen by now, or have become doubtful, are waited for no more.
    pub fn catch_up(&mut self, observed: &Observed, now: Timestamp) {
        for pod in &observed.pods {
            self.created.remove(&pod.meta.name);
            self.seen.insert((pod.attempt, pod.rank));
        }
        if let Some(&(newest, _)) = self.seen.last() {
            self.seen = self.seen.split_off(&(newest, 0));
        }
        if let Some(service) = &observed.service {
            self.created.remove(&service.meta.name);
        }
        for slice in &observed.slices {
            self.created.remove(&slice.meta.name);
            if !self.awaits(&slice.meta) {
                self.slices_changed_from.remove(&slice.meta.name);
            }
        }
        self.created.retain(|_, created| now < *created + CACHE_PATIENCE);
        let known = std::mem::take(&mut self.ending);
        let ending = observed.pods.iter().filter(|pod| pod.is_ending()).map(|pod| &pod.meta.uid);
        // A clock that was set back must not make the wait longer.
        let since = |uid: &String| known.get(uid).map_or(now, |since| *since.min(&now));
        self.ending = ending.map(|uid| (uid.clone(), since(uid))).collect();
        self.noticed_at.get_or_insert(now);
        // A clock that was set back must not hold anything up: what lies in the future was just now.
        for moment in
            [&mut self.noticed_at, &mut self.running_since, &mut self.published_at, &mut self.slices_written_at]
        {
            *moment = moment.map(|moment| moment.min(now));
        }
        if self.refusal.as_ref().is_some_and(|refusal| refusal.until <= now) {
            self.refusal = None;
        }
    }

    /// Whether the cache still shows a slice as it was before our last change of it.
    pub fn awaits(&self, slice: &ChildMeta) -> bool {
        self.slices_changed_from.get(&slice.name) == Some(&slice.resource_version)
    }

    /// Whether a pod has ended, or is given the time to do so by itself: those are kept, for their logs.
    pub fn ends_by_itself(&self, pod: &PodFacts, now: Timestamp) -> bool {
        let given = || self.ending.get(&pod.meta.uid).is_none_or(|since| now < *since + ENDING_PATIENCE);
        pod.is_terminal() || (pod.is_ending() && given())
    }

    /// When the next of the pods that are ending by themselves has had its time.
    pub fn ended_at_the_latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.ending.values().map(|since| *since + ENDING_PATIENCE).filter(|end| *end > now).min()
    }

    /// When the oldest creation that no cache shows becomes doubtful.
    pub fn doubt_at(&self) -> Option<Timestamp> {
        self.created.values().min().map(|created| *created + CACHE_PATIENCE)
    }
}

/// A create that the apiserver answered with no, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// The apiserver's own words, or what stands in the way.
    pub message: String,
    /// When to ask again.
    pub until: Timestamp,
    /// Generation of the job that was refused; a new one is tried at once.
    pub generation: Option<i64>,
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The content will not be taken: somebody has to change it, or the namespace.
    Content,
    /// No quota: wait until some is freed.
    Quota,
    /// Somebody else's object has the name.
    Foreign,
    /// No answer, or that it cannot do it now: a failing webhook, too many requests.
    Unanswered,
}

impl RefusalKind {
    /// How long to wait before asking again.
    pub fn pause(self) -> SignedDuration {
        match self {
            RefusalKind::Content => SignedDuration::from_mins(5),
            RefusalKind::Quota => SignedDuration::from_secs(15),
            RefusalKind::Foreign => SignedDuration::from_mins(1),
            RefusalKind::Unanswered => SignedDuration::from_secs(2),
        }
    }
}
