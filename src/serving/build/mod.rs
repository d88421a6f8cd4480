//! What the operator makes: one file per built object, all of them pure functions of the deployment and a revision.

pub mod budget;
pub mod pod;
pub mod revision;
pub mod service;

use serde_json::{Value, json};

use super::validate::ValidDeployment;
use crate::cluster::build::{self, merged};
use crate::cluster::index::ChildMeta;
use crate::cluster::port::Resource;
use crate::names;

/// Metadata of a child.
fn metadata(deployment: &ValidDeployment, name: &str) -> Value {
    json!({
        "name": name,
        "namespace": deployment.namespace,
        "labels": merged(
            &build::common_labels(names::LABEL_DEPLOYMENT, &deployment.name),
            &json!({names::LABEL_INCARNATION: names::incarnation(&deployment.uid)}),
        ),
        "ownerReferences": [build::owner_reference(Resource::ModelDeployment, &deployment.name, &deployment.uid)],
    })
}

/// Labels that select the pods of all revisions of this life of the deployment.
pub fn selector(name: &str, uid: &str) -> Value {
    json!({names::LABEL_DEPLOYMENT: name, names::LABEL_INCARNATION: names::incarnation(uid)})
}

/// A change of a child that is ours: the fields that we own, bound to the version that was decided upon.
fn change(resource: Resource, child: &ChildMeta, spec: Value) -> Value {
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind(),
        "metadata": {
            "name": child.name,
            "namespace": child.namespace,
            "uid": child.uid,
            "resourceVersion": child.resource_version,
        },
        "spec": spec,
    })
}
