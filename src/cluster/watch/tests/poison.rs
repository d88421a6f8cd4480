//! Every type that is watched, with everything in it that somebody was found to be able to write, through kube's own lists
//! and watch events.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::core::{ObjectList, PartialObjectMeta, WatchEvent};
use serde::de::DeserializeOwned;

use super::*;
use crate::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use crate::cluster::endpoints::WatchedSlice;
use crate::cluster::guard::Guarded;
use crate::cluster::workload::{WatchedBudget, WatchedDeployment, WatchedRevision, WatchedService};

/// What is wrong, members of metadata, members of the object; and whether the object can be read all the same.
type Poison = (&'static str, String, String, bool);

fn poisons() -> Vec<Poison> {
    let deep = format!("{}1{}", r#"{"f:a":"#.repeat(5_000), "}".repeat(5_000));
    let metadata = |what, member: &str| (what, member.to_owned(), String::new(), true);
    let object = |what, member: String| (what, String::new(), member, false);
    let owner = r#""apiVersion": "trainyard.dev/v1alpha1", "kind": "K", "name": "o", "uid": "5""#;
    vec![
        metadata("nothing", ""),
        metadata("deep managedFields", &format!(r#""managedFields": [{{"manager": "m", "fieldsV1": {deep}}}]"#)),
        metadata("a late time in managedFields", r#""managedFields": [{"manager": "m", "time": "9999-12-31T23:59:59Z"}]"#),
        metadata("managedFields of the wrong type", r#""managedFields": {"a": 1}"#),
        metadata("a late creation", r#""creationTimestamp": "9999-12-31T23:59:59Z""#),
        metadata("a creation in no year", r#""creationTimestamp": "99999-01-01T00:00:00Z""#),
        metadata("a creation in words", r#""creationTimestamp": "yesterday""#),
        metadata("a late deletion", r#""deletionTimestamp": "9999-12-31T23:59:59Z", "deletionGracePeriodSeconds": 9223372036854775807"#),
        metadata("numbers as labels", r#""labels": {"trainyard.dev/job": 5, "x": 1e400}"#),
        metadata("labels of the wrong type", r#""labels": ["a"]"#),
        metadata("trees as annotations", r#""annotations": {"a": {"b": []}}"#),
        metadata("huge integers", r#""generation": 123456789012345678901234567890"#),
        metadata("null members", r#""labels": null, "annotations": null, "ownerReferences": null, "managedFields": null, "finalizers": null, "creationTimestamp": null"#),
        metadata("duplicate keys", r#""name": "n", "labels": {"a": "1", "a": "2"}, "labels": {}"#),
        metadata("owners of the wrong type", r#""ownerReferences": "nobody""#),
        metadata("owners of wrong types", &format!(r#""ownerReferences": [1, null, {{}}, {{"controller": "yes"}}, {{{owner}, "controller": 1}}]"#)),
        object("a status of the wrong type", r#""status": "fine""#.to_owned()),
        object("numbers in the status", r#""status": {"phase": 5, "replicas": "many", "conditions": 7, "message": 9}"#.to_owned()),
        object("a deep status", format!(r#""status": {deep}"#)),
        object("a spec of the wrong type", r#""spec": 5, "endpoints": 7, "revision": "one""#.to_owned()),
        object("a deep spec", format!(r#""spec": {deep}, "data": {deep}"#)),
        object("late times in the spec and the status", r#""spec": {"template": {"metadata": {"creationTimestamp": "9999-12-31T23:59:59Z"}}}, "status": {"startTime": "9999-12-31T23:59:59Z"}"#.to_owned()),
    ]
}

/// Reads an object with each poison, with `good` as its other members.
fn check<K>(good: &str)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    for (what, in_metadata, in_object, readable) in poisons() {
        let what = format!("{} with {what}", std::any::type_name::<K>());
        let after = |member: &str| if member.is_empty() { String::new() } else { format!(", {member}") };
        let text = format!(
            r#"{{"apiVersion": "trainyard.dev/v1alpha1", "kind": "K", "metadata": {{"name": "n", "namespace": "ns", "uid": "u", "resourceVersion": "7"{}}}{}{}}}"#,
            after(&in_metadata),
            after(good),
            after(&in_object),
        );
        let event: WatchEvent<Guarded<K>> =
            serde_json::from_str(&format!(r#"{{"type": "MODIFIED", "object": {text}}}"#)).expect(&what);
        let WatchEvent::Modified(from_event) = event else { panic!("{what}: {event:?}") };
        let list = format!(
            r#"{{"kind": "KList", "apiVersion": "v1", "metadata": {{"resourceVersion": "9"}}, "items": [{text}, {text}]}}"#
        );
        let list: ObjectList<Guarded<K>> = serde_json::from_str(&list).expect(&what);
        assert_eq!(list.items.len(), 2, "{what}");
        for object in list.items.into_iter().chain([from_event]) {
            let meta = object.meta();
            let identity = [&meta.name, &meta.namespace, &meta.uid, &meta.resource_version].map(Option::as_deref);
            assert_eq!(identity, ["n", "ns", "u", "7"].map(Some), "{what}");
            assert_eq!(meta.deletion_timestamp.is_some(), in_metadata.contains("deletionTimestamp"), "{what}");
            assert!(object.0.is_ok() || !readable, "{what}: {:?}", object.0);
            // What feeds a store must not panic.
            let _ = kube::runtime::reflector::ObjectRef::from_obj(&object);
        }
    }
}

#[test]
fn no_poison_costs_an_object_its_name_nor_its_neighbours_anything() {
    let template = r#"{"spec": {"containers": [{"name": "c", "image": "i"}]}}"#;
    check::<TrainingJob>(&format!(r#""spec": {{"framework": "none", "template": {template}}}"#));
    check::<ModelDeployment>(&format!(r#""spec": {{"template": {template}}}"#));
    check::<Pipeline>(r#""spec": {"steps": []}"#);
    check::<PipelineRun>(r#""spec": {"pipelineRef": {"name": "p"}}"#);
    check::<WatchedPod>(r#""status": {"phase": "Running"}"#);
    check::<WatchedSlice>(r#""endpoints": [{"addresses": ["10.0.0.1"], "hostname": "a"}]"#);
    check::<WatchedDeployment>(r#""spec": {"replicas": 1}, "status": {"replicas": 1}"#);
    check::<WatchedRevision>(r#""revision": 1, "data": {"a": 1}"#);
    check::<WatchedService>(r#""spec": {"ports": [{"port": 80}]}"#);
    check::<WatchedBudget>(r#""spec": {"maxUnavailable": "20%"}"#);
    check::<PartialObjectMeta<Service>>("");
    check::<PartialObjectMeta<PersistentVolumeClaim>>("");
}

#[test]
fn what_a_tenant_can_do_to_a_deployment_leaves_it_readable() {
    let text = r#"{"metadata": {"name": "n", "managedFields": [{"time": "9999-12-31T23:59:59Z"}]},
        "spec": {"replicas": 2, "template": {"metadata": {"creationTimestamp": "9999-12-31T23:59:59Z"}}},
        "status": {"availableReplicas": 1, "conditions": [{"type": "Progressing", "lastUpdateTime": "9999-12-31T23:59:59Z"}]}}"#;
    let deployment: Guarded<WatchedDeployment> = serde_json::from_str(text).unwrap();
    let facts = crate::cluster::workload::DeploymentFacts::from(deployment.0.unwrap());
    assert_eq!((facts.wanted, facts.available), (2, 1));

    let text = r#"{"metadata": {"name": "n"}, "status": {"phase": "Failed",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "9999-12-31T23:59:59Z"}],
        "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1, "finishedAt": "never"}}}]}}"#;
    let pod: Guarded<WatchedPod> = serde_json::from_str(text).unwrap();
    let facts = PodFacts::from(pod.0.unwrap());
    assert!(facts.is_terminal() && facts.disrupted.is_some() && facts.container("c").is_some());
}
