//! The caches of a TrainingJob's children, and what they show of one job.

use super::observe::Observed;
use crate::cluster::endpoints::{ServiceFacts, SliceFacts};
use crate::cluster::index::{OwnedIndex, OwnerKey};
use crate::cluster::pod::PodFacts;

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

/// Kind of the owner that this controller answers for.
const OWNER_KIND: &str = "TrainingJob";

impl Caches {
    /// The children of the job with that UID, each as its own cache has it.
    pub fn observe(&self, uid: &str) -> Observed {
        Observed {
            pods: self.pods.of(uid),
            service: self.services.of(uid).into_iter().next(),
            slices: self.slices.of(uid),
        }
    }
}

/// Whether a change concerns a TrainingJob.
pub fn concerns_us(key: &OwnerKey) -> bool {
    key.owner.kind == OWNER_KIND
}
