//! What must be true at every moment, and at the end, of runs and of all that they make.
//!
//! Written against the objects alone, change by change, and knowing nothing of the controller: a plan that is wrong for the
//! time between two of its writes is found as well as one that ends wrong.

mod blueprint;
mod children;
mod facts;
mod records;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Value;

use self::children::{Models, OWNED};
use self::facts::{RunFacts, place, run_of};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::json;
use crate::testing::options::SimOptions;
use crate::testing::story::{Actor, Change, Verb};
use crate::testing::subject::{Oracle, Verdict, ensure};
use crate::testing::watch::Watches;
use crate::testing::world::World;

/// Looks at every change, and judges the end.
pub(crate) struct PipelineOracle {
    runs: BTreeMap<String, RunFacts>,
    /// Which attempt of which step of which run a TrainingJob is, by its UID.
    jobs: BTreeMap<String, (String, (String, u64))>,
    models: Models,
    /// UIDs of objects that say they belong to a run, and that the operator did not make.
    forged: BTreeSet<String>,
    /// Every version of every Pipeline.
    pipelines: Vec<Arc<Value>>,
    /// By how much the operator's clock is wrong.
    clock_error: SignedDuration,
    /// So many of the operator's writes have been looked at.
    writes_seen: usize,
}

/// Status writes that need no event: the start, timers, and what the cluster's moods bring about.
const STATUS_WRITES_FOR_NOTHING: u64 = 20;

impl Oracle for PipelineOracle {
    fn new(options: &SimOptions) -> Self {
        PipelineOracle {
            runs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            models: Models::default(),
            forged: BTreeSet::new(),
            pipelines: Vec::new(),
            clock_error: options.clock_error,
            writes_seen: 0,
        }
    }

    fn take_in(&mut self, world: &World, _watches: &Watches, change: &Change) -> Verdict {
        self.note_refusals(world);
        let verdict = match change.id.resource {
            Resource::PipelineRun => self.run_changed(world, change),
            Resource::Pipeline => {
                self.pipelines.push(change.object.clone());
                ensure(change.by != Actor::Operator || !change.removed, || "the operator deleted it".to_owned())
            }
            Resource::ModelDeployment => self.models.changed(&mut self.runs, change),
            _ => self.child_changed(change),
        };
        verdict.map_err(|what| format!("{}: {what}", change.id))
    }

    fn is_waiting(&self, world: &World, object: &ObjectId) -> bool {
        let is_planted = world.planted().values().any(|blocked| blocked == object);
        world.refuses_pods() || is_planted || object.resource == Resource::PipelineRun && lacks_pipeline(world, object)
    }

    fn judge_the_end(&self, world: &World) -> Verdict {
        let kinds = [Resource::PipelineRun, Resource::TrainingJob, Resource::ModelDeployment];
        let owners: Vec<(ObjectId, Arc<Value>)> = kinds.iter().flat_map(|kind| world.objects(*kind)).collect();
        let living: BTreeSet<&str> = owners.iter().map(|(_, object)| json::uid(object)).collect();
        for (id, run) in world.objects(Resource::PipelineRun) {
            let facts = self.runs.get(json::uid(&run)).ok_or_else(|| format!("{id} is unknown to the oracle"))?;
            self.judge_run(world, &id, &run, facts).map_err(|what| format!("at the end, {id}: {what}"))?;
        }
        for (id, child) in OWNED.iter().flat_map(|kind| world.objects(*kind)) {
            let is_orphan = run_of(&child).is_some_and(|owner| !living.contains(owner));
            ensure(!is_orphan, || format!("at the end, {id} is an orphan"))?;
        }
        for (id, pipeline) in world.objects(Resource::Pipeline) {
            judge_pipeline(world, &pipeline).map_err(|what| format!("at the end, {id}: {what}"))?;
        }
        Ok(())
    }
}

impl PipelineOracle {
    fn run_changed(&mut self, world: &World, change: &Change) -> Verdict {
        let facts = self.runs.entry(json::uid(&change.object).to_owned()).or_default();
        let is_surplus = change.removed && change.by == Actor::Operator;
        ensure(!is_surplus || facts.is_finished(), || "the operator deleted it before it had finished".to_owned())?;
        let record = ObjectId::new(
            Resource::ControllerRevision,
            &change.id.namespace,
            &crate::names::family(&change.id.name, json::uid(&change.object)),
        );
        let has_started = json::at(&change.object, "/status/startTime").is_some();
        if facts.record.is_none() && has_started && change.by == Actor::Operator {
            facts.record = world.get(&record).map(|record| record["data"].clone());
            check_origin(&self.pipelines, &change.object, facts.record.as_ref())?;
        }
        self.models.contest(facts);
        facts.may_never_start = lacks_pipeline(world, &change.id);
        records::run_changed(facts, change, change.at + self.clock_error)
    }

