//! The caches of a run's children, and what they show of one run.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::PartialObjectMeta;

use super::facts::{JobFacts, ServingFacts};
use super::observe::{Observed, named};
use super::status::is_finished;
use crate::api::PipelineRun;
use crate::cluster::index::{Child, ChildMeta, OwnedIndex};
use crate::cluster::pod::PodFacts;
use crate::cluster::workload::RevisionFacts;
use crate::names;
use crate::pipelines::definitions::facts::{NO_PIPELINE, RunFacts};

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
    /// Runs that have finished, under their Pipeline or under none.
    pub finished: OwnedIndex<RunFacts>,
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
    pub fn observe(&self, run: &PipelineRun) -> Observed {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let meta = &run.metadata;
        let (namespace, name, uid) = (&text(&meta.namespace), &text(&meta.name), &text(&meta.uid));
        let family = names::family(name, uid);
        let is_finished = run.status.as_ref().is_some_and(is_finished);
        Observed {
            of_no_pipeline: if is_finished { self.finished.of(namespace, NO_PIPELINE) } else { Vec::new() },
            pods: self.pods.of(namespace, uid),
            jobs: self.jobs.of(namespace, uid),
            deployments: self.deployments.of(namespace, uid),
            record: named(&self.records.of(namespace, uid), &family).cloned(),
            claim: named(&self.claims.of(namespace, uid), &family).map(|claim| claim.0.clone()),
        }
    }
}
