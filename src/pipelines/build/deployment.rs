//! The ModelDeployment of a deploy step. It belongs to nobody: it outlives the run and the pipeline.

use serde_json::{Value, json};

use super::{Maker, rename_values};
use crate::cluster::port::Resource;
use crate::names;

/// Builds the deployment as the step wants it. Its label says for which step, since another of the run may deploy it later;
/// `pipeline_uid` says whose runs may change it.
pub fn build_deployment(run: Maker, step: &str, name: &str, pipeline_uid: &str, mut spec: Value) -> Value {
    rename_values(&mut spec);
    let mut metadata = marks(run, step);
    metadata["name"] = name.into();
    metadata["namespace"] = run.namespace.into();
    metadata["annotations"][names::ANNOTATION_PIPELINE_UID] = pipeline_uid.into();
    json!({
        "apiVersion": Resource::ModelDeployment.api_version(),
        "kind": Resource::ModelDeployment.kind(),
        "metadata": metadata,
        "spec": spec,
    })
}

/// What a deployment carries as long as that step was the last to deploy it.
pub fn marks(run: Maker, step: &str) -> Value {
    json!({
        "labels": {names::LABEL_RUN: run.name, names::LABEL_STEP: step},
        "annotations": {names::ANNOTATION_RUN_UID: run.uid},
    })
}