    fn child_changed(&mut self, change: &Change) -> Verdict {
        let object = &change.object;
        let owner = json::controller_uid(object).unwrap_or_default();
        if let Some((run, place)) = self.jobs.get(owner) {
            // A pod of a TrainingJob: what came of it is the job's affair; that it lives is the step's.
            let facts = self.runs.entry(run.clone()).or_default();
            facts.stimuli += 1;
            if change.id.resource == Resource::Pod {
                let (step, number) = place;
                let beside = facts.live_beside(step, *number).filter(|_| change.created).cloned();
                ensure(beside.is_none(), || format!("it was made while {beside:?} of another attempt is live"))?;
                facts.attempts.entry(place.clone()).or_default().note_life(change);
            }
            return Ok(());
        }
        let Some(run) = run_of(object).map(str::to_owned) else { return Ok(()) };
        let facts = self.runs.entry(run.clone()).or_default();
        facts.stimuli += 1;
        if change.created && change.by == Actor::Person {
            self.forged.insert(json::uid(object).to_owned());
            facts.forged.extend(place(object));
        }
        if self.forged.contains(json::uid(object)) {
            // Whatever it does counts for nothing: nothing that it reports is an outcome of its step.
            return Ok(());
        }
        facts.lost_record |= change.removed && change.id.resource == Resource::ControllerRevision;
        if !matches!(change.id.resource, Resource::Pod | Resource::TrainingJob) {
            return Ok(());
        }
        if change.created {
            children::check_new(facts, change).map_err(|what| format!("it was made: {what}"))?;
        }
        let place = place(object).ok_or("it does not say for which attempt of which step it is")?;
        if change.id.resource == Resource::TrainingJob {
            self.jobs.insert(json::uid(object).to_owned(), (run, place.clone()));
            facts.attempts.entry(place).or_default().job_changed(change);
        } else {
            facts.attempts.entry(place).or_default().pod_changed(change);
        }
        Ok(())
    }

    /// Takes in which children the apiserver would not take.
    fn note_refusals(&mut self, world: &World) {
        let journal = world.writes_since(self.writes_seen);
        self.writes_seen += journal.len();
        let is_refusal = |answer: &str| answer.contains("PodSecurity") || answer.contains("exists already");
        for write in journal.iter().filter(|write| write.verb == Verb::Create && is_refusal(&write.answer)) {
            for facts in self.runs.values_mut() {
                let steps = facts.standing().0["steps"].as_object().into_iter().flatten();
                let of_child = steps.filter(|(_, step)| step["child"] == write.id.name.as_str());
                let place =
                    of_child.map(|(name, step)| (name.clone(), json::number(step, "/attempts").unwrap_or(1))).next();
                if let Some(place) = place {
                    facts.attempts.entry(place).or_default().ill(format!("{} was refused", write.id));
                }
            }
        }
    }

    fn judge_run(&self, world: &World, id: &ObjectId, run: &Value, facts: &RunFacts) -> Verdict {
        let generation = json::number(run, "/metadata/generation");
        let observed = json::number(run, "/status/observedGeneration");
        let is_finished = facts.is_finished();
        ensure(observed == generation, || format!("observedGeneration is {observed:?} of {generation:?}"))?;
        let (written, stimuli) = (facts.status_writes, facts.stimuli);
        ensure(written <= 2 * stimuli + STATUS_WRITES_FOR_NOTHING, || {
            format!("its status was written {written} times, although only {stimuli} things happened")
        })?;
        if is_finished {
            let live = facts.attempts.values().flat_map(|attempt| attempt.live.values()).next();
            return ensure(live.is_none(), || format!("it has finished, yet {live:?} is live"));
        }
        ensure(self.is_waiting(world, id) || facts.lost_record || json::is_terminating(run), || {
            "it has not ended".to_owned()
        })
    }
}

/// Whether a run waits for its Pipeline to be made.
fn lacks_pipeline(world: &World, run: &ObjectId) -> bool {
    let Some(object) = world.get(run) else { return false };
    let named = json::text(&object, "/spec/pipelineRef/name");
    let started = json::at(&object, "/status/startTime").is_some();
    named.is_some_and(|name| !started && world.get(&ObjectId::new(Resource::Pipeline, &run.namespace, name)).is_none())
}

/// What a run is to do is what its Pipeline said at some time.
fn check_origin(pipelines: &[Arc<Value>], run: &Value, record: Option<&Value>) -> Verdict {
    let (Some(name), Some(record)) = (json::text(run, "/spec/pipelineRef/name"), record) else { return Ok(()) };
    let mut versions = pipelines.iter().filter(|pipeline| json::text(pipeline, "/metadata/name") == Some(name));
    let is_one = versions.any(|version| records::same_steps(&version["spec"], &record["spec"]));
    ensure(is_one, || format!("its record is no version of Pipeline {name}"))
}

/// A Pipeline counts its runs, and keeps as many of them as it says.
fn judge_pipeline(world: &World, pipeline: &Value) -> Verdict {
    let runs = world.objects(Resource::PipelineRun);
    let never_found = |run: &Value| json::reason(run, "Ready") == Some("PipelineNotFound");
    let is_its = |run: &Value| {
        let is_over = json::condition_is_true(run, "Finished");
        json::at(run, "/spec/pipelineRef/name") == json::at(pipeline, "/metadata/name")
            && !(is_over && never_found(run))
    };
    let its: Vec<&Arc<Value>> = runs.iter().map(|(_, run)| run).filter(|run| is_its(run)).collect();
    let (mut running, mut succeeded, mut failed) = (0, 0, 0);
    for run in its {
        match (json::condition_is_true(run, "Finished"), json::condition_is_true(run, "Complete")) {
            (false, _) => running += 1,
            (true, true) => succeeded += 1,
            (true, false) => failed += 1,
        }
    }
    let counted = |field: &str| json::number(&pipeline["status"]["runs"], field).unwrap_or(0);
    let told = (counted("/running"), counted("/succeeded"), counted("/failed"));
    ensure(told == (running, succeeded, failed), || {
        format!("it counts {told:?} runs of {:?}", (running, succeeded, failed))
    })?;
    let limit = |field: &str| json::number(&pipeline["spec"], field).unwrap_or(10);
    let kept = succeeded <= limit("/successfulRunsHistoryLimit") && failed <= limit("/failedRunsHistoryLimit");
    ensure(kept, || format!("it keeps {succeeded} and {failed} runs that have finished"))
}
