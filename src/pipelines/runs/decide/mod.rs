//! The decision: what to do about a PipelineRun, as a pure function of what is known.
//!
//! 1. A finished run is left alone, but for pods that still run although their step has ended ([`tidy`]).
//! 2. A run that has not started is checked, recorded, and then started ([`start`]).
//! 3. A run under way is advanced ([`advance`]): what became of its steps is put into the status, and what the status on record
//!    says is running is made if it is not there ([`child`], [`work`]).
//!
//! Invariant: a step is on record as running, and all that it depends on as succeeded, before anything is made for it; the
//! next attempt is on record before it is made. So whatever crash comes in between, no step runs that should not.

mod advance;
mod child;
mod history;
mod start;
mod tidy;
mod work;

pub use start::pipeline_path;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observe::{Memory, Observed};
use super::status::{self, Situation};
use crate::api::conditions::{Seen, whole_second};
use crate::api::pipeline_run::{StepState, StopReason, Stopped};
use crate::api::{PipelineRun, PipelineRunStatus};
use crate::cluster::plan::{Check, Plan, Publish};
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::pipelines::build::Maker;
use crate::pipelines::validate::ValidPipeline;

/// Wording is written at most this often.
const PROGRESS_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// Ends of steps are written one by one up to this many steps; a status of more is large, and ends that come together are
/// written together.
const MANY_STEPS: usize = 50;
/// Time between two writes of a status of many steps, for each of them.
const INTERVAL_PER_STEP: SignedDuration = SignedDuration::from_millis(2);

/// Decides what to do about a run.
pub fn decide(run: &PipelineRun, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan<PipelineRunStatus> {
    let status = run.status.clone().unwrap_or_default();
    if run.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the children of a run that is deleted.
        return Plan::status_only(status, Publish::Now);
    }
    let view = View { run, observed, memory, now, status: &status };
    if status::is_finished(&status) {
        let mut status = status.clone();
        // An edit after the end changes nothing; that it was seen is said, or whoever waits would wait for ever.
        status::observe(&mut status, run.metadata.generation);
        return history::prune(&view, tidy::tidy(&view, Plan::status_only(status, Publish::Now)));
    }
    if status.start_time.is_none() {
        return start::start(&view);
    }
    match memory.prepared() {
        Some(prepared) => advance::advance(&view, prepared),
        None => no_record(&view),
    }
}

/// Without its record a run that has started cannot go on: nobody knows what its steps are. It can be cancelled, and it ends
/// after a while; what still runs of it is stopped once that is on record. That the record is gone is asked of the cluster
/// itself: a cache may lag, and a record without its labels is shown by none.
fn no_record(view: &View) -> Plan<PipelineRunStatus> {
    let mut plan = wait_or_end(view);
    if view.observed.record.is_none() {
        let id = view.id(Resource::ControllerRevision, &view.record_name());
        plan.checks = vec![Check::IsAbsent { id, owner_uid: view.maker().uid.to_owned() }];
    }
    plan
}

fn wait_or_end(view: &View) -> Plan<PipelineRunStatus> {
    let situation = Situation::NoRecord(view.record_name());
    let is_cancelled = view.run.spec.cancel == Some(true);
    if !is_cancelled && situation.given_up_at(view.status, view.now).is_none_or(|at| view.now < at) {
        return view.wait_or_give_up(situation, None);
    }
    let mut status = view.status.clone();
    let now = Time(whole_second(view.now));
    for step in status.steps.values_mut().filter(|step| step.state == StepState::Running) {
        (step.state, step.finish_time, step.launch) = (StepState::Cancelled, Some(now.clone()), None);
        status::put_message(step, "the run's record is gone or cannot be read");
    }
    if !is_cancelled {
        return view.say(status, &Situation::GivenUp(Box::new(situation)), None);
    }
    status.stopped.get_or_insert(Stopped { reason: StopReason::Cancelled, time: now });
    view.say(status, &Situation::Ended, None)
}

/// What the steps of a decision look at.
struct View<'a> {
    run: &'a PipelineRun,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Timestamp,
    /// The status on record.
    status: &'a PipelineRunStatus,
}

impl<'a> View<'a> {
    fn maker(&self) -> Maker<'a> {
        let meta = &self.run.metadata;
        Maker {
            name: meta.name.as_deref().unwrap_or_default(),
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            uid: meta.uid.as_deref().unwrap_or_default(),
        }
    }

    fn id(&self, resource: Resource, name: &str) -> ObjectId {
        ObjectId::new(resource, self.maker().namespace, name)
    }

    fn record_name(&self) -> String {
        let maker = self.maker();
        names::family(maker.name, maker.uid)
    }

    /// That the run is, past all caches, what was decided upon.
    fn run_is_current(&self) -> Check {
        Check::owner_is_current(self.id(Resource::PipelineRun, self.maker().name), &self.run.metadata)
    }

    /// A plan that says where the run stands; `pipeline` is what it runs, if that is known.
    fn say(
        &self,
        mut new: PipelineRunStatus,
        situation: &Situation,
        pipeline: Option<&ValidPipeline>,
    ) -> Plan<PipelineRunStatus> {
        let seen = Seen { now: whole_second(self.now), generation: self.run.metadata.generation };
        status::describe(&mut new, situation, pipeline, seen);
        let publish = self.urgency(&new, pipeline.map_or(0, |pipeline| pipeline.steps.len()));
        Plan::status_only(new, publish)
    }

    /// A plan that says what the run waits for, or that it has waited long enough: whoever waits for its end does not wait for
    /// ever, and history counts what has ended. `again` is when to look again.
    fn wait_or_give_up(&self, situation: Situation, again: Option<Timestamp>) -> Plan<PipelineRunStatus> {
        let unchanged = self.status.clone();
        match situation.given_up_at(self.status, self.now) {
            Some(at) if at <= self.now => self.say(unchanged, &Situation::GivenUp(Box::new(situation)), None),
            at => self.say(unchanged, &situation, None).waking_at(again).waking_at(at),
        }
    }

    /// How soon a changed status has to be written: what happened at once, wording at intervals.
    fn urgency(&self, new: &PipelineRunStatus, steps: usize) -> Publish {
        let writes = &self.memory.writes;
        let last = writes.published_at.or(writes.noticed_at).unwrap_or(self.now);
        if !status::differs_materially(self.status, new) {
            return Publish::By(last + PROGRESS_INTERVAL + writes.extra_wait);
        }
        if steps > MANY_STEPS && status::differs_in_steps_only(self.status, new) {
            let steps = i32::try_from(steps).unwrap_or(i32::MAX);
            return Publish::By(last + INTERVAL_PER_STEP * steps);
        }
        Publish::Now
    }
}
