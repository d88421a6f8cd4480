//! Deployments, their revisions, Services and PodDisruptionBudgets as far as a controller looks at them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::guard::watched_as;
use super::index::{Child, ChildMeta};
use super::pod::kept;
use crate::names;

/// What is kept of a Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Label: number of the revision that it runs.
    pub revision: i64,
    /// Annotation: hash of that revision.
    pub hash: String,
    /// Pods that it should have.
    pub wanted: i32,
    /// Pods that it has, as far as its own controller has counted.
    pub replicas: i32,
    /// Its pods that serve, that is, are ready.
    pub ready: i32,
    /// Its pods that have served for [`DeploymentFacts::min_ready`].
    pub available: i32,
    /// `spec.minReadySeconds`.
    pub min_ready: i32,
    /// Whether its template was changed after it was made.
    pub was_changed: bool,
    /// Whether its controller has brought its pods down to what it should have. Before that the counts may be of pods that
    /// are going, and raising it again would take them for pods that stay.
    pub settled: bool,
    /// Why pods cannot be created, in the apiserver's words (condition ReplicaFailure).
    pub refused: Option<String>,
}

impl Child for DeploymentFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// A Deployment as it comes from a watch. Its template is skipped over: a time in it is the user's, and may be any text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedDeployment {
    metadata: ObjectMeta,
    spec: WatchedReplicas,
    status: WatchedCounts,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedReplicas {
    replicas: Option<i32>,
    min_ready_seconds: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedCounts {
    observed_generation: Option<i64>,
    replicas: Option<i32>,
    ready_replicas: Option<i32>,
    available_replicas: Option<i32>,
    conditions: Option<Vec<WatchedCondition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    message: Option<String>,
}

watched_as!(WatchedDeployment, k8s_openapi::api::apps::v1::Deployment);

impl From<WatchedDeployment> for DeploymentFacts {
    fn from(deployment: WatchedDeployment) -> Self {
        let WatchedDeployment { metadata, spec, status } = deployment;
        let wanted = spec.replicas.unwrap_or(1);
        let replicas = status.replicas.unwrap_or_default();
        let is_counted = status.observed_generation >= metadata.generation;
        let failed = |condition: &WatchedCondition| condition.type_ == "ReplicaFailure" && condition.status == "True";
        let refused = status.conditions.into_iter().flatten().find(failed);
        DeploymentFacts {
            meta: ChildMeta::new(&metadata),
            revision: revision(&metadata),
            hash: annotation(&metadata, names::ANNOTATION_REVISION_HASH),
            wanted,
            replicas,
            settled: is_counted && replicas <= wanted,
            // Until its controller has counted again, what was taken away still counts.
            ready: status.ready_replicas.unwrap_or_default().min(wanted),
            available: status.available_replicas.unwrap_or_default().min(wanted),
            min_ready: spec.min_ready_seconds.unwrap_or_default(),
            was_changed: templates(&metadata) > 1,
            refused: kept(refused.and_then(|condition| condition.message)),
        }
    }
}

/// What is kept of a ControllerRevision of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevisionFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Its number.
    pub number: i64,
    /// Annotation: hash of its data.
    pub hash: String,
    /// Annotation: what changed from the revision before.
    pub change: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it holds, as JSON text: thousands of them are kept.
    pub data: Arc<str>,
}

impl Child for RevisionFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// A ControllerRevision as it comes from a watch. Its data is skipped over without recursion: what a user nested too deeply
/// for the parser must not stop the watch of everybody's records.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedRevision {
    metadata: ObjectMeta,
    revision: i64,
    data: Option<Box<RawValue>>,
}

watched_as!(WatchedRevision, k8s_openapi::api::apps::v1::ControllerRevision);

impl From<WatchedRevision> for RevisionFacts {
    fn from(revision: WatchedRevision) -> Self {
        let meta = ChildMeta::new(&revision.metadata);
        // StatefulSets and DaemonSets have ControllerRevisions too, with the labels of their templates.
        let data = revision.data.filter(|_| meta.owner.is_some());
        RevisionFacts {
            meta,
            number: revision.revision,
            hash: annotation(&revision.metadata, names::ANNOTATION_REVISION_HASH),
            change: annotation(&revision.metadata, names::ANNOTATION_CHANGE),
            created: revision.metadata.creation_timestamp.map(|time| time.0).unwrap_or_default(),
            data: data.map(|data| data.get().into()).unwrap_or_default(),
        }
    }
}

/// What is kept of a Service of ours that leads to pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Labels of the pods that it leads to.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<PortFacts>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortFacts {
    /// Number within the Service.
    pub port: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// Name within the Service.
    pub name: String,
    /// Name or number of the pods' port.
    pub target: String,
}

impl Child for RouteFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

