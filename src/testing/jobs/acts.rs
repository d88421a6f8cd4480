//! What users do to TrainingJobs.

use serde_json::json;

use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::script::Action;
use crate::testing::story::Actor;
use crate::testing::world::World;

/// A user suspends a job (true) or resumes it.
pub(super) fn suspend(job: &ObjectId, suspend: bool) -> Action {
    Action::edit(&format!("suspend {suspend}"), job, move |spec| spec["suspend"] = suspend.into())
}

/// A user sets `spec.nodes`, of a job that is suspended: the edit that admission allows.
pub(super) fn set_nodes(job: &ObjectId, nodes: u32) -> Action {
    Action::edit(&format!("{nodes} nodes"), job, move |spec| {
        if spec["suspend"] == true {
            spec["nodes"] = nodes.into();
        }
    })
}

/// A user deletes one of a job's pods, the n-th in order of name, if there are any.
pub(super) fn delete_nth_pod(job: &ObjectId, nth: usize) -> Action {
    let job = job.clone();
    Action::deed(format!("delete pod {nth} of {job}"), move |world| {
        let Some(owner) = uid_of(world, &job) else { return };
        let pods = world.objects(Resource::Pod);
        let mut pods = pods.iter().filter(|(_, pod)| json::controller_uid(pod) == Some(&owner));
        if let Some((pod, _)) = pods.nth(nth) {
            world.delete_as(Actor::Person, pod);
        }
    })
}

/// Somebody's object takes the name of a child that the job has yet to make; of a pod, that of rank 0 in an attempt. With
/// the job's labels it looks like a child to a watch.
pub(super) fn plant(resource: Resource, job: &ObjectId, attempt: u32, with_labels: bool) -> Action {
    let job = job.clone();
    Action::deed(format!("plant a {} in the way of {job}", resource.kind()), move |world| {
        let Some(uid) = uid_of(world, &job) else { return };
        let name = match resource {
            Resource::Pod => names::pod(&job.name, &uid, names::ROLE_WORKER, 0, attempt),
            Resource::EndpointSlice => names::endpoint_slice(&job.name, &uid, names::AddressFamily::V4),
            _ => names::service(&job.name, &uid),
        };
        let mut object = json!({ "metadata": { "labels": { "app": "somebody-else" } } });
        if with_labels {
            object["metadata"]["labels"][names::LABEL_JOB] = job.name.as_str().into();
        }
        match resource {
            Resource::Pod => object["spec"] = json!({ "containers": [{ "name": "main", "image": "example/other:1" }] }),
            Resource::EndpointSlice => object["endpoints"] = json!([]),
            _ => object["spec"] = json!({ "selector": { "app": "else" } }),
        }
        world.plant(&ObjectId::new(resource, &job.namespace, &name), &job, object);
    })
}

fn uid_of(world: &World, job: &ObjectId) -> Option<String> {
    world.get(job).map(|job| json::uid(&job).to_owned())
}
