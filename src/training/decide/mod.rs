//! The decision: what to do about a TrainingJob, as a pure function of what is known.
//!
//! The steps below are asked in order, and the first that has something to do answers with the plan:
//!
//! 1. a finished job is only tidied up ([`cleanup`]);
//! 2. a spec that makes no sense is reported, and nothing is touched;
//! 3. an edited job leaves its attempt behind ([`outcome`]), whatever became of it;
//! 4. the attempt in force is judged: it may have succeeded, failed, or run out of time; if it still goes on and the
//!    job is suspended, it is left behind too;
//! 5. what is left of older attempts is stopped, names in DNS first ([`stop`]);
//! 6. pods that others made under our names are removed ([`stop`]);
//! 7. a suspended job rests; any other has its attempt launched and its host names published ([`launch`]).
//!
//! Invariant: raising the attempt is a plan of its own, a status and no actions. The next reconcile sees the raised
//! number and only then acts on it, so whatever crash comes in between, pods of two attempts never run together.

mod cleanup;
mod launch;
mod outcome;
mod stop;
mod view;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::observe::{Memory, Observed};
use super::status::{self, Situation, State};
use super::validate::validate;
use crate::api::conditions::{Seen, whole_second};
use crate::api::{TrainingJob, TrainingJobStatus};
use crate::cluster::plan::{Plan, Publish};
use view::View;

/// A first status that says nothing but "starting" may wait this long: a quick job then never needs it.
const FIRST_STATUS_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// A job whose first news is that it runs may say so this late: one that ends within it is then written and told once.
const FIRST_RUNNING_DELAY: SignedDuration = SignedDuration::from_secs(1);
/// Counts and wording are written at most this often.
const PROGRESS_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// Decides what to do about a job.
pub fn decide(job: &TrainingJob, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan<TrainingJobStatus> {
    let status = job.status.clone().unwrap_or_default();
    if job.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the children; whatever we made now would only be in its way.
        return Plan::status_only(status, Publish::Now);
    }
    if status::is_finished(&status) {
        return cleanup::tidy(job, status, observed, memory, now);
    }
    let valid = match validate(job) {
        Ok(valid) => valid,
        Err(problems) => return say(job, status, &Situation::Invalid(problems), memory, now),
    };
    let view = View::new(job, &valid, &status, observed, memory, now);
    let mut plan = outcome::leave_edited(&view)
        .or_else(|| outcome::judge(&view))
        .or_else(|| outcome::leave_suspended(&view))
        .or_else(|| stop::stop_older(&view))
        .or_else(|| stop::remove_strangers(&view))
        .unwrap_or_else(|| launch::launch(&view));
    if !plan.actions.is_empty() && view.may_be_outdated() && !plan.checks.contains(&view.job_is_current()) {
        plan.checks.insert(0, view.job_is_current());
    }
    plan
}

/// A plan that only brings the status up to a situation.
fn say(
    job: &TrainingJob,
    status: TrainingJobStatus,
    situation: &Situation,
    memory: &Memory,
    now: Timestamp,
) -> Plan<TrainingJobStatus> {
    let old = status.clone();
    let mut new = status;
    status::describe(&mut new, situation, Seen { now: whole_second(now), generation: job.metadata.generation });
    let publish = urgency(&old, &new, situation.state(), memory, now);
    Plan::status_only(new, publish)
}

/// How soon a changed status has to be written: a new situation at once, progress within one at intervals. While the
/// controller is busy, the way of an attempt from its start to running is progress too.
fn urgency(old: &TrainingJobStatus, new: &TrainingJobStatus, state: State, memory: &Memory, now: Timestamp) -> Publish {
    let untouched = old.observed_generation.unwrap_or(-1) < 0;
    let extra = memory.writes.extra_wait;
    match memory.writes.published_at {
        _ if untouched && matches!(state, State::Starting | State::Waiting) => {
            Publish::By(memory.writes.noticed_at.unwrap_or(now) + FIRST_STATUS_DELAY + extra)
        }
        _ if untouched && state == State::Running => {
            Publish::By(memory.running_since.unwrap_or(now) + FIRST_RUNNING_DELAY + extra)
        }
        Some(published)
            if !status::differs_materially(old, new) || (!extra.is_zero() && status::comes_up(old, new)) =>
        {
            Publish::By(published + PROGRESS_INTERVAL + extra)
        }
        _ => Publish::Now,
    }
}
