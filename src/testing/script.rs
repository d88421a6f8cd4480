//! What a scenario has users and the cluster do, and when.

use serde_json::json;

use super::json;
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;

/// One thing that happens from outside.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A user applies a job.
    CreateJob(serde_json::Value),
    /// A user suspends a job (true) or resumes it.
    Suspend(ObjectId, bool),
    /// A user sets `spec.nodes`, of a job that is suspended.
    SetNodes(ObjectId, u32),
    /// A user deletes a job.
    DeleteJob(ObjectId),
    /// A user deletes a job in the foreground.
    DeleteJobInForeground(ObjectId),
    /// A user deletes a job and applies it again at once.
    Recreate(ObjectId),
    /// A user deletes one of a job's pods, the n-th in order of name, if there are any.
    DeletePod(ObjectId, usize),
    /// The quota for pods is used up (true) or freed.
    Quota(bool),
    /// The apiserver refuses pods (true) or takes them again.
    Refusal(bool),
    /// Somebody's object takes the name of a child that the job has yet to make.
    Plant {
        /// Of which kind.
        resource: Resource,
        /// In the way of which job.
        job: ObjectId,
        /// Of which attempt, for a pod; its rank is 0.
        attempt: u32,
        /// Whether it carries the job's labels.
        with_labels: bool,
    },
    /// Somebody's objects go.
    RemovePlanted,
    /// The operator is killed.
    Crash,
    /// A watch starts over.
    Relist(Resource),
}

impl Action {
    /// Does it. What is not there any more is left alone, as a user would. What
    /// happens to the operator's process is the simulation's to do.
    pub(crate) fn perform(&self, world: &World) {
        world.note(format!("-- {}", self.describe()));
        match self {
            Action::CreateJob(manifest) => drop(world.create_job(manifest.clone())),
            Action::Suspend(job, suspend) => world.update_spec(job, |spec| spec["suspend"] = json!(suspend)),
            Action::SetNodes(job, nodes) => set_nodes(world, job, *nodes),
            Action::DeleteJob(job) => world.delete_job(job),
            Action::DeleteJobInForeground(job) => world.delete_job_in_foreground(job),
            Action::Recreate(job) => world.recreate(job),
            Action::DeletePod(job, nth) => delete_nth_pod(world, job, *nth),
            Action::Quota(exceeded) => world.set_quota_exceeded(*exceeded),
            Action::Refusal(refused) => world.set_pods_refused(*refused),
            Action::Plant { resource, job, attempt, with_labels } => {
                plant(world, *resource, job, *attempt, *with_labels)
            }
            Action::RemovePlanted => world.remove_planted(),
            Action::Crash | Action::Relist(_) => {}
        }
    }

    /// Whether it happens in the cluster, and not to the operator's process.
    pub(crate) fn concerns_cluster(&self) -> bool {
        !matches!(self, Action::Crash | Action::Relist(_))
    }

    fn describe(&self) -> String {
        match self {
            Action::CreateJob(manifest) => format!("create {} {}", manifest["metadata"]["name"], manifest["spec"]),
            other => format!("{other:?}"),
        }
    }
}

/// The edit that admission allows: of a job that is suspended.
fn set_nodes(world: &World, job: &ObjectId, nodes: u32) {
    world.update_spec(job, |spec| {
        if spec["suspend"] == true {
            spec["nodes"] = nodes.into();
        }
    });
}

fn delete_nth_pod(world: &World, job: &ObjectId, nth: usize) {
    let Some(owner) = world.get(job).map(|job| json::uid(&job).to_owned()) else { return };
    let pods = world.objects(Resource::Pod);
    let mut pods = pods.iter().filter(|(_, pod)| json::controller_uid(pod) == Some(&owner));
    if let Some((pod, _)) = pods.nth(nth) {
        world.delete_pod(pod);
    }
}

fn plant(world: &World, resource: Resource, job: &ObjectId, attempt: u32, with_labels: bool) {
    let Some(uid) = world.get(job).map(|job| json::uid(&job).to_owned()) else { return };
    let name = match resource {
        Resource::Pod => names::pod(&job.name, &uid, names::ROLE_WORKER, 0, attempt),
        Resource::EndpointSlice => names::endpoint_slice(&job.name, &uid, names::AddressFamily::V4),
        _ => names::service(&job.name, &uid),
    };
    world.plant(&ObjectId::new(resource, &job.namespace, &name), job, with_labels);
}
