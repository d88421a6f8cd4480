//! Pieces of the objects that operators make.

use serde_json::{Map, Value, json};

use super::port::Resource;
use crate::names;

/// The ownerReference of a child. `blockOwnerDeletion` stays unset: setting it needs a right to the owner's finalizers,
/// and nothing outside the cluster has to be undone.
pub fn owner_reference(owner: Resource, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": owner.api_version(),
        "kind": owner.kind(),
        "name": name,
        "uid": uid,
        "controller": true,
    })
}

/// The labels of every child; `label` names the owner's kind. Labels of the owner itself are not copied: Argo CD would
/// take the children for its own.
pub fn common_labels(label: &str, owner: &str) -> Value {
    json!({"app.kubernetes.io/managed-by": names::OPERATOR, label: owner})
}

/// Both maps in one; the second wins.
pub fn merged(first: &Value, second: &Value) -> Value {
    let maps = [first, second].into_iter().filter_map(Value::as_object);
    maps.flatten().map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into()
}
