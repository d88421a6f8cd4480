//! One reconcile of one PipelineRun: decide, execute, publish. The operator and the simulated cluster both call this.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::ahead::look_ahead;
use super::decide::decide;
use super::events::events;
use super::observe::{Memory, Observed, PipelineRead};
use super::status::{Situation, describe};
use crate::api::conditions::Seen;
use crate::api::{PipelineRun, PipelineRunStatus};
use crate::cluster::managed::{Managed, Said};
use crate::cluster::plan::earliest;
use crate::cluster::port::{ApiError, ApiServer, EventDraft, ObjectId, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::reconcile::{Reconciled, carry_out, is_behind};

impl Managed for PipelineRun {
    const RESOURCE: Resource = Resource::PipelineRun;
    const NOUN: &'static str = "run";
    type Status = PipelineRunStatus;
    type Memory = Memory;

    fn status(&self) -> Option<&PipelineRunStatus> {
        self.status.as_ref()
    }

    fn events(old: &PipelineRunStatus, new: &PipelineRunStatus) -> Vec<EventDraft> {
        events(old, new)
    }

    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said {
        let mut status = PipelineRunStatus { conditions, ..PipelineRunStatus::default() };
        describe(&mut status, &Situation::Invalid(vec![problem]), None, seen);
        let PipelineRunStatus { observed_generation, message, conditions, .. } = status;
        Said { observed_generation, message, conditions }
    }
}

/// Brings one run a step closer to its end.
///
/// `run` and `observed` are as the caches have them; `memory` is what this process knows of its own writes to this very
/// object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    run: &PipelineRun,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    if is_behind(run, memory) {
        return Ok(Reconciled::stale(now));
    }
    // Since long created, and not shown yet: it may have lost its labels at once.
    let overdue: Vec<_> = memory.writes.overdue(now).map(|(resource, name)| (resource, name.to_owned())).collect();
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    for (resource, name) in overdue {
        memory.hidden.note(&ObjectId::new(resource, namespace, &name));
    }
    let uid = run.metadata.uid.as_deref().unwrap_or_default();
    let with_hidden = memory.hidden.look(api, uid, observed, now).await?;
    let observed = with_hidden.as_ref().unwrap_or(observed);
    memory.catch_up(run.status.as_ref(), observed, now);
    look_at_pipeline(api, run, memory, now).await?;
    let has_started = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    if let Some(prepared) = memory.prepared.as_ref().filter(|_| !has_started && memory.ahead.is_none()) {
        memory.ahead = Some(look_ahead(api, namespace, uid, prepared).await?);
    }
    let done = carry_out(api, run, memory, |memory| decide(run, observed, memory, now), now).await?;
    // What was created just now and never comes into a cache is looked for even if nothing else happens.
    let doubt_at = memory.writes.doubt_at().filter(|_| done.changed);
    let wake_at = earliest(earliest(done.wake_at, doubt_at), memory.hidden.due_at());
    Ok(Reconciled { wake_at, ..done })
}

/// Reads the Pipeline that a run names, until the run has its record.
async fn look_at_pipeline<A: ApiServer>(
    api: &A,
    run: &PipelineRun,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), ApiError> {
    let started = run.status.as_ref().is_some_and(|status| status.start_time.is_some());
    let Some(named) = run.spec.pipeline_ref.as_ref().filter(|_| !started && memory.prepared.is_none()) else {
        memory.pipeline = None;
        return Ok(());
    };
    if memory.pipeline.as_ref().is_some_and(|read| now < read.due_at()) {
        return Ok(());
    }
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let live = api.read(&ObjectId::new(Resource::Pipeline, namespace, &named.name)).await?;
    let pipeline = live.map(serde_json::from_value).transpose().map_err(|error| error.to_string());
    let reads = memory.pipeline.as_ref().map_or(0, |read| read.reads).saturating_add(1);
    memory.pipeline = Some(PipelineRead { pipeline, read_at: now, reads });
    Ok(())
}
