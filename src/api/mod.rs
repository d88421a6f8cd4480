//! The resources as users write them: group `trainyard.dev`, version `v1alpha1`.
//!
//! Nothing here decides anything. Defaults are applied in [`crate::training::validate`], never by the schema inside a
//! list and never by writing `spec`, so that what stands in Git stays what stands in the cluster.

pub mod admission;
pub mod conditions;
mod duration;
mod pod_template;
pub mod training_job;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

pub use duration::Duration;
pub use pod_template::PodTemplate;
pub use training_job::{
    AttemptRecord, Backoff, Cause, EffectiveSpec, FailureLogs, FailurePolicy, Framework, MAX_ATTEMPT_RECORDS,
    MAX_NODES, PodCounts, ProcessesPerNode, TrainingJob, TrainingJobSpec, TrainingJobStatus,
};

/// Every CustomResourceDefinition, as JSON, in the order in which they are written to `crds/`.
pub fn crds() -> Vec<Value> {
    [TrainingJob::crd()].into_iter().map(finish).collect()
}

/// Gives `status` its default, which `kube`'s derive cannot say.
///
/// An object that nobody has looked at yet then has an observedGeneration that differs from its generation, which
/// kstatus reads as InProgress. Without it kstatus takes a fresh object for Current: a `kubectl wait` or a Flux health
/// check would pass before the operator's first write.
fn finish(crd: CustomResourceDefinition) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a CRD serialises");
    let versions = crd["spec"]["versions"].as_array_mut().expect("a CRD has versions");
    for version in versions {
        version["schema"]["openAPIV3Schema"]["properties"]["status"]["default"] = json!({"observedGeneration": -1});
    }
    crd
}
