use super::lenient::tree;
use super::*;
use crate::api::TrainingJob;
use crate::cluster::pod::WatchedPod;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{ObjectList, WatchEvent};
use serde_json::{Value, json};

fn job(name: &str, extra: &str) -> String {
    format!(
        r#"{{"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {{"name": "{name}"}},
            "spec": {{"framework": "none", "template": {{"spec": {{"containers": [{{"name": "c"}}], "x": {extra}}}}}}}}}"#
    )
}

fn deep() -> String {
    format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000))
}

#[test]
fn one_bad_object_leaves_its_list_readable() {
    let odd = r#"{"metadata": {"name": "odd"}, "spec": {"framework": "of tomorrow"}}"#;
    let list = format!(
        r#"{{"kind": "TrainingJobList", "apiVersion": "trainyard.dev/v1alpha1", "metadata": {{"resourceVersion": "7"}},
            "items": [{}, {}, {odd}, 1, null]}}"#,
        job("good", "1"),
        job("deep", &deep()),
    );
    let list: ObjectList<Guarded<TrainingJob>> = serde_json::from_str(&list).unwrap();
    let read: Vec<(String, bool)> = list.items.iter().map(|job| (job.name_any(), job.0.is_ok())).collect();
    let nameless = || (String::new(), false);
    assert_eq!(read, [("good".into(), true), ("deep".into(), false), ("odd".into(), false), nameless(), nameless()]);

    let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, job("deep", &deep()));
    let event: WatchEvent<Guarded<TrainingJob>> = serde_json::from_str(&event).unwrap();
    assert!(matches!(event, WatchEvent::Modified(job) if job.name_any() == "deep" && job.0.is_err()));
}

#[test]
fn what_cannot_be_read_says_in_which_part_and_keeps_its_status() {
    let template = r#""template": {"spec": {"containers": [{"name": "c"}]}}"#;
    for (spec, status, part) in [
        (format!(r#"{{"framework": "none", {template}}}"#), r#"{"startTime": "9999-12-31T23:59:59Z"}"#, "status"),
        (format!(r#"{{"framework": 5, {template}}}"#), r#"{"message": "m"}"#, "spec"),
        ("null".to_owned(), r#"{"message": "m"}"#, "spec"),
    ] {
        let text = format!(r#"{{"metadata": {{"name": "n"}}, "spec": {spec}, "status": {status}}}"#);
        let job: Guarded<TrainingJob> = serde_json::from_str(&text).unwrap();
        let unreadable = job.0.unwrap_err();
        assert_eq!((unreadable.part, &*unreadable.status), (part, status), "{spec}");
        assert_eq!(unreadable.metadata.name.as_deref(), Some("n"), "{spec}");
    }
    let long = format!(r#"{{"metadata": {{}}, "spec": {{"framework": "{}"}}}}"#, "x".repeat(100_000));
    let job: Guarded<TrainingJob> = serde_json::from_str(&long).unwrap();
    assert!(job.0.unwrap_err().error.len() <= LONGEST_ERROR, "the parser quotes what it does not know");
}

#[test]
fn metadata_is_read_field_by_field() {
    let text = json!({
        "name": "n", "namespace": "ns", "uid": "u", "resourceVersion": 7, "generation": "many",
        "labels": {"a": "b", "number": 1, "object": {"c": "d"}, "null": null},
        "annotations": ["no", "map"],
        "finalizers": ["f", 3, {}],
        "creationTimestamp": "yesterday",
        "deletionTimestamp": "whenever",
        "deletionGracePeriodSeconds": 30.5,
        "ownerReferences": [
            7, {"kind": "K"}, {"kind": "K", "name": "o", "uid": "x".repeat(1_000), "controller": true},
            {"kind": "K", "name": "o", "uid": "u", "controller": true}, {"kind": "K", "name": "p", "uid": "v", "controller": "yes"},
        ],
        "managedFields": [{"manager": "kubectl", "time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:a": {}}}, {"manager": "m", "time": 1}, "x"],
    });
    let text = text.to_string();
    let fields: &RawValue = serde_json::from_str(&text).unwrap();
    let meta = Fields::of(fields).metadata();
    assert_eq!(
        (meta.name.as_deref(), meta.namespace.as_deref(), meta.uid.as_deref()),
        (Some("n"), Some("ns"), Some("u"))
    );
    assert_eq!((meta.resource_version.as_deref(), meta.generation), (Some("7"), None));
    let labels: Vec<(&str, &str)> =
        meta.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("a", "b"), ("null", "null"), ("number", "1")]);
    assert_eq!(meta.annotations, Some([].into()));
    assert_eq!(meta.finalizers, Some(vec!["f".to_owned(), "3".to_owned()]));
    assert_eq!(meta.creation_timestamp, None);
    assert_eq!(meta.deletion_timestamp.unwrap().0, Timestamp::MAX, "that it is being deleted is known");
    let owners = meta.owner_references.unwrap();
    let owners: Vec<(&str, Option<bool>)> =
        owners.iter().map(|owner| (owner.name.as_str(), owner.controller)).collect();
    assert_eq!(owners, [("o", Some(true)), ("p", None)], "one whose UID no object can have is nobody");
    let managers = meta.managed_fields.unwrap();
    assert_eq!(managers[0].time.as_ref().unwrap().0, Timestamp::MAX);
    assert!(managers.iter().all(|entry| entry.fields_v1.is_none()) && managers[1].time == managers[0].time);
}

#[test]
fn a_child_that_cannot_be_read_is_there_and_has_not_ended() {
    let text = r#"{"metadata": {"name": "p", "labels": {"trainyard.dev/attempt": "2"}}, "status": {"phase": "Failed", "podIPs": 5}}"#;
    let pod: Guarded<WatchedPod> = serde_json::from_str(text).unwrap();
    assert!(pod.0.is_err());
    let facts = crate::cluster::pod::PodFacts::from(pod.or_bare());
    assert_eq!((facts.meta.name.as_str(), facts.attempt, facts.is_terminal()), ("p", 2, false));
}

#[test]
fn a_tree_lacks_what_is_too_deep_and_who_manages_which_field() {
    let deep = deep();
    let text = format!(
        r#"{{"metadata": {{"name": "n", "managedFields": [{deep}]}}, "spec": {{"a": 1}}, "status": {deep}, "kind": "Pod"}}"#
    );
    assert_eq!(tree(&text).unwrap(), json!({"metadata": {"name": "n"}, "spec": {"a": 1}, "kind": "Pod"}));
    assert_eq!(tree(r#"{"metadata": 5}"#).unwrap(), json!({}));
    assert!(tree("[]").is_err() && tree("").is_err());
    assert_eq!(tree("{}").unwrap(), Value::Object(serde_json::Map::default()));
}
