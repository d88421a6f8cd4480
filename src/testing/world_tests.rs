//! The simulated apiserver keeps the promises that the real one makes and the port relies on.

use futures::executor::block_on;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::faults::{ApiFaults, CrashPoint};
use super::json;
use super::story::{Actor, Verb};
use super::world::World;
use crate::cluster::port::{ApiError, ApiServer, EventDraft, EventType, ObjectId, Resource};

fn world() -> World {
    World::new(1, ApiFaults::none())
}

fn job() -> ObjectId {
    ObjectId::new(Resource::TrainingJob, "team", "digits")
}

fn pod_id(name: &str) -> ObjectId {
    ObjectId::new(Resource::Pod, "team", name)
}

fn create_job(world: &World) -> String {
    let manifest = json!({ "metadata": { "name": "digits", "namespace": "team" }, "spec": { "nodes": 2 } });
    world.create_by_person(Resource::TrainingJob, manifest)
}

fn pod(name: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "spec": { "containers": [{ "name": "main" }] },
        "metadata": {
            "name": name, "labels": { "trainyard.dev/job": "digits" },
            "ownerReferences": [{ "uid": owner, "controller": true }],
        },
    })
}

fn create(world: &World, object: &Value) -> Result<(), ApiError> {
    block_on(world.create(&pod_id(&json::id(Resource::Pod, object).name), object.to_string())).map(drop)
}

fn revision(world: &World, id: &ObjectId) -> String {
    json::text(&world.get(id).expect("it is there"), "/metadata/resourceVersion").expect("it has one").to_owned()
}

#[test]
fn a_name_is_taken_once() {
    let world = world();
    let owner = create_job(&world);
    assert_eq!(create(&world, &pod("a", &owner)), Ok(()));
    assert_eq!(create(&world, &pod("a", &owner)), Err(ApiError::AlreadyExists(pod_id("a"))));
    let created = world.get(&pod_id("a")).expect("it is there");
    assert_eq!(created["status"]["phase"], "Pending");
    assert_eq!(created["metadata"]["generation"], 1);
    assert!(matches!(create(&world, &pod("No Label", &owner)), Err(ApiError::Refused(_))));
}

#[test]
fn a_status_patch_needs_the_newest_version_and_makes_one_only_for_a_change() {
    let world = world();
    create_job(&world);
    let patch = |version: &str, status: Value| {
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": status, "spec": { "nodes": 9 } });
        block_on(world.patch_status(&job(), &patch)).map(drop)
    };
    let first = revision(&world, &job());
    assert_eq!(patch(&first, json!({ "attempt": 2 })), Ok(()));
    assert!(matches!(patch(&first, json!({ "attempt": 3 })), Err(ApiError::Conflict(_))));
    let second = revision(&world, &job());
    assert_ne!(first, second);
    assert_eq!(patch(&second, json!({ "attempt": 2 })), Ok(()));
    assert_eq!(revision(&world, &job()), second);
    assert_eq!(patch(&second, json!({ "attempt": null })), Ok(()));
    let object = world.get(&job()).expect("it is there");
    assert_eq!(object["status"], json!({ "observedGeneration": -1 }));
    assert_eq!((&object["spec"]["nodes"], &object["metadata"]["generation"]), (&json!(2), &json!(1)));
    let gone = ObjectId::new(Resource::TrainingJob, "team", "other");
    let unknown = block_on(world.patch_status(&gone, &json!({ "metadata": { "resourceVersion": "1" } })));
    assert_eq!(unknown, Err(ApiError::NotFound(gone)));
}

#[test]
fn apply_changes_the_very_object_that_was_meant_or_conflicts() {
    let world = world();
    let owner = create_job(&world);
    create(&world, &pod("a", &owner)).expect("the name is free");
    let apply = |uid: &str, version: &str| {
        let metadata = json!({ "name": "a", "uid": uid, "resourceVersion": version, "labels": { "x": "y" } });
        block_on(world.apply(Resource::Pod, "team", &json!({ "metadata": metadata })))
    };
    let (uid, version) =
        (json::uid(&world.get(&pod_id("a")).expect("it is there")).to_owned(), revision(&world, &pod_id("a")));
    assert!(matches!(apply("another", &version), Err(ApiError::Conflict(_))));
    assert_eq!(apply(&uid, &version), Ok(()));
    assert!(matches!(apply(&uid, &version), Err(ApiError::Conflict(_))));
    let labels = &world.get(&pod_id("a")).expect("it is there")["metadata"]["labels"];
    assert_eq!(labels, &json!({ "trainyard.dev/job": "digits", "x": "y" }));
    world.remove(Actor::Node, &pod_id("a"));
    assert!(matches!(apply(&uid, &version), Err(ApiError::Conflict(_))));
}

