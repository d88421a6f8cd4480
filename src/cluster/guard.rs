//! One object that cannot be read is an error of its own, and no obstacle to the others in its list.
//!
//! kube's own guard buffers the object as a tree first, and the parser gives up on a tree that is nested too deeply: a
//! user could then stop the watch of everybody's objects with one template. Here the object is taken as text, which is
//! skipped over without recursion, and read for itself.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object, or what is known of one that cannot be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read as its type.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// What the parser says.
    pub error: String,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status, as a tree; null if that cannot be read either.
    pub status: Value,
}

#[derive(Deserialize)]
struct WithoutSpec {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    status: Value,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Guarded(serde_json::from_str(text.get()).map_err(|error| {
            let rest = serde_json::from_str::<WithoutSpec>(text.get()).map(|rest| (rest.metadata, rest.status));
            let (metadata, status) = rest.unwrap_or_default();
            Unreadable { error: error.to_string(), metadata, status }
        })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TrainingJob;
    use kube::ResourceExt;
    use kube::core::{ObjectList, WatchEvent};

    fn job(name: &str, extra: &str) -> String {
        format!(
            r#"{{"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {{"name": "{name}"}},
                "spec": {{"framework": "none", "template": {{"spec": {{"containers": [{{"name": "c"}}], "x": {extra}}}}}}}}}"#
        )
    }

    #[test]
    fn one_bad_object_leaves_its_list_readable() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let odd = r#"{"metadata": {"name": "odd"}, "spec": {"framework": "of tomorrow"}}"#;
        let list = format!(
            r#"{{"kind": "TrainingJobList", "apiVersion": "trainyard.dev/v1alpha1", "metadata": {{"resourceVersion": "7"}},
                "items": [{}, {}, {odd}]}}"#,
            job("good", "1"),
            job("deep", &deep),
        );
        let list: ObjectList<Guarded<TrainingJob>> = serde_json::from_str(&list).unwrap();
        let read: Vec<(String, bool)> = list.items.iter().map(|job| (job.name_any(), job.0.is_ok())).collect();
        assert_eq!(read, [("good".into(), true), ("deep".into(), false), ("odd".into(), false)]);

        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, job("deep", &deep));
        let event: WatchEvent<Guarded<TrainingJob>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(job) if job.name_any() == "deep" && job.0.is_err()));
    }
}
