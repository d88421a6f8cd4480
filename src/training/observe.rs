//! What a decision is made from, besides the job itself: its children as the caches have them, and what this process
//! remembers of its own recent writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::conditions::{READY, holds};
use crate::api::{MAX_NODES, TrainingJobStatus};
use crate::cluster::ending::Endings;
use crate::cluster::endpoints::{ServiceFacts, SliceFacts};
use crate::cluster::index::ChildMeta;
use crate::cluster::managed::Remembers;
use crate::cluster::plan::Action;
use crate::cluster::pod::PodFacts;
use crate::cluster::port::Resource;
use crate::cluster::writes::Writes;

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

impl Observed {
    /// All of them.
    fn children(&self) -> impl Iterator<Item = (Resource, &ChildMeta)> {
        let pods = self.pods.iter().map(|pod| (Resource::Pod, &pod.meta));
        let services = self.service.iter().map(|service| (Resource::Service, &service.meta));
        pods.chain(services).chain(self.slices.iter().map(|slice| (Resource::EndpointSlice, &slice.meta)))
    }
}

/// What the process remembers of one job between reconciles.
///
/// Losing it, in a crash, never breaks an invariant. It costs a few requests; and a pod that vanished before status said
/// that all of its attempt were there is made again instead of being counted as lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Our own recent writes.
    pub writes: Writes,
    /// When the first pod of the job, or the first after it was suspended, was created.
    pub launched_at: Option<Timestamp>,
    /// When a slice was last written.
    pub slices_written_at: Option<Timestamp>,
    /// The pods that the cache has shown, by attempt and rank, from the attempt on record on: one of them that is missing is
    /// lost, even if the record that all were there was not written yet.
    pub seen: BTreeMap<(u32, u32), SeenPod>,
    /// Attempt, and its ranks that have ended well as the last decision counted them; status may not say so yet.
    pub succeeded: Option<(u32, String)>,
    /// Pods that are ending by themselves.
    pub ending: Endings,
    /// When a decision first found all pods running.
    pub running_since: Option<Timestamp>,
}

/// A pod that the cache has shown.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPod {
    /// As it was last shown.
    pub pod: Arc<PodFacts>,
    /// Whether this process created it: then it is ours, whatever webhooks have made of it.
    pub made: bool,
}

impl Memory {
    /// Takes in what the caches show of a job whose status has this attempt on record.
    pub fn catch_up(&mut self, observed: &Observed, attempt: u32, now: Timestamp) {
        let before = std::mem::take(&mut self.seen);
        for pod in &observed.pods {
            let known = before.get(&(pod.attempt, pod.rank)).filter(|seen| seen.pod.meta.uid == pod.meta.uid);
            let made = known.is_some_and(|seen| seen.made) || self.writes.has_made(Resource::Pod, &pod.meta);
            self.seen.insert((pod.attempt, pod.rank), SeenPod { pod: pod.clone(), made });
        }
        // Others may make any number of pods under our names, so only what can be ours is remembered once it is gone.
        for (place, seen) in
            before.into_iter().filter(|((of, rank), _)| *of == attempt && *rank < MAX_NODES.unsigned_abs())
        {
            self.seen.entry(place).or_insert(seen);
        }
        self.seen = self.seen.split_off(&(attempt, 0));
        self.writes.catch_up(observed.children(), now);
        self.ending.catch_up(observed.pods.iter().map(AsRef::as_ref), now);
        // A clock that was set back must not hold anything up: what lies in the future was just now.
        for moment in [&mut self.running_since, &mut self.slices_written_at] {
            *moment = moment.map(|moment| moment.min(now));
        }
    }

    /// Whether the cache still shows a slice as it was before our last change of it.
    pub fn awaits(&self, slice: &SliceFacts) -> bool {
        self.writes.awaits(Resource::EndpointSlice, &slice.meta)
    }
}

impl Remembers<TrainingJobStatus> for Memory {
    fn writes(&mut self) -> &mut Writes {
        &mut self.writes
    }

    fn acted(&mut self, actions: &[Action], now: Timestamp) {
        if actions.iter().any(|action| action.id().resource == Resource::EndpointSlice) {
            self.slices_written_at = Some(now);
        }
        if actions.iter().any(Action::creates_pod) {
            self.launched_at.get_or_insert(now);
        }
    }

    fn decided(&mut self, status: &TrainingJobStatus, now: Timestamp) {
        if holds(&status.conditions, READY) {
            self.running_since.get_or_insert(now);
        }
        self.succeeded = status.attempt.zip(status.succeeded_ranks.clone());
    }

    fn published(&mut self, status: &TrainingJobStatus) {
        if status.start_time.is_none() {
            self.launched_at = None;
        }
    }
}
