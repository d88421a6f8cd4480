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
mod start;
mod tidy;
mod work;

pub use start::pipeline_path;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::observe::{Memory, Observed};
use super::status::{self, Situation};
use crate::api::conditions::{Seen, whole_second};
use crate::api::{PipelineRun, PipelineRunStatus};
use crate::cluster::plan::{Check, Plan, Publish};
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::pipelines::build::Maker;

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
        let unchanged = Plan::status_only(status.clone(), Publish::Now);
        return tidy::tidy(&view, unchanged);
    }
    if status.start_time.is_none() {
        return start::start(&view);
    }
    match &memory.prepared {
        Some(prepared) => advance::advance(&view, prepared),
        None => view.say(status.clone(), &Situation::NoRecord(view.record_name()), None),
    }
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

    /// A plan that says where the run stands; `steps` is their number if it is known.
    fn say(&self, mut new: PipelineRunStatus, situation: &Situation, steps: Option<usize>) -> Plan<PipelineRunStatus> {
        let seen = Seen { now: whole_second(self.now), generation: self.run.metadata.generation };
        status::describe(&mut new, situation, steps, seen);
        let publish = self.urgency(&new, steps.unwrap_or_default());
        Plan::status_only(new, publish)
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
