//! What users do to ModelDeployments.

use serde_json::{Value, json};

use crate::cluster::build::owner_reference;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::script::Action;
use crate::testing::story::Actor;
use crate::testing::world::World;

/// A user sets, or with null removes, a field of the spec: `/rollout/undoTo` for instance.
pub(super) fn set(id: &ObjectId, path: &'static str, value: impl Into<Value>) -> Action {
    let value = value.into();
    Action::edit(&format!("set {path} to {value}"), id, move |spec| {
        let mut patch = value.clone();
        for step in path.rsplit('/').filter(|step| !step.is_empty()) {
            patch = json!({ step: patch });
        }
        json_patch::merge(spec, &patch);
    })
}

/// A user sets the image of the container that serves.
pub(super) fn set_image(id: &ObjectId, image: &'static str) -> Action {
    Action::edit(&format!("set image {image}"), id, move |spec| {
        spec["template"]["spec"]["containers"][0]["image"] = image.into();
    })
}

/// A user takes away the ports of the container that serves, which makes the spec invalid, or gives them back.
pub(super) fn set_ports(id: &ObjectId, has_ports: bool) -> Action {
    Action::edit(&format!("set ports: {has_ports}"), id, move |spec| {
        let ports = if has_ports { json!([{ "containerPort": 8080 }]) } else { json!([]) };
        spec["template"]["spec"]["containers"][0]["ports"] = ports;
    })
}

/// A user deletes the n-th pod of a ModelDeployment, in order of name, if there are so many.
pub(super) fn delete_nth_pod(id: &ObjectId, nth: usize) -> Action {
    let id = id.clone();
    Action::deed(format!("delete pod {nth} of {id}"), move |world| {
        let is_its = |object: &Value| json::label(object, names::LABEL_DEPLOYMENT) == Some(&id.name);
        let pods = world.objects(Resource::Pod);
        let mut pods = pods.iter().filter(|(pod, object)| pod.namespace == id.namespace && is_its(object));
        if let Some((pod, _)) = pods.nth(nth) {
            world.delete_as(Actor::Person, pod);
        }
    })
}

/// A user deletes the n-th child of a kind by hand.
pub(super) fn delete_nth_child(id: &ObjectId, resource: Resource, nth: usize) -> Action {
    let id = id.clone();
    Action::deed(format!("delete {} {nth} of {id}", resource.kind()), move |world| {
        if let Some(child) = nth_child(world, &id, resource, nth) {
            world.delete_as(Actor::Person, &child);
        }
    })
}

/// A user, or an autoscaler that was pointed at the wrong object, scales the n-th Deployment by hand.
pub(super) fn scale_nth_deployment(id: &ObjectId, nth: usize, replicas: u32) -> Action {
    let id = id.clone();
    Action::deed(format!("scale Deployment {nth} of {id} to {replicas}"), move |world| {
        if let Some(child) = nth_child(world, &id, Resource::Deployment, nth) {
            world.update_spec(&child, |spec| spec["replicas"] = replicas.into());
        }
    })
}

/// Somebody, or a policy of the cluster, changes the template of the n-th Deployment.
pub(super) fn mutate_nth_deployment(id: &ObjectId, nth: usize) -> Action {
    let id = id.clone();
    Action::deed(format!("change the template of Deployment {nth} of {id}"), move |world| {
        if let Some(child) = nth_child(world, &id, Resource::Deployment, nth) {
            world.update_spec(&child, |spec| spec["template"]["metadata"]["labels"]["cost-center"] = "ml".into());
        }
    })
}

/// Somebody makes a ControllerRevision that looks like one of ours, with the highest number there is.
pub(super) fn forge_record(id: &ObjectId) -> Action {
    const NUMBER: i64 = i64::MAX;
    let id = id.clone();
    Action::deed(format!("forge revision {NUMBER} of {id}"), move |world| {
        let Some(owner) = world.get(&id) else { return };
        let (uid, name) = (json::uid(&owner), names::revision(&id.name, json::uid(&owner), NUMBER));
        if world.get(&ObjectId::new(Resource::ControllerRevision, &id.namespace, &name)).is_some() {
            return;
        }
        let labels = json!({ names::LABEL_DEPLOYMENT: id.name, names::LABEL_REVISION: NUMBER.to_string() });
        let owners = [owner_reference(Resource::ModelDeployment, &id.name, uid)];
        let metadata = json!({ "name": name, "namespace": id.namespace, "labels": labels, "ownerReferences": owners });
        let data = json!({ "template": owner["spec"]["template"] });
        let record = json!({ "metadata": metadata, "revision": NUMBER, "data": data });
        world.create_by_person(Resource::ControllerRevision, record);
    })
}

/// Somebody's Service takes the name; with labels it looks like a child to a watch.
pub(super) fn plant_service(id: &ObjectId, with_labels: bool) -> Action {
    let id = id.clone();
    Action::deed(format!("plant a Service in the way of {id}"), move |world| {
        let mut object =
            json!({ "metadata": { "labels": { "app": "else" } }, "spec": { "selector": { "app": "else" } } });
        if with_labels {
            object["metadata"]["labels"][names::LABEL_DEPLOYMENT] = id.name.as_str().into();
        }
        world.plant(&ObjectId::new(Resource::Service, &id.namespace, &id.name), &id, object);
    })
}

/// A user makes a PersistentVolumeClaim, if it is not there.
pub(super) fn create_claim(namespace: &'static str, name: &'static str) -> Action {
    Action::deed(format!("create claim {namespace}/{name}"), move |world| {
        if world.get(&ObjectId::new(Resource::PersistentVolumeClaim, namespace, name)).is_none() {
            let metadata = json!({ "name": name, "namespace": namespace });
            let spec = json!({ "accessModes": ["ReadOnlyMany"] });
            world.create_by_person(Resource::PersistentVolumeClaim, json!({ "metadata": metadata, "spec": spec }));
        }
    })
}

fn nth_child(world: &World, id: &ObjectId, resource: Resource, nth: usize) -> Option<ObjectId> {
    let owner = world.get(id)?;
    let children = world.objects(resource).into_iter();
    let mut children = children.filter(|(_, child)| json::controller_uid(child) == Some(json::uid(&owner)));
    children.nth(nth).map(|(child, _)| child)
}
