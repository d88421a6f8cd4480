//! What must be true of whatever is made for a step, at the moment in which it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::facts::{Attempt, RunFacts, place};
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::pipelines::oracle::blueprint::Step;
use crate::testing::story::{Actor, Change};
use crate::testing::subject::{Verdict, ensure};

/// Checks a pod or a TrainingJob that was made for a step.
pub(super) fn check_new(facts: &RunFacts, change: &Change) -> Verdict {
    let child = &change.object;
    ensure(change.by == Actor::Operator, || format!("{:?} made it", change.by))?;
    let (name, number) = place(child).ok_or("it does not say for which attempt of which step")?;
    let step = check_time_has_come(facts, change, &name, Some(number))?;
    ensure(child["metadata"]["name"] == facts.standing().0["steps"][&name]["child"], || {
        "status names another".to_owned()
    })?;
    let beside = facts.live_beside(&name, number);
    ensure(beside.is_none(), || format!("{} of another attempt is live", beside.expect("just found")))?;
    let known = facts.attempts.get(&(name.clone(), number));
    ensure(!known.is_some_and(|known| known.was_removed), || "the operator itself removed it before".to_owned())?;
    check_values(facts, step, child)
}

/// Checks that a step is on record as running, and all that it depends on as succeeded; answers the step.
fn check_time_has_come<'a>(
    facts: &'a RunFacts,
    change: &Change,
    name: &str,
    number: Option<u64>,
) -> Result<Step<'a>, String> {
    // A deletion may overtake the request that makes the child, but not a whole reconcile.
    let is_going = facts.terminating_since.is_some_and(|step| step < change.step);
    ensure(!is_going, || "its run is being deleted".to_owned())?;
    ensure(!facts.is_finished(), || "its run has finished".to_owned())?;
    let step = facts.blueprint().and_then(|blueprint| blueprint.step(name)).ok_or("there is no such step")?;
    let standing = facts.standing();
    let (state, attempts) = (standing.state(name), standing.attempts(name));
    ensure(state == Some("Running") && number.is_none_or(|number| attempts == Some(number)), || {
        format!("on record its step is {state:?} in attempt {attempts:?}")
    })?;
    let unmet = step.depends_on().find(|dependency| standing.state(dependency) != Some("Succeeded"));
    ensure(unmet.is_none(), || format!("{unmet:?} is not on record as succeeded"))?;
    ensure(step.is_final || standing.stopped().is_none(), || "its run is on record as stopped".to_owned())?;
    Ok(step)
}

/// Its containers get the values that the run was given and that steps reported.
fn check_values(facts: &RunFacts, step: Step, child: &Value) -> Verdict {
    let blueprint = facts.blueprint().ok_or("there is no record")?;
    let template = |object: &'_ Value| {
        if object["train"].is_object() { object["train"]["template"].clone() } else { object["run"].clone() }
    };
    let made = if child["kind"] == "Pod" { child.clone() } else { child["spec"]["template"].clone() };
    let args = |template: &Value| {
        let containers = json::at(template, "/spec/containers").and_then(Value::as_array).cloned().unwrap_or_default();
        containers.into_iter().map(|container| container["args"].clone()).collect::<Vec<Value>>()
    };
    for (written, made) in args(&template(step.value)).iter().zip(args(&made)) {
        let fill = |text: &Value| {
            let filled = step.filled(text.as_str().unwrap_or_default(), facts.name(), blueprint, facts.standing());
            filled.map_or(Value::Null, Value::from)
        };
        let filled = written.as_array().map(|list| list.iter().map(fill).collect::<Value>()).unwrap_or_default();
        ensure(filled == made, || format!("its arguments are {made} and must be {filled}"))?;
    }
    Ok(())
}

/// A ModelDeployment as it was before.
#[derive(Default)]
pub(super) struct Models(BTreeMap<ObjectId, Arc<Value>>);

impl Models {
    /// Takes note of models that are in other hands than a run's.
    pub(super) fn contest(&self, run: &mut RunFacts) {
        self.0.iter().for_each(|(id, model)| contest(run, id, model));
    }

