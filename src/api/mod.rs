//! The resources as users write them: group `trainyard.dev`, version `v1alpha1`.
//!
//! Nothing here decides anything. Defaults are applied in [`crate::training::validate`], never by the schema inside a
//! list and never by writing `spec`, so that what stands in Git stays what stands in the cluster.

pub mod admission;
mod amount;
pub mod conditions;
mod duration;
mod failure_logs;
pub mod model_deployment;
pub mod pipeline;
pub mod pipeline_run;
pub mod pipeline_step;
mod pod_template;
mod raw;
pub mod reserved;
mod schema;
pub mod training_job;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

pub use amount::Amount;
pub use duration::Duration;
pub use failure_logs::FailureLogs;
pub use model_deployment::{
    ContainerFailure, DisruptionBudget, EffectiveServing, MAX_LISTED_REVISIONS, MAX_MIN_READY_SECONDS, MAX_REPLICAS,
    MAX_REVISION_HISTORY, ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, ModelSource, RevisionStatus,
    Rollout, RolloutStatus,
};
pub use pipeline::{Pipeline, PipelineSpec, PipelineStatus};
pub use pipeline_run::{PipelineRun, PipelineRunSpec, PipelineRunStatus, StepState, StepStatus};
pub use pipeline_step::{PipelineDefinition, Step, ValueType};
pub use pod_template::PodTemplate;
pub use raw::{LONGEST_TEMPLATE, RawObject};
pub use training_job::{
    AttemptRecord, Backoff, Cause, EffectiveSpec, FailurePolicy, Framework, MAX_ATTEMPT_RECORDS, MAX_NODES, PodCounts,
    ProcessesPerNode, TrainingJob, TrainingJobSpec, TrainingJobStatus,
};

/// Every CustomResourceDefinition, as JSON, in the order in which they are written to `crds/`.
pub fn crds() -> Vec<Value> {
    [TrainingJob::crd(), ModelDeployment::crd(), Pipeline::crd(), PipelineRun::crd()].into_iter().map(finish).collect()
}

/// Gives `status` its default, which `kube`'s derive cannot say, and takes out formats that Kubernetes does not know.
///
/// An object that nobody has looked at yet then has an observedGeneration that differs from its generation, which
/// kstatus reads as InProgress. Without it kstatus takes a fresh object for Current: a `kubectl wait` or a Flux health
/// check would pass before the operator's first write.
fn finish(crd: CustomResourceDefinition) -> Value {
    let mut crd = serde_json::to_value(crd).expect("a CRD serialises");
    let versions = crd["spec"]["versions"].as_array_mut().expect("a CRD has versions");
    for version in versions {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        schema["properties"]["status"]["default"] = json!({"observedGeneration": -1});
        use_known_formats(schema);
    }
    crd
}

/// OpenAPI has int32 and int64; an apiserver warns about `uint32` at every apply.
fn use_known_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "uint32") {
                fields.insert("format".to_owned(), "int64".into());
            }
            fields.values_mut().for_each(use_known_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(use_known_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names the fields of a schema that lack a description.
    fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            undescribed(&path, field, found);
            undescribed(&path, &field["items"], found);
        }
    }

    #[test]
    fn every_field_is_described() {
        let mut found = Vec::new();
        for crd in crds() {
            undescribed("", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut found);
        }
        assert!(found.is_empty(), "fields without a description: {found:?}");
    }

    #[test]
    fn a_fresh_object_is_in_progress_for_kstatus() {
        let crd = &crds()[0];
        let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"], json!({"observedGeneration": -1}));
        assert!(!crd.to_string().contains("uint32"));
    }
}
