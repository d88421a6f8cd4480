//! What users do to PipelineRuns and to what runs make.

use serde_json::{Value, json};

use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::jobs::fates::FATES;
use crate::testing::json;
use crate::testing::script::Action;
use crate::testing::story::Actor;

/// A user cancels a run.
pub(super) fn cancel(run: &ObjectId) -> Action {
    Action::edit("cancel", run, |spec| spec["cancel"] = true.into())
}

/// A user puts another definition into a Pipeline.
pub(super) fn redefine(pipeline: &ObjectId, definition: Value) -> Action {
    Action::edit("redefine", pipeline, move |spec| *spec = definition.clone())
}

/// A user deletes the n-th child of a kind of a run, in order of name, if there are so many.
pub(super) fn delete_nth_child(run: &ObjectId, resource: Resource, nth: usize) -> Action {
    let run = run.clone();
    Action::deed(format!("delete {} {nth} of {run}", resource.kind()), move |world| {
        let children = world.objects(resource);
        let is_its = |object: &Value| json::label(object, names::LABEL_RUN) == Some(&run.name);
        if let Some((child, _)) = children.iter().filter(|(_, object)| is_its(object)).nth(nth) {
            world.delete_as(Actor::Person, child);
        }
    })
}

/// Somebody's pod takes the name of the first pod of a step; with labels it looks like a child to a watch.
pub(super) fn plant_pod(run: &ObjectId, step: &'static str, with_labels: bool) -> Action {
    let run = run.clone();
    Action::deed(format!("plant a pod in the way of step {step} of {run}"), move |world| {
        let Some(uid) = world.get(&run).map(|run| json::uid(&run).to_owned()) else { return };
        let mut labels = json!({ "app": "somebody-else" });
        if with_labels {
            labels[names::LABEL_RUN] = run.name.as_str().into();
        }
        let spec = json!({ "containers": [{ "name": "main", "image": "example/other:1" }] });
        let id = ObjectId::new(Resource::Pod, &run.namespace, &names::step_child(&run.name, &uid, step, 1));
        world.plant(&id, &run, json!({ "metadata": { "labels": labels }, "spec": spec }));
    })
}

/// Somebody makes an object that looks in everything like the child of a step's first attempt, and succeeds at once.
pub(super) fn forge_child(run: &ObjectId, step: &'static str, resource: Resource) -> Action {
    let run = run.clone();
    Action::deed(format!("forge the {} of step {step} of {run}", resource.kind()), move |world| {
        let Some(uid) = world.get(&run).map(|run| json::uid(&run).to_owned()) else { return };
        let name = names::step_child(&run.name, &uid, step, 1);
        if world.get(&ObjectId::new(resource, &run.namespace, &name)).is_some() {
            return;
        }
        let report = json!([{ "ends": "Well", "says": json!({ "score": 0.77, "note": "forged" }).to_string() }]);
        let annotations = json!({ FATES: report.to_string(), names::ANNOTATION_LAUNCH_TOKEN: "forged" });
        let spec = json!({ "containers": [{ "name": "main", "image": "example/other:1" }] });
        let owner = json!({
            "apiVersion": run.resource.api_version(), "kind": run.resource.kind(),
            "name": run.name, "uid": uid, "controller": true,
        });
        let metadata = json!({
            "name": name,
            "namespace": run.namespace,
            "labels": { names::LABEL_RUN: run.name, names::LABEL_STEP: step, names::LABEL_ATTEMPT: "1" },
            "annotations": annotations,
            "ownerReferences": [owner],
        });
        let spec = match resource {
            Resource::Pod => spec,
            _ => json!({
                "framework": "none",
                "template": { "metadata": { "annotations": { FATES: report.to_string() } }, "spec": spec },
            }),
        };
        world.create_by_person(resource, json!({ "metadata": metadata, "spec": spec }));
    })
}

/// Somebody puts a record under the name of a run's before it has one: rubbish, or with steps of their own.
pub(super) fn forge_record(run: &ObjectId, is_rubbish: bool) -> Action {
    let run = run.clone();
    Action::deed(format!("forge the record of {run}"), move |world| {
        let Some(uid) = world.get(&run).map(|run| json::uid(&run).to_owned()) else { return };
        let id = ObjectId::new(Resource::ControllerRevision, &run.namespace, &names::family(&run.name, &uid));
        if world.get(&id).is_some() {
            return;
        }
        let container = json!({ "name": "main", "image": "example/other:1" });
        let steps = json!([{ "name": "theirs", "run": { "spec": { "containers": [container] } } }]);
        let data = match is_rubbish {
            true => json!({ "a": 1 }),
            false => json!({ "pipeline": { "hash": "" }, "parameters": {}, "spec": { "steps": steps } }),
        };
        let owner = json!({
            "apiVersion": run.resource.api_version(), "kind": run.resource.kind(),
            "name": run.name, "uid": uid, "controller": true,
        });
        let metadata = json!({
            "name": id.name,
            "namespace": id.namespace,
            "labels": { names::LABEL_RUN: run.name },
            "ownerReferences": [owner],
        });
        world.create_by_person(
            Resource::ControllerRevision,
            json!({ "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1, "data": data }),
        );
    })
}

/// A user makes a ModelDeployment of their own, if the name is free.
pub(super) fn own_model(namespace: &'static str, name: &'static str) -> Action {
    Action::deed(format!("make ModelDeployment {name} by hand"), move |world| {
        let container = json!({ "name": "server", "image": "example/good:9", "ports": [{ "containerPort": 8080 }] });
        let spec = json!({ "template": { "spec": { "containers": [container] } } });
        if world.get(&ObjectId::new(Resource::ModelDeployment, namespace, name)).is_none() {
            let metadata = json!({ "name": name, "namespace": namespace });
            world.create_by_person(Resource::ModelDeployment, json!({ "metadata": metadata, "spec": spec }));
        }
    })
}
