//! What must be true of each write to a run's status: what is on record stays, and nothing gets there before its time.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::blueprint::{Blueprint, Standing, Step};
use super::facts::RunFacts;
use super::reference;
use crate::api::PipelineDefinition;
use crate::testing::json;
use crate::testing::story::{Actor, Change};
use crate::testing::subject::{Verdict, ensure};

/// Takes in a change of a run, and checks it if the operator made it. `now` is the operator's time.
pub(super) fn run_changed(facts: &mut RunFacts, change: &Change, now: Timestamp) -> Verdict {
    let (new, old) = (&change.object, facts.object.clone());
    if json::is_terminating(new) {
        facts.terminating_since.get_or_insert(change.step);
    }
    if change.removed {
        facts.is_gone = true;
        facts.terminating_since.get_or_insert(change.step);
        return Ok(());
    }
    facts.object = Some(new.clone());
    if change.by != Actor::Operator {
        facts.stimuli += 1;
        return Ok(());
    }
    facts.status_writes += 1;
    let old = old.ok_or("the operator made it")?;
    ensure(old["spec"] == new["spec"], || "the operator changed its spec".to_owned())?;
    let was_finished = json::condition_is_true(&old, "Finished");
    ensure(!was_finished || outcome(&old["status"]) == outcome(&new["status"]), || {
        "it was finished, and its status changed".to_owned()
    })?;
    let (before, after) = (Standing(&old["status"]), Standing(&new["status"]));
    let has_started = |run: &Value| json::at(run, "/status/startTime").is_some();
    if !has_started(new) {
        let is_cancelled = old["spec"]["cancel"] == true
            && json::condition_is_true(new, "Cancelled")
            && json::at(new, "/status/steps").is_none();
        let is_given_up = json::condition_is_true(new, "Failed") && facts.may_never_start;
        return ensure(is_cancelled || is_given_up || !json::condition_is_true(new, "Finished"), || {
            "it finished without a start, was not cancelled, and nothing kept it from starting".to_owned()
        });
    }
    let record = facts.record.clone().ok_or("it started without a record")?;
    let blueprint = Blueprint(&record);
    check_start(new, blueprint)?;
    let is_over = |standing: Standing| {
        blueprint.steps().filter(|step| !step.is_final).all(|step| standing.has_ended(step.name()))
    };
    // Without its record nothing more can be made, so its last steps are stopped too.
    let all_ended = || blueprint.steps().all(|step| before.has_ended(step.name()));
    let goes_on = has_started(&old) && (!is_over(before) || (facts.lost_record && !all_ended()));
    check_stop(&old, new, blueprint, goes_on, now)?;
    if after.stopped().is_some() {
        facts.stopped_by.get_or_insert(facts.status_writes);
    }
    for step in blueprint.steps() {
        let at_step = |what: String| format!("step {}: {what}", step.name());
        check_step(step, blueprint, before, after, is_over(after)).map_err(at_step)?;
        note_step(facts, step, before, after, now);
    }
    ensure(
        after.0["steps"].as_object().is_none_or(|steps| steps.keys().all(|name| blueprint.step(name).is_some())),
        || "its status has steps that its record does not have".to_owned(),
    )?;
    if facts.is_finished() && !was_finished { reference::judge(facts) } else { Ok(()) }
}

/// A status without the generation that it speaks of.
fn outcome(status: &Value) -> Value {
    let mut status = status.clone();
    status["observedGeneration"] = Value::Null;
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["observedGeneration"] = Value::Null;
    }
    status
}

/// It runs what its record says, with the values that it was given.
fn check_start(run: &Value, blueprint: Blueprint) -> Verdict {
    for (name, value) in blueprint.expected_parameters(run) {
        let (recorded, told) = (blueprint.parameter(&name), &run["status"]["parameters"][&name]);
        ensure(*recorded == value && *told == value, || {
            format!("parameter {name} is {recorded} on record and {told} in status: it must be {value}")
        })?;
    }
    let own = &run["spec"]["pipeline"];
    ensure(own.is_null() || same_steps(own, &blueprint.0["spec"]), || {
        format!("its record is {}, not what it brought", blueprint.0["spec"])
    })
}