    /// Takes in a change of a ModelDeployment.
    pub(super) fn changed(&mut self, runs: &mut BTreeMap<String, RunFacts>, change: &Change) -> Verdict {
        let model = &change.object;
        let old = self.0.get(&change.id).cloned();
        let holder = holder(model);
        if let Some(old) = old.as_ref().filter(|old| change.removed || holder_and_step(old) != holder_and_step(model)) {
            let lost = self::holder(old).and_then(|holder| runs.get_mut(&holder));
            for attempt in lost.into_iter().flat_map(|run| attempts_for(run, old)) {
                attempt.ill(format!("{} was taken away or deleted", change.id));
            }
        }
        runs.values_mut().for_each(|run| contest(run, &change.id, model));
        if change.removed {
            self.0.remove(&change.id);
            return Ok(());
        }
        self.0.insert(change.id.clone(), model.clone());
        let Some(facts) = holder.and_then(|holder| runs.get_mut(&holder)) else { return Ok(()) };
        let asked = |model: &Value| (model["spec"].clone(), model["metadata"]["annotations"].clone());
        if change.by == Actor::Operator && old.is_none_or(|old| asked(&old) != asked(model)) {
            let deploys = |step: &Step| names_step(model, *step);
            let steps = facts.blueprint().into_iter().flat_map(|blueprint| blueprint.steps()).filter(deploys);
            let names: Vec<String> = steps.map(|step| step.name().to_owned()).collect();
            let verdicts = names.iter().map(|name| check_time_has_come(facts, change, name, None).map(drop));
            let verdicts: Vec<Verdict> = verdicts.collect();
            let refused = verdicts.iter().find_map(|verdict| verdict.clone().err());
            ensure(verdicts.iter().any(Result::is_ok), || format!("no step may deploy it now: {refused:?}"))?;
        }
        let is_current = model["status"]["observedGeneration"] == model["metadata"]["generation"];
        let (ready, stalled) = (json::condition_is_true(model, "Ready"), json::condition_is_true(model, "Stalled"));
        for attempt in attempts_for(facts, model).filter(|_| is_current) {
            if ready {
                attempt.reported(json!({ "url": model["status"]["url"], "revision": model["status"]["revision"] }));
            } else if stalled {
                attempt.ill(format!("{} stalled", change.id));
            }
        }
        Ok(())
    }
}

fn contest(run: &mut RunFacts, id: &ObjectId, model: &Value) {
    let goes_on = !run.is_finished() && !run.is_gone;
    if goes_on && json::annotation(model, names::ANNOTATION_PIPELINE_UID) != Some(run.mark()) {
        run.contested.insert(id.name.clone());
    }
}

/// UID of the run that a model was deployed by last.
fn holder(model: &Value) -> Option<String> {
    json::annotation(model, names::ANNOTATION_RUN_UID).map(str::to_owned)
}

fn holder_and_step(model: &Value) -> (Option<String>, Option<&str>) {
    (holder(model), json::label(model, names::LABEL_STEP))
}

/// Whether a model says that this step was the last to deploy it.
fn names_step(model: &Value, step: Step) -> bool {
    let name = json::text(model, "/metadata/name");
    step.deploys() == name && json::label(model, names::LABEL_STEP) == Some(step.name())
}

/// The attempts of the step that deployed a model last.
fn attempts_for<'a>(facts: &'a mut RunFacts, model: &Value) -> impl Iterator<Item = &'a mut Attempt> {
    let steps = facts.blueprint().into_iter().flat_map(|blueprint| blueprint.steps());
    let names: Vec<String> = steps.filter(|step| names_step(model, *step)).map(|step| step.name().to_owned()).collect();
    facts.attempts.iter_mut().filter(move |((step, _), _)| names.contains(step)).map(|(_, attempt)| attempt)
}

/// Kinds of what a run owns.
pub(super) const OWNED: [Resource; 4] =
    [Resource::Pod, Resource::TrainingJob, Resource::ControllerRevision, Resource::PersistentVolumeClaim];
