//! The caches of a run's children, and what they show of one run.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::PartialObjectMeta;

use super::facts::{JobFacts, ServingFacts};
use super::observe::{Observed, named};
use crate::cluster::index::{Child, ChildMeta, OwnedIndex};
use crate::cluster::pod::PodFacts;
use crate::cluster::workload::RevisionFacts;
use crate::names;

/// One index for each kind of child.
#[derive(Debug, Default)]
pub struct Caches {
    /// Pods, trimmed.
    pub pods: OwnedIndex<PodFacts>,
    /// TrainingJobs.
    pub jobs: OwnedIndex<JobFacts>,
    /// ModelDeployments, under the run that deployed them last.
    pub deployments: OwnedIndex<ServingFacts>,
    /// Records of runs.
    pub records: OwnedIndex<RevisionFacts>,
    /// Claims, by their metadata.
    pub claims: OwnedIndex<ClaimMeta>,
}

/// A claim of a run.
#[derive(Clone, Debug)]
pub struct ClaimMeta(Arc<ChildMeta>);

impl Child for ClaimMeta {
    fn meta(&self) -> &ChildMeta {
        &self.0
    }
}

impl From<PartialObjectMeta<PersistentVolumeClaim>> for ClaimMeta {
    fn from(claim: PartialObjectMeta<PersistentVolumeClaim>) -> Self {
        ClaimMeta(Arc::new(ChildMeta::new(&claim.metadata)))
    }
}

impl Caches {
    /// The children of a run, each as its own cache has it. What is looked at is found by the name that it must have.
    pub fn observe(&self, namespace: &str, name: &str, uid: &str) -> Observed {
        let family = names::family(name, uid);
        Observed {
            pods: self.pods.of(namespace, uid),
            jobs: self.jobs.of(namespace, uid),
            deployments: self.deployments.of(namespace, uid),
            record: named(&self.records.of(namespace, uid), &family).cloned(),
            claim: named(&self.claims.of(namespace, uid), &family).map(|claim| claim.0.clone()),
        }
    }
}
