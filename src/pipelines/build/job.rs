//! The TrainingJob of one attempt of a step.

use serde_json::{Value, json};

use super::{Attempt, rename_values};
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;

/// Builds the job; `spec` has its values already.
pub fn build_job(attempt: Attempt, mut spec: Value) -> Value {
    rename_values(&mut spec);
    if let Some(pod) = spec.pointer_mut("/template/spec") {
        attempt.mount_files(pod);
    }
    json!({
        "apiVersion": Resource::TrainingJob.api_version(),
        "kind": Resource::TrainingJob.kind(),
        "metadata": attempt.metadata(),
        "spec": spec,
    })
}

/// Builds the change that stops a job: suspended, it says itself when none of its pods is left.
pub fn build_stop(job: &ChildMeta) -> Value {
    json!({
        "apiVersion": Resource::TrainingJob.api_version(),
        "kind": Resource::TrainingJob.kind(),
        "metadata": {
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "spec": {"suspend": true},
    })
}
