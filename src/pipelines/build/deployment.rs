//! The ModelDeployment of a deploy step. It belongs to nobody: it outlives the run and the pipeline.

use serde_json::{Value, json};

use super::Maker;
use crate::cluster::port::Resource;
use crate::names;

/// Builds the deployment as the step wants it. `pipeline_uid` says whose runs may change it.
pub fn build_deployment(run: Maker, name: &str, pipeline_uid: &str, spec: Value) -> Value {
    json!({
        "apiVersion": Resource::ModelDeployment.api_version(),
        "kind": Resource::ModelDeployment.kind(),
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": {names::LABEL_RUN: run.name},
            "annotations": {
                names::ANNOTATION_RUN_UID: run.uid,
                names::ANNOTATION_PIPELINE_UID: pipeline_uid,
            },
        },
        "spec": spec,
    })
}