impl From<ServicePort> for PortFacts {
    fn from(port: ServicePort) -> Self {
        let target = match port.target_port {
            Some(IntOrString::String(name)) => name,
            Some(IntOrString::Int(number)) => number.to_string(),
            None => port.port.to_string(),
        };
        let protocol = port.protocol.unwrap_or_else(|| "TCP".to_owned());
        PortFacts { port: port.port, protocol, name: port.name.unwrap_or_default(), target }
    }
}

/// A Service as it comes from a watch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedService {
    metadata: ObjectMeta,
    spec: WatchedRoute,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedRoute {
    selector: Option<BTreeMap<String, String>>,
    ports: Option<Vec<ServicePort>>,
}

watched_as!(WatchedService, k8s_openapi::api::core::v1::Service);

impl From<WatchedService> for RouteFacts {
    fn from(service: WatchedService) -> Self {
        let WatchedService { metadata, spec } = service;
        let mut ports: Vec<PortFacts> = spec.ports.into_iter().flatten().map(PortFacts::from).collect();
        ports.sort();
        RouteFacts { meta: ChildMeta::new(&metadata), selector: spec.selector.unwrap_or_default(), ports }
    }
}

/// What is kept of a PodDisruptionBudget of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Pods that a drain may take at a time: a number or a percentage.
    pub max_unavailable: String,
}

impl Child for BudgetFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// A PodDisruptionBudget as it comes from a watch.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedBudget {
    metadata: ObjectMeta,
    spec: WatchedLimit,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedLimit {
    max_unavailable: Option<IntOrString>,
}

watched_as!(WatchedBudget, k8s_openapi::api::policy::v1::PodDisruptionBudget);

impl From<WatchedBudget> for BudgetFacts {
    fn from(budget: WatchedBudget) -> Self {
        let max_unavailable = match budget.spec.max_unavailable {
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(part)) => part,
            None => String::new(),
        };
        BudgetFacts { meta: ChildMeta::new(&budget.metadata), max_unavailable }
    }
}

/// How many templates the Deployment has had, as its own controller counts them in this annotation:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#checking-rollout-history-of-a-deployment>.
fn templates(meta: &ObjectMeta) -> i64 {
    annotation(meta, "deployment.kubernetes.io/revision").parse().unwrap_or(1)
}

fn revision(meta: &ObjectMeta) -> i64 {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(names::LABEL_REVISION));
    label.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The value of an annotation, as far as it is kept: others decide how long it is.
fn annotation(meta: &ObjectMeta, key: &str) -> String {
    let value = meta.annotations.as_ref().and_then(|annotations| annotations.get(key));
    kept(value.cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_kept_however_deep_it_is() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let owner = r#"[{"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment", "name": "d", "uid": "u", "controller": true}]"#;
        let text =
            format!(r#"{{"metadata": {{"name": "r", "ownerReferences": {owner}}}, "revision": 2, "data": {deep}}}"#);
        let facts = RevisionFacts::from(serde_json::from_str::<WatchedRevision>(&text).unwrap());
        assert_eq!((facts.number, facts.data.len()), (2, deep.len()));
        let owned = json!({"ownerReferences": serde_json::from_str::<serde_json::Value>(owner).unwrap()});
        for (metadata, data) in [(owned, r#"{"a":[1,2]}"#), (json!({}), "")] {
            let tree = json!({"metadata": metadata, "revision": 1, "data": {"a": [1, 2]}});
            let facts = RevisionFacts::from(serde_json::from_value::<WatchedRevision>(tree).unwrap());
            assert_eq!(&*facts.data, data, "only what is of ours is kept");
        }
    }

    #[test]
    fn keeps_what_decisions_need() {
        let deployment: WatchedDeployment = serde_json::from_value(json!({
            "metadata": {"name": "d", "labels": {"trainyard.dev/revision": "3"}, "annotations": {
                "trainyard.dev/revision-hash": "h", "deployment.kubernetes.io/revision": "2",
            }},
            "spec": {"replicas": 1, "minReadySeconds": 10, "selector": {}, "template": {}},
            "status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]},
        }))
        .unwrap();
        let facts = DeploymentFacts::from(deployment);
        assert_eq!((facts.revision, facts.hash.as_str(), facts.wanted), (3, "h", 1));
        assert_eq!((facts.replicas, facts.available), (2, 1), "what was taken away serves no more");
        assert_eq!((facts.ready, facts.min_ready, facts.was_changed), (1, 10, true));
        assert_eq!(facts.refused.as_deref(), Some("quota"));

        let service: WatchedService = serde_json::from_value(json!({
            "metadata": {"name": "s"},
            "spec": {"selector": {"a": "b"}, "ports": [{"port": 90, "name": "y"}, {"port": 80, "name": "x", "targetPort": "http"}]},
        }))
        .unwrap();
        let route = RouteFacts::from(service);
        let targets: Vec<(i32, &str)> = route.ports.iter().map(|port| (port.port, port.target.as_str())).collect();
        assert_eq!(targets, [(80, "http"), (90, "90")]);
    }
}
