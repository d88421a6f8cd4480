//! A revision: the record of what it is made from, and the Deployment that runs it.

use serde_json::{Value, json};

use super::{change, metadata, pod, selector};
use crate::cluster::build::merged;
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;
use crate::names;
use crate::serving::content::Content;
use crate::serving::validate::ValidDeployment;

/// The Deployment's own deadline is not used: ours counts from the last progress and knows of the other revisions. With
/// this value Kubernetes leaves its condition Progressing alone, which saves writes.
const NO_DEADLINE: i32 = i32::MAX;

/// Builds the record, a ControllerRevision: the apiserver itself keeps its data from being changed.
pub fn build_record(deployment: &ValidDeployment, number: i64, content: &Content, change: &str) -> Value {
    let mut metadata = revision_metadata(deployment, number, content);
    if !change.is_empty() {
        metadata["annotations"][names::ANNOTATION_CHANGE] = change.into();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": number,
        "data": content.data(),
    })
}

/// Builds the Deployment with this number of pods.
pub fn build_deployment(deployment: &ValidDeployment, number: i64, content: &Content, replicas: i32) -> Value {
    let labels =
        merged(&selector(&deployment.name, &deployment.uid), &json!({names::LABEL_REVISION: number.to_string()}));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": revision_metadata(deployment, number, content),
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.min_ready,
            "selector": {"matchLabels": labels},
            "template": pod::build_template(deployment, number, content),
            "progressDeadlineSeconds": NO_DEADLINE,
            "revisionHistoryLimit": 0,
        },
    })
}

/// Builds a change of what the revision's pods have to show before they count, with their number: fields that are left out
/// of what is applied are given up.
pub fn build_tuning(deployment: &ValidDeployment, present: &ChildMeta, replicas: i32) -> Value {
    change(Resource::Deployment, present, json!({"replicas": replicas, "minReadySeconds": deployment.min_ready}))
}

fn revision_metadata(deployment: &ValidDeployment, number: i64, content: &Content) -> Value {
    let mut metadata = metadata(deployment, &names::revision(&deployment.name, &deployment.uid, number));
    metadata["labels"][names::LABEL_REVISION] = number.to_string().into();
    metadata["annotations"] = json!({names::ANNOTATION_REVISION_HASH: content.hash()});
    metadata
}
