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

/// A user edits what may be edited at any time, also once the job has finished.
pub(super) fn set_failure_logs(job: &ObjectId) -> Action {
    Action::edit("log lines are wanted", job, |spec| spec["failureLogs"] = "Tail".into())
}

/// Under which name of a job's somebody makes a pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forgery {
    /// Of the attempt that would come next.
    NextAttempt,
    /// Of the last attempt that there can be.
    LastAttempt,
    /// Of a rank that the job does not have, in the attempt in force.
    FurtherRank,
}

impl Forgery {
    pub(super) const ALL: [Forgery; 3] = [Forgery::NextAttempt, Forgery::LastAttempt, Forgery::FurtherRank];
}

/// Somebody who may create pods makes one that claims to be the job's, with the hash of one of its pods or with another.
pub(super) fn forge(job: &ObjectId, forgery: Forgery, with_hash: bool) -> Action {
    let job = job.clone();
    Action::deed(format!("forge a pod of {job}: {forgery:?}, hash {with_hash}"), move |world| {
        let Some(uid) = uid_of(world, &job) else { return };
        let pods = world.objects(Resource::Pod);
        let model = pods.iter().find(|(_, pod)| json::controller_uid(pod) == Some(&uid)).map(|(_, pod)| pod);
        let hash = model.and_then(|pod| pod["metadata"]["annotations"][names::ANNOTATION_LAUNCH_HASH].as_str());
        let status = world.get(&job).map(|job| json::number(&job, "/status/attempt").unwrap_or(1) as u32);
        let attempt = status.unwrap_or(1);
        let (attempt, rank) = match forgery {
            Forgery::NextAttempt => (attempt + 1, 0),
            Forgery::LastAttempt => (9_999, 0),
            Forgery::FurtherRank => (attempt, 900),
        };
        let name = names::pod(&job.name, &uid, names::ROLE_WORKER, rank, attempt);
        let id = ObjectId::new(Resource::Pod, &job.namespace, &name);
        if world.get(&id).is_some() {
            return;
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": job.namespace,
                "labels": {
                    names::LABEL_JOB: job.name, names::LABEL_RANK: rank.to_string(), names::LABEL_ATTEMPT: attempt.to_string(),
                },
                "annotations": { names::ANNOTATION_LAUNCH_HASH: hash.filter(|_| with_hash).unwrap_or("v1:forged") },
                "ownerReferences": [{
                    "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": job.name, "uid": uid,
                    "controller": true,
                }],
            },
            "spec": { "containers": [{ "name": "trainer", "image": "example/forged:1" }] },
        });
        world.create_by_person(Resource::Pod, pod);
    })
}

/// The hashes of all pods of a job become what an operator of another release has written, or go.
pub(super) fn rewrite_hashes(job: &ObjectId, hash: &'static str) -> Action {
    let job = job.clone();
    Action::deed(format!("the pods of {job} have hash {hash:?}"), move |world| {
        let Some(owner) = uid_of(world, &job) else { return };
        for (id, pod) in world.objects(Resource::Pod) {
            if json::controller_uid(&pod) == Some(&owner) {
                world.change(Actor::Person, &id, |pod| {
                    pod["metadata"]["annotations"][names::ANNOTATION_LAUNCH_HASH] = hash.into();
                });
            }
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