#[test]
fn deleting_spares_another_object_of_the_same_name_and_lets_running_pods_stop() {
    let world = world();
    let owner = create_job(&world);
    create(&world, &pod("a", &owner)).expect("the name is free");
    let uid = json::uid(&world.get(&pod_id("a")).expect("it is there")).to_owned();
    assert_eq!(block_on(world.delete(&pod_id("a"), "another", None)), Ok(()));
    let older = block_on(world.delete(&pod_id("a"), &uid, Some("0")));
    assert!(matches!(older, Err(ApiError::Conflict(_))), "{older:?}");
    assert!(world.get(&pod_id("a")).is_some());
    world.change(Actor::Node, &pod_id("a"), |pod| pod["spec"]["nodeName"] = "node-1".into());
    assert_eq!(block_on(world.delete(&pod_id("a"), &uid, None)), Ok(()));
    let stopping = world.get(&pod_id("a")).expect("it is asked to stop");
    let gone_by = json::time(&stopping, "/metadata/deletionTimestamp");
    assert_eq!(gone_by, Some(world.now() + SignedDuration::from_secs(30)));
    world.change(Actor::Node, &pod_id("a"), |pod| pod["status"]["phase"] = "Failed".into());
    assert_eq!(block_on(world.delete(&pod_id("a"), &uid, None)), Ok(()));
    assert!(world.get(&pod_id("a")).is_none(), "a pod that has ended goes at once");
    assert_eq!(block_on(world.delete(&pod_id("a"), &uid, None)), Ok(()));
}

#[test]
fn children_go_after_their_owner() {
    let world = world();
    let owner = create_job(&world);
    create(&world, &pod("before", &owner)).expect("the name is free");
    world.recreate(&job());
    create(&world, &pod("after", &owner)).expect("the apiserver does not look at owners");
    assert!(!world.collect_garbage(), "the collector takes its time");
    world.advance_to(world.now() + SignedDuration::from_mins(1));
    while world.collect_garbage() {}
    assert!(world.objects(Resource::Pod).is_empty());
    assert_ne!(json::uid(&world.get(&job()).expect("the new one stays")), owner);
}

#[test]
fn a_job_deleted_in_the_foreground_goes_last() {
    let world = world();
    let owner = create_job(&world);
    create(&world, &pod("a", &owner)).expect("the name is free");
    world.delete_in_foreground(&job());
    assert!(json::is_terminating(&world.get(&job()).expect("it is still there")));
    world.advance_to(world.now() + SignedDuration::from_secs(31));
    while world.collect_garbage() {}
    assert!(world.objects(Resource::Pod).is_empty() && world.get(&job()).is_some());
    world.advance_to(world.now() + SignedDuration::from_secs(31));
    while world.collect_garbage() {}
    assert!(world.get(&job()).is_none());
}

#[test]
fn reads_show_the_present_and_are_counted() {
    let world = world();
    let owner = create_job(&world);
    create(&world, &pod("a", &owner)).expect("the name is free");
    assert!(world.plant(&pod_id("b"), &job(), json!({})));
    let listed = block_on(ApiServer::list(&world, Resource::Pod, "team", "trainyard.dev/job", "digits", json::tree));
    assert_eq!(listed.map(|pods| pods.len()), Ok(1));
    assert_eq!(block_on(world.read(&pod_id("c"))), Ok(None));
    assert_eq!(world.reads().len(), 2);
}

#[test]
fn a_death_before_a_write_leaves_nothing_and_one_after_it_leaves_the_write() {
    for (point, is_there) in [(CrashPoint::BeforeWrite(2), false), (CrashPoint::AfterWrite(2), true)] {
        let world = world();
        let owner = create_job(&world);
        world.set_crash_point(Some(point));
        assert_eq!(create(&world, &pod("a", &owner)), Ok(()));
        let _ = create(&world, &pod("b", &owner));
        assert!(world.operator_is_dead());
        assert_eq!(world.get(&pod_id("b")).is_some(), is_there);
        assert_eq!(create(&world, &pod("c", &owner)), Err(ApiError::NotLeader));
        assert_eq!(block_on(world.read(&pod_id("a"))), Err(ApiError::NotLeader));
        let last = world.writes_since(0).pop().expect("two writes were sent");
        assert_eq!((last.number, last.verb, last.id), (2, Verb::Create, pod_id("b")));
    }
}

