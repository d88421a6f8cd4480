//! One reconcile of one TrainingJob: decide, execute, publish. The operator and the simulated cluster both call this.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::json;

use super::decide::decide;
use super::events::events;
use super::observe::{Memory, Observed, Refusal, RefusalKind};
use super::status::{FINISHED, Situation, describe, whole_second};
use super::validate::Problem;
use crate::api::conditions::{READY, Seen, holds};
use crate::api::{TrainingJob, TrainingJobStatus};
use crate::cluster::execute::{Executed, execute};
use crate::cluster::guard::Unreadable;
use crate::cluster::plan::{Action, Plan, Publish, earliest};
use crate::cluster::port::{ApiError, ApiServer, ObjectId, Resource};
use crate::cluster::publish::status_patch;

/// How soon a decision is made again when a cache turned out to be behind, should no event come first.
const STALE_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What a reconcile came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Whether anything was written.
    pub changed: bool,
    /// When to come again even if nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// Brings one job a step closer to its spec.
///
/// `job` and `observed` are as the caches have them; `memory` is what this process knows of its own writes to this
/// very object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    job: &TrainingJob,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    let resource_version = job.metadata.resource_version.clone().unwrap_or_default();
    if memory.patched_from.as_ref() == Some(&resource_version) {
        // The cache does not show our own last word yet; its event is on the way.
        return Ok(Reconciled { changed: false, wake_at: Some(now + STALE_RETRY) });
    }
    memory.catch_up(observed, now);

    let mut plan = decide(job, observed, memory, now);
    let mut changed = !plan.actions.is_empty();
    match execute(api, &plan.checks, &plan.actions).await {
        Ok(Executed::Done) => note_writes(memory, observed, &plan.actions, now),
        Ok(Executed::Stale(reason)) => {
            tracing::debug!(reason, "a cache is behind; deciding again");
            return Ok(Reconciled { changed: false, wake_at: Some(now + STALE_RETRY) });
        }
        Ok(Executed::Refused(id, error)) => {
            memory.refusal = Some(refusal(job, &id, &error, now));
            plan = decide(job, observed, memory, now);
        }
        Ok(Executed::Foreign(id)) => {
            memory.refusal = Some(foreign(job, &id, now));
            plan = decide(job, observed, memory, now);
        }
        Err(error) => return Err(error),
    }
    if holds(&plan.status.conditions, READY) {
        memory.running_since.get_or_insert(now);
    }
    memory.succeeded = plan.status.attempt.zip(plan.status.succeeded_ranks.clone());
    let (published, publish_at) = publish(api, job, &plan, memory, now).await?;
    changed |= published;
    Ok(Reconciled { changed, wake_at: earliest(plan.wake_at, publish_at) })
}

/// Says on a job that cannot even be read what is wrong with it; such a job stalls alone.
///
/// # Errors
/// What the apiserver answered to the status.
pub async fn report_unreadable<A: ApiServer>(
    api: &A,
    job: &Unreadable,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    let unchanged = Reconciled { changed: false, wake_at: None };
    let Unreadable { error, metadata: meta, status: old } = job;
    let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid) else {
        return Ok(unchanged);
    };
    let conditions: Vec<Condition> = serde_json::from_value(old["conditions"].clone()).unwrap_or_default();
    if holds(&conditions, FINISHED) {
        // A newer operator finished it; its outcome stands, whatever we can make of its spec.
        return Ok(unchanged);
    }
    let problem = Problem {
        field: "spec".to_owned(),
        value: error.clone(),
        remedy: "correct it; if the field is newer than this operator, upgrade the operator".to_owned(),
    };
    let mut status = TrainingJobStatus { conditions, ..TrainingJobStatus::default() };
    let seen = Seen { now: whole_second(now), generation: meta.generation };
    describe(&mut status, &Situation::Invalid(vec![problem]), seen);
    // What the status says besides stays: it may be of a time when the job could be read.
    let said = json!({
        "observedGeneration": status.observed_generation,
        "message": status.message,
        "conditions": status.conditions,
    });
    if said.as_object().into_iter().flatten().all(|(field, value)| old[field] == *value) {
        return Ok(unchanged);
    }
    let id = ObjectId::new(Resource::TrainingJob, namespace, name);
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": meta.resource_version}, "status": said});
    api.patch_status(&id, &patch).await?;
    Ok(Reconciled { changed: true, wake_at: None })
}

/// Remembers what the caches will show in a moment.
fn note_writes(memory: &mut Memory, observed: &Observed, actions: &[Action], now: Timestamp) {
    for action in actions {
        let id = action.id();
        if id.resource == Resource::EndpointSlice {
            memory.slices_written_at = Some(now);
        }
        if action.creates_pod() {
            memory.launched_at.get_or_insert(now);
        }
        match action {
            Action::Create { .. } => {
                memory.created.insert(id.name.clone(), now);
            }
            Action::Apply { .. } => {
                let slice = observed.slices.iter().find(|slice| slice.meta.name == id.name);
                if let Some(slice) = slice {
                    memory.slices_changed_from.insert(id.name.clone(), slice.meta.resource_version.clone());
                }
            }
            Action::Delete { .. } => {}
        }
    }
}

fn refusal(job: &TrainingJob, id: &ObjectId, error: &ApiError, now: Timestamp) -> Refusal {
    let kind = match error {
        ApiError::QuotaExceeded(_) => RefusalKind::Quota,
        ApiError::Unavailable(_) => RefusalKind::Unanswered,
        _ => RefusalKind::Content,
    };
    Refusal { kind, message: format!("{id}: {error}"), until: now + kind.pause(), generation: job.metadata.generation }
}

fn foreign(job: &TrainingJob, id: &ObjectId, now: Timestamp) -> Refusal {
    let kind = RefusalKind::Foreign;
    let message =
        format!("{id} exists and does not belong to this job; it is left untouched: delete it or rename the job");
    Refusal { kind, message, until: now + kind.pause(), generation: job.metadata.generation }
}

/// Writes the status if it changed and cannot wait; answers whether it was written, and when it has to be.
async fn publish<A: ApiServer>(
    api: &A,
    job: &TrainingJob,
    plan: &Plan<TrainingJobStatus>,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), ApiError> {
    let old = job.status.clone().unwrap_or_default();
    let meta = &job.metadata;
    let (Some(namespace), Some(name), Some(uid), Some(version)) =
        (&meta.namespace, &meta.name, &meta.uid, &meta.resource_version)
    else {
        return Err(ApiError::Refused("the cache holds an object without a name, UID or resourceVersion".to_owned()));
    };
    let Some(patch) = status_patch(&old, &plan.status, uid, version) else {
        return Ok((false, None));
    };
    if let Publish::By(at) = plan.publish
        && now < at
    {
        return Ok((false, Some(at)));
    }
    let id = ObjectId::new(Resource::TrainingJob, namespace, name);
    let written = api.patch_status(&id, &patch).await?;
    // An older CRD may drop all that is new to it: then nothing was written, and no event will come.
    memory.patched_from = Some(version.clone()).filter(|replaced| *replaced != written);
    memory.published_at = Some(now);
    if plan.status.start_time.is_none() {
        memory.launched_at = None;
    }
    for event in events(&old, &plan.status) {
        tracing::info!(namespace, name, state = event.reason, "{}", event.note);
        api.publish_event(&id, uid, &event).await;
    }
    Ok((true, None))
}
