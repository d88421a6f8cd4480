//! What must have become of a run and of each of its steps: computed from what it is to do and from what happened to its
//! pods, jobs and models, and from nothing that the controller has.
//!
//! Where more than one end is right (an end that went unseen because somebody deleted the pod, a time-out that came in the
//! moment of an end) all of them are allowed, and only there.

use jiff::SignedDuration;

use super::blueprint::{Blueprint, Standing, Step};
use super::facts::{Attempt, RunFacts};
use crate::testing::json;
use crate::testing::subject::{Verdict, ensure};

/// Somebody's object under the name of a step's child fails the attempt after this long.
const LONGEST_OBSTRUCTION: SignedDuration = SignedDuration::from_mins(1);

/// Judges a run that has just finished.
pub(super) fn judge(facts: &RunFacts) -> Verdict {
    let blueprint = facts.blueprint().ok_or("it finished without a record")?;
    let standing = facts.standing();
    if facts.lost_record {
        let run = facts.object.as_ref().ok_or("it is unknown")?;
        let is_cancelled = run["spec"]["cancel"] == true && json::condition_is_true(run, "Cancelled");
        return ensure(is_cancelled || json::condition_is_true(run, "Failed"), || {
            "its record is gone, and it neither failed nor was cancelled".to_owned()
        });
    }
    for step in blueprint.steps() {
        judge_step(facts, blueprint, standing, step)
            .map_err(|what| format!("it finished, but step {}: {what}", step.name()))?;
    }
    let any_failed = blueprint.steps().any(|step| standing.state(step.name()) == Some("Failed"));
    let expected = match standing.stopped() {
        _ if any_failed => "Failed",
        Some("TimedOut") => "Failed",
        Some(_) => "Cancelled",
        None => "Complete",
    };
    let run = facts.object.as_ref().ok_or("it is unknown")?;
    for condition in ["Complete", "Failed", "Cancelled"] {
        ensure(json::condition_is_true(run, condition) == (condition == expected), || {
            format!("it finished and must be {expected}, but {condition} is otherwise")
        })?;
    }
    Ok(())
}

fn judge_step(facts: &RunFacts, blueprint: Blueprint, standing: Standing, step: Step) -> Verdict {
    let name = step.name();
    let state = standing.state(name).ok_or("it has no state")?;
    let attempts = standing.attempts(name);
    let must_be = |expected: &str, why: &str| {
        ensure(state == expected && attempts.is_none(), || {
            format!("it is {state} after {attempts:?} attempts and must be {expected} without any: {why}")
        })
    };
    let unmet = step.depends_on().find(|dependency| standing.state(dependency) != Some("Succeeded"));
    if let Some(unmet) = unmet {
        return must_be("Skipped", &format!("{unmet} did not succeed"));
    }
    if attempts.is_none() && may_be_stopped_unopened(facts, step) && state == "Skipped" {
        return Ok(());
    }
    match step.when_holds(blueprint, standing) {
        Some(true) => {}
        Some(false) => return must_be("Skipped", "its when does not hold"),
        None if step.is_final => return must_be("Skipped", "its when refers to what did not run"),
        None => return must_be("Failed", "it cannot be said whether its when holds"),
    }
    if step.is_final && !step.has_values(facts.name(), blueprint, standing) {
        return must_be("Skipped", "it refers to what did not run");
    }
    let last = attempts.ok_or_else(|| format!("it is {state} without an attempt"))?;
    if step.deploys().is_none() && !step.can_be_made(facts.name(), blueprint, standing) {
        let is_stopped = state == "Cancelled" && is_stopped(facts, step);
        return ensure((state == "Failed" || is_stopped) && last == 1, || {
            format!("it is {state} after {last} attempts and must be Failed: values do not fit")
        });
    }
    for number in 1..last {
        let why = may_fail(facts, step, number);
        ensure(why, || format!("attempt {number} was given up for nothing: {:?}", attempt(facts, step, number)))?;
    }
    judge_last(facts, standing, step, last, state)
}

/// The end of a step must be what its last attempt came to.
fn judge_last(facts: &RunFacts, standing: Standing, step: Step, last: u64, state: &str) -> Verdict {
    let known = attempt(facts, step, last);
    let told = || format!("it is {state} after attempt {last} of {}: {known:?}", step.most_attempts());
    match state {
        "Succeeded" => {
            let empty = serde_json::json!({});
            let recorded = standing.0["steps"][step.name()].get("outputs").unwrap_or(&empty);
            let expected = |report| outputs(step, report).is_some_and(|outputs| outputs == *recorded);
            ensure(known.reports.iter().any(expected), told)
        }
        "Failed" => {
            let no_more = last == step.most_attempts() || is_stopped(facts, step) || step.deploys().is_some();
            ensure(no_more && may_fail(facts, step, last), told)
        }
        "Cancelled" => ensure(is_stopped(facts, step) && (!known.has_ended || known.is_disturbed), told),
        _ => Err(told()),
    }
}

/// What a step reports, by what its child does; a deployment's report is taken as it is.
fn outputs(step: Step, report: &serde_json::Value) -> Option<serde_json::Value> {
    if step.deploys().is_some() { Some(report.clone()) } else { step.outputs_of(report) }
}

fn attempt<'a>(facts: &'a RunFacts, step: Step, number: u64) -> &'a Attempt {
    static NOTHING: std::sync::LazyLock<Attempt> = std::sync::LazyLock::new(Attempt::default);
    facts.attempts.get(&(step.name().to_owned(), number)).unwrap_or(&NOTHING)
}

/// Whether an attempt may be taken for failed.
fn may_fail(facts: &RunFacts, step: Step, number: u64) -> bool {
    let known = attempt(facts, step, number);
    let misfits = known.reports.iter().any(|report| outputs(step, report).is_none());
    let is_contested = step.deploys().is_some_and(|model| facts.contested.contains(model));
    let place = (step.name().to_owned(), number);
    let is_obstructed = facts.forged.contains(&place) && known.is_late(Some(LONGEST_OBSTRUCTION));
    misfits
        || is_contested
        || is_obstructed
        || !known.ills.is_empty()
        || known.is_late(json::duration(step.value, "/timeout"))
}

/// Whether a step's end came with, or after, the stop of the run.
fn is_stopped(facts: &RunFacts, step: Step) -> bool {
    let ended = facts.ended_by.get(step.name());
    !step.is_final && facts.stopped_by.zip(ended).is_some_and(|(stopped, ended)| *ended >= stopped)
}

/// Whether the stop of the run came before a step's time: not all that it depends on had succeeded by then.
fn may_be_stopped_unopened(facts: &RunFacts, step: Step) -> bool {
    let succeeded = |dependency| facts.ended_by.get(dependency).copied();
    is_stopped(facts, step) && step.depends_on().filter_map(succeeded).max() >= facts.stopped_by
}
