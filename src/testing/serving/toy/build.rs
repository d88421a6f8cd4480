//! What the toy makes.

use serde_json::{Value, json};

use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::serving::oracle::min_ready;

/// The selector of a Service or PodDisruptionBudget.
pub(super) fn selector(owner: &Value) -> Value {
    let name = &owner["metadata"]["name"];
    json!({ names::LABEL_DEPLOYMENT: name, names::LABEL_INCARNATION: names::incarnation(json::uid(owner)) })
}

/// What a spec makes revisions from.
pub(super) fn content(owner: &Value) -> Value {
    let mut content = json!({ "template": owner["spec"]["template"] });
    if let Some(model) = json::at(owner, "/spec/model") {
        content["model"] = model.clone();
    }
    content
}

/// Tells contents apart.
pub(super) fn hash(content: &Value) -> String {
    names::short_hash(content.to_string().as_bytes(), 10)
}

/// The ControllerRevision of a number.
pub(super) fn record(owner: &Value, number: u64, content: &Value) -> Value {
    let mut record = child(owner, Resource::ControllerRevision, &name_of(owner, number));
    mark(&mut record, number, content);
    record["revision"] = number.into();
    record["data"] = content.clone();
    record
}

/// The Deployment of a number.
pub(super) fn deployment(owner: &Value, number: u64, content: &Value, replicas: u64) -> Value {
    let mut deployment = child(owner, Resource::Deployment, &name_of(owner, number));
    mark(&mut deployment, number, content);
    let mut labels = selector(owner);
    labels[names::LABEL_REVISION] = number.to_string().into();
    let mut template = content["template"].clone();
    template["metadata"]["labels"] = labels.clone();
    let uri = json::text(content, "/model/uri").and_then(|uri| uri.strip_prefix("pvc://"));
    if let Some(claim) = uri.and_then(|uri| uri.split('/').next()) {
        template["spec"]["volumes"] = json!([{ "name": "model", "persistentVolumeClaim": { "claimName": claim } }]);
    }
    let min_ready = min_ready(owner);
    deployment["spec"] = json!({ "replicas": replicas, "minReadySeconds": min_ready, "selector": { "matchLabels": labels }, "template": template });
    deployment
}

/// The Service.
pub(super) fn service(owner: &Value) -> Value {
    let mut service = child(owner, Resource::Service, owner["metadata"]["name"].as_str().unwrap_or_default());
    service["spec"] = json!({ "selector": selector(owner), "ports": [{ "port": 80 }] });
    service
}

/// The PodDisruptionBudget.
pub(super) fn budget(owner: &Value) -> Value {
    let name = names::family(owner["metadata"]["name"].as_str().unwrap_or_default(), json::uid(owner));
    let mut budget = child(owner, Resource::PodDisruptionBudget, &name);
    budget["spec"] = json!({ "maxUnavailable": 1, "selector": { "matchLabels": selector(owner) } });
    budget
}

/// A change of fields of the spec of an object that is there.
pub(super) fn change(id: &ObjectId, present: &Value, spec: Value) -> Value {
    json!({
        "apiVersion": id.resource.api_version(), "kind": id.resource.kind(), "spec": spec,
        "metadata": {
            "name": id.name, "namespace": id.namespace, "uid": json::uid(present),
            "resourceVersion": present["metadata"]["resourceVersion"],
        },
    })
}

fn name_of(owner: &Value, number: u64) -> String {
    let name = owner["metadata"]["name"].as_str().unwrap_or_default();
    names::revision(name, json::uid(owner), number.try_into().unwrap_or(i64::MAX))
}

fn mark(object: &mut Value, number: u64, content: &Value) {
    object["metadata"]["labels"][names::LABEL_REVISION] = number.to_string().into();
    object["metadata"]["annotations"] = json!({ names::ANNOTATION_REVISION_HASH: hash(content) });
}

fn child(owner: &Value, resource: Resource, name: &str) -> Value {
    let reference = json!({
        "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment", "name": owner["metadata"]["name"],
        "uid": json::uid(owner), "controller": true,
    });
    json!({
        "apiVersion": resource.api_version(), "kind": resource.kind(),
        "metadata": { "name": name, "labels": selector(owner), "ownerReferences": [reference] },
    })
}
