//! What is left to do about a finished job: end what still runs, and tidy up when its time has come.

use jiff::Timestamp;

use super::launch;
use super::stop::delete_pod;
use crate::api::{Duration, TrainingJob, TrainingJobStatus, conditions};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::{Action, Plan, Publish, earliest};
use crate::cluster::port::Resource;
use crate::training::observe::{Memory, Observed};

/// Tidies up. The outcome is on record and never changes; only `observedGeneration`, of each condition too, follows later edits.
pub(super) fn tidy(
    job: &TrainingJob,
    mut status: TrainingJobStatus,
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
) -> Plan<TrainingJobStatus> {
    status.observed_generation = job.metadata.generation;
    conditions::observe(&mut status.conditions, job.metadata.generation);
    let finished = status.finish_time.as_ref().map_or(now, |time| time.0);
    let due = |after: Option<Duration>| after.and_then(|after| finished.checked_add(after.signed()).ok());
    let (pods_due, job_due) = (due(job.spec.pods_after_finished), due(job.spec.delete_after_finished));
    let mut plan = Plan::status_only(status, Publish::Now);
    if job_due.is_some_and(|due| due <= now) {
        plan.actions = vec![Action::delete_unchanged(Resource::TrainingJob, &ChildMeta::new(&job.metadata))];
        return plan;
    }
    let everything = pods_due.is_some_and(|due| due <= now);
    if everything {
        plan.actions.extend(observed.slices.iter().map(|slice| Action::delete(Resource::EndpointSlice, &slice.meta)));
        plan.actions.extend(observed.service.iter().map(|service| Action::delete(Resource::Service, &service.meta)));
    } else {
        // DNS goes first here too: an address of an ended pod may soon be another pod's.
        let slices = observed.slices.iter().filter(|slice| !memory.awaits(slice));
        plan.actions.extend(launch::empty_slices(slices.map(AsRef::as_ref)));
    }
    // A job that ended well may still have sidecars running, one that failed may have other ranks. Pods that end by
    // themselves are kept, for their logs.
    let ending = observed
        .pods
        .iter()
        .filter(|pod| pod.delete_asked_at.is_none() && (everything || !memory.ending.ends_by_itself(pod, now)));
    plan.actions.extend(ending.map(|pod| delete_pod(pod)));
    let something_left = !observed.pods.is_empty() || !observed.slices.is_empty() || observed.service.is_some();
    let pods_wake = pods_due.filter(|_| !everything && something_left);
    plan.waking_at(earliest(earliest(pods_wake, job_due), memory.ending.at_the_latest(now)))
}
