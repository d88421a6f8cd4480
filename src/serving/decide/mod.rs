//! The decision: what to do about a ModelDeployment, as a pure function of what is known.
//!
//! 1. children whose numbers were never given are left out ([`numbers`]);
//! 2. a spec that is invalid, or an undo that cannot be, is reported; what was last asked for is followed instead, with
//!    the number of pods, the Service and the budget that the spec asks for ([`followed`]);
//! 3. the revision that is asked for is found by its hash, or gets the next number ([`view`]);
//! 4. its progress is judged ([`judge`]): it is complete, on its way, or given up. That it is given up is a plan of its
//!    own, a status and no actions, so that it is on record before the stable revision is restored;
//! 5. what is missing is created, and what is not as it should be is changed ([`children`]);
//! 6. pods move from revision to revision ([`scale`]), and old revisions are forgotten.

mod children;
mod followed;
mod judge;
mod numbers;
mod scale;
mod view;
mod words;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::observe::{Memory, Observed};
use super::status::{Situation, State, describe, describe_available, differs_materially};
use crate::api::conditions::{Seen, whole_second};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::plan::{Plan, Publish};
use crate::cluster::problem::{Problem, told};
use view::View;

/// A first status that says nothing but "starting" may wait this long: pods that serve within it are told of once.
const FIRST_STATUS_DELAY: SignedDuration = SignedDuration::from_secs(2);
/// Counts and wording are written at most this often.
const PROGRESS_INTERVAL: SignedDuration = SignedDuration::from_secs(5);

/// Decides what to do about a deployment.
pub fn decide(
    deployment: &ModelDeployment,
    observed: &Observed,
    memory: &Memory,
    now: Timestamp,
) -> Plan<ModelDeploymentStatus> {
    let status = deployment.status.clone().unwrap_or_default();
    if deployment.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the children; whatever we made now would only be in its way.
        return Plan::status_only(status, Publish::Now);
    }
    let given = numbers::given(deployment, &status, observed);
    let (valid, problems) = match followed::followed(deployment, &status, &given.observed) {
        Ok(followed) => followed,
        Err(problems) => return refuse(deployment, &status, &given.observed, &problems, memory, now),
    };
    let view = View::new(deployment, &valid, &problems, &status, &given, memory, now);
    let judgement = judge::judge(&view);
    if judgement.is_news {
        return view.say(&judgement);
    }
    if view.is_off_record() {
        return Plan { publish: Publish::Now, ..view.say(&judgement) };
    }
    let shares = scale::shares(&view, &judgement);
    let mut plan = view.say(&judgement);
    // What shrinks comes first, so that there are never too many.
    scale::lower(&view, &shares, &mut plan);
    children::add_revisions(&view, &judgement, &shares, &mut plan);
    scale::raise(&view, &shares, &mut plan);
    children::add_surroundings(&view, &judgement, &mut plan);
    children::forget(&view, &judgement, &mut plan);
    children::guard(&view, &mut plan);
    plan
}

/// A plan that only says what is wrong with the spec: there is nothing that could be followed instead.
fn refuse(
    deployment: &ModelDeployment,
    old: &ModelDeploymentStatus,
    observed: &Observed,
    problems: &[Problem],
    memory: &Memory,
    now: Timestamp,
) -> Plan<ModelDeploymentStatus> {
    let mut new = old.clone();
    let situation = Situation::new(State::Invalid, told(problems));
    let seen = seen(deployment, now);
    describe(&mut new, &situation, seen);
    // There may be pods whose record somebody has deleted.
    let wanted: i32 = observed.deployments.iter().map(|child| child.wanted).sum();
    let serving: i32 = observed.deployments.iter().map(|child| child.ready).sum();
    new.available_replicas = Some(serving);
    new.summary = Some(format!("{serving}/{wanted}"));
    let is_asleep = wanted == 0 && !observed.deployments.is_empty();
    describe_available(&mut new, serving, i32::from(!is_asleep), seen);
    let publish = urgency(old, &new, State::Invalid, memory, now);
    Plan::status_only(new, publish)
}

fn seen(deployment: &ModelDeployment, now: Timestamp) -> Seen {
    Seen { now: whole_second(now), generation: deployment.metadata.generation }
}

/// How soon a changed status has to be written: a new situation at once, progress within one at intervals.
fn urgency(
    old: &ModelDeploymentStatus,
    new: &ModelDeploymentStatus,
    state: State,
    memory: &Memory,
    now: Timestamp,
) -> Publish {
    let untouched = old.observed_generation.unwrap_or(-1) < 0;
    match memory.writes.published_at {
        _ if untouched && state == State::Starting => {
            Publish::By(memory.writes.noticed_at.unwrap_or(now) + FIRST_STATUS_DELAY + memory.writes.extra_wait)
        }
        Some(published) if !differs_materially(old, new) => {
            Publish::By(published + PROGRESS_INTERVAL + memory.writes.extra_wait)
        }
        _ => Publish::Now,
    }
}
