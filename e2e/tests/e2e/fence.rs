//! Watches every pod of the run, all along: two attempts of one job must never live together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

/// Pods of jobs, save those that a test made so that common types cannot read them.
const READABLE: &str = "trainyard.dev/job,!e2e.trainyard.dev/unreadable";

/// The watch. It ends with the value.
pub(crate) struct Fence {
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Live pods by the UID of their job: name of the pod and attempt.
    live: HashMap<String, BTreeMap<String, String>>,
    /// Namespace of the job and what was seen.
    met: Vec<(String, String)>,
    /// Jobs by UID, with every attempt of theirs that lived.
    attempts: HashMap<String, BTreeSet<String>>,
}

impl Fence {
    pub(crate) fn start(client: Client) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let noticing = seen.clone();
        let watch = tokio::spawn(async move {
            let pods = watcher(Api::<Pod>::all(client), watcher::Config::default().labels(READABLE));
            let mut events = pods.default_backoff().boxed();
            while let Some(event) = events.next().await {
                if let Ok(event) = event {
                    noticing.lock().unwrap_or_else(PoisonError::into_inner).notice(&event);
                }
            }
        });
        Fence { seen, watch }
    }

    /// How two attempts of a job met, if any did, in a namespace.
    pub(crate) fn met(&self, namespace: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = seen.met.iter().filter(|(place, _)| place == namespace);
        chosen.map(|(_, what)| what.clone()).collect()
    }

    /// How many attempts after a first one it has seen: what it would have noticed.
    pub(crate) fn later_attempts(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.attempts.values().map(|attempts| attempts.len() - 1).sum()
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Seen {
    fn notice(&mut self, event: &Event<Pod>) {
        match event {
            Event::Apply(pod) | Event::InitApply(pod) => self.changed(pod, is_live(pod)),
            Event::Delete(pod) => self.changed(pod, false),
            Event::Init => self.live.clear(),
            Event::InitDone => {}
        }
    }

    fn changed(&mut self, pod: &Pod, live: bool) {
        let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else { return };
        let attempt = pod.labels().get("trainyard.dev/attempt").cloned().unwrap_or_default();
        let pods = self.live.entry(owner.uid.clone()).or_default();
        if !live {
            pods.remove(&pod.name_any());
            return;
        }
        let is_new = pods.insert(pod.name_any(), attempt.clone()).is_none();
        self.attempts.entry(owner.uid.clone()).or_default().insert(attempt.clone());
        let others: Vec<&str> =
            pods.iter().filter(|(_, other)| **other != attempt).map(|(name, _)| name.as_str()).collect();
        if is_new && !others.is_empty() {
            let what = format!("{} came while {} lived", pod.name_any(), others.join(", "));
            self.met.push((pod.namespace().unwrap_or_default(), what));
        }
    }
}

fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}