#[test]
fn a_lost_answer_hides_a_write_that_was_carried_out() {
    let faults = ApiFaults { answer_lost: 1.0, at_most: 1, ..ApiFaults::none() };
    let world = World::new(1, faults);
    let owner = create_job(&world);
    assert!(matches!(create(&world, &pod("a", &owner)), Err(ApiError::Unavailable(_))));
    assert!(world.get(&pod_id("a")).is_some());
    assert_eq!(create(&world, &pod("b", &owner)), Ok(()), "one fault was allowed");
    assert_eq!(world.writes_since(0).iter().map(|write| write.ok).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn pods_are_refused_while_the_quota_is_used_up() {
    let world = world();
    let owner = create_job(&world);
    world.set_quota_exceeded(true);
    assert!(matches!(create(&world, &pod("a", &owner)), Err(ApiError::QuotaExceeded(_))));
    world.set_quota_exceeded(false);
    world.set_pods_refused(true);
    assert!(matches!(create(&world, &pod("a", &owner)), Err(ApiError::Refused(_))));
    world.set_pods_refused(false);
    assert_eq!(create(&world, &pod("a", &owner)), Ok(()));
}

#[test]
fn events_are_kept_by_object() {
    let world = world();
    let note = "it began".to_owned();
    let event = EventDraft { event_type: EventType::Normal, reason: "Started", action: "Start", note };
    block_on(world.publish_event(&job(), "uid", &event));
    assert_eq!(world.events(&job()), [event]);
}

#[test]
fn a_record_keeps_its_data_and_a_deployment_its_selector() {
    let world = world();
    let record = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": { "name": "r" }, "revision": 1, "data": { "a": 1 },
    });
    let create = |resource, object: &Value| {
        let id = ObjectId::new(resource, "team", &json::id(resource, object).name);
        block_on(world.create(&id, object.to_string())).map(drop)
    };
    assert_eq!(create(Resource::ControllerRevision, &record), Ok(()));
    let labels = json!({ "matchLabels": { "x": "y" } });
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "selector": labels, "template": { "metadata": { "labels": { "x": "z" } } } },
    });
    assert!(matches!(create(Resource::Deployment, &deployment), Err(ApiError::Refused(_))));
    deployment["spec"]["template"]["metadata"]["labels"]["x"] = "y".into();
    assert_eq!(create(Resource::Deployment, &deployment), Ok(()));
    let apply = |resource: Resource, name: &str, change: Value| {
        let id = ObjectId::new(resource, "team", name);
        let present = world.get(&id).expect("it is there");
        let metadata = json!({ "name": name, "uid": json::uid(&present), "resourceVersion": revision(&world, &id) });
        let mut object = change;
        object["metadata"] = metadata;
        block_on(world.apply(resource, "team", &object)).map(|()| world.get(&id).expect("it is there"))
    };
    let change = json!({ "data": { "a": 2 } });
    assert!(matches!(apply(Resource::ControllerRevision, "r", change), Err(ApiError::Refused(_))));
    let change = json!({ "spec": { "selector": { "matchLabels": { "x": "w" } } } });
    assert!(matches!(apply(Resource::Deployment, "d", change), Err(ApiError::Refused(_))));
    let scaled =
        apply(Resource::Deployment, "d", json!({ "spec": { "replicas": 3 } })).expect("it is bound to the newest");
    assert_eq!((&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]), (&json!(3), &json!(2)));
}

#[test]
fn replicas_default_to_one() {
    let world = world();
    let manifest = json!({ "metadata": { "name": "digits", "namespace": "team" }, "spec": {} });
    world.create_by_person(Resource::ModelDeployment, manifest);
    let created = world.get(&ObjectId::new(Resource::ModelDeployment, "team", "digits")).expect("it is there");
    assert_eq!((&created["spec"]["replicas"], &created["status"]["observedGeneration"]), (&json!(1), &json!(-1)));
}