/// Whether two definitions say the same.
pub(super) fn same_steps(one: &Value, other: &Value) -> bool {
    let read = |value: &Value| serde_json::from_value::<PipelineDefinition>(value.clone()).ok();
    read(one).is_some_and(|one| Some(one) == read(other))
}

/// It is stopped for a reason, and at once.
fn check_stop(old: &Value, new: &Value, blueprint: Blueprint, goes_on: bool, now: Timestamp) -> Verdict {
    let (before, after) = (&old["status"]["stopped"], &new["status"]["stopped"]);
    ensure(before.is_null() || before == after, || format!("stopped was {before} and is {after}"))?;
    // Status is written upon the newest version only, so whatever is written after a cancel knows of it.
    let is_cancelled = old["spec"]["cancel"] == true;
    ensure(!is_cancelled || !goes_on || !after.is_null(), || "it was cancelled and goes on".to_owned())?;
    if after.is_null() || !before.is_null() {
        return Ok(());
    }
    ensure(goes_on, || "it was stopped when there was nothing left to stop".to_owned())?;
    let spent = json::time(new, "/status/startTime").map(|start| now.duration_since(start));
    let timeout = json::duration(blueprint.0, "/spec/timeout");
    let is_late = timeout.zip(spent).is_some_and(|(timeout, spent)| spent + SignedDuration::from_secs(1) >= timeout);
    ensure(if after["reason"] == "Cancelled" { is_cancelled } else { is_late }, || {
        format!("stopped without a reason: {after}")
    })
}

/// What is on record of a step changes only forwards, and it starts when its time has come and not before.
fn check_step(step: Step, blueprint: Blueprint, before: Standing, after: Standing, is_over: bool) -> Verdict {
    let name = step.name();
    let (old, new) = (before.state(name), after.state(name));
    ensure(!before.has_ended(name) || before.0["steps"][name] == after.0["steps"][name], || {
        format!("it was {old:?}, and changed: {}", after.0["steps"][name])
    })?;
    ensure(old.is_none() || new.is_some(), || "it was on record, and is not any more".to_owned())?;
    let attempts = (before.attempts(name).unwrap_or(0), after.attempts(name).unwrap_or(0));
    ensure(attempts.1 == attempts.0 || attempts.1 == attempts.0 + 1, || format!("attempts went from {attempts:?}"))?;
    ensure(attempts.1 <= step.most_attempts(), || format!("attempt {} of {}", attempts.1, step.most_attempts()))?;
    let stops = after.stopped().is_some() && !step.is_final;
    ensure(attempts.1 == attempts.0 || !stops, || format!("attempt {} although the run is stopped", attempts.1))?;
    if old.is_some() || new.is_none() {
        return Ok(());
    }
    ensure(!step.is_final || is_over, || "it was opened before the others had ended".to_owned())?;
    let unmet = step.depends_on().find(|dependency| after.state(dependency) != Some("Succeeded"));
    ensure(new != Some("Running") || unmet.is_none(), || format!("it was started, but {unmet:?} did not succeed"))?;
    ensure(new != Some("Running") || step.when_holds(blueprint, after) == Some(true), || {
        "it was started although its when does not hold".to_owned()
    })
}

/// Takes in what was put on record of a step.
fn note_step(facts: &mut RunFacts, step: Step, before: Standing, after: Standing, now: Timestamp) {
    let name = step.name();
    if after.has_ended(name) {
        facts.ended_by.entry(name.to_owned()).or_insert(facts.status_writes);
    }
    let (old, new) = (before.attempts(name), after.attempts(name));
    if let Some(number) = old.filter(|_| new != old || after.has_ended(name)) {
        let attempt = facts.attempts.entry((name.to_owned(), number)).or_default();
        attempt.over_at.get_or_insert(now);
    }
    if let Some(number) = new.filter(|_| new != old) {
        let status = &after.0["steps"][name];
        let began = json::time(status, "/retryTime").or_else(|| json::time(status, "/startTime"));
        facts.attempts.entry((name.to_owned(), number)).or_default().began = began;
    }
}
