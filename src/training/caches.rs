//! The caches of a TrainingJob's children, and what they show of one job.

use std::sync::Arc;

use super::observe::Observed;
use crate::cluster::endpoints::{ServiceFacts, SliceFacts};
use crate::cluster::index::OwnedIndex;
use crate::cluster::pod::PodFacts;
use crate::names;

/// One index for each kind of child.
#[derive(Debug, Default)]
pub struct Caches {
    /// Pods, trimmed.
    pub pods: OwnedIndex<PodFacts>,
    /// Services, by their metadata.
    pub services: OwnedIndex<ServiceFacts>,
    /// EndpointSlices.
    pub slices: OwnedIndex<SliceFacts>,
}

impl Caches {
    /// The children of a job, each as its own cache has it.
    ///
    /// Labels can be edited by whoever may edit pods: a pod whose name is not what its rank and attempt demand was not
    /// made by us for that rank, or is not any more what it was, and counts for nothing.
    pub fn observe(&self, namespace: &str, name: &str, uid: &str) -> Observed {
        let service = names::service(name, uid);
        let as_named = |pod: &Arc<PodFacts>| {
            pod.meta.name == names::pod_under(&service, names::ROLE_WORKER, pod.rank, pod.attempt)
        };
        Observed {
            pods: self.pods.of(namespace, uid).into_iter().filter(as_named).collect(),
            service: self.services.of(namespace, uid).into_iter().find(|present| present.meta.name == service),
            slices: self.slices.of(namespace, uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::{ChildMeta, Owner};

    #[test]
    fn a_pod_that_is_not_named_as_its_labels_say_counts_for_nothing() {
        let pod = |name: String, rank, attempt| PodFacts {
            meta: ChildMeta {
                namespace: "ns".into(),
                name,
                owner: Some(Owner { kind: "TrainingJob".into(), name: "j".into(), uid: "u".into() }),
                ..ChildMeta::default()
            },
            rank,
            attempt,
            ..PodFacts::default()
        };
        let mut caches = Caches::default();
        caches.pods.apply(pod(names::pod("j", "u", names::ROLE_WORKER, 0, 1), 0, 1));
        caches.pods.apply(pod(names::pod("j", "u", names::ROLE_WORKER, 1, 1), 1, 9_999));
        caches.pods.apply(pod("intruder".into(), 1, 9_999));
        let seen: Vec<(u32, u32)> =
            caches.observe("ns", "j", "u").pods.iter().map(|pod| (pod.rank, pod.attempt)).collect();
        assert_eq!(seen, [(0, 1)]);
    }
}
