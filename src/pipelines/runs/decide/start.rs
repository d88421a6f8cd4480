//! Starting a run: its pipeline and arguments are checked, then recorded; the record is what is run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::View;
use super::advance::open_steps;
use crate::api::conditions::{self, Seen, whole_second};
use crate::api::pipeline_run::{PipelineIdentity, StopReason, Stopped};
use crate::api::{PipelineDefinition, PipelineRunStatus};
use crate::cluster::plan::{Action, Plan, Publish};
use crate::cluster::port::Resource;
use crate::cluster::problem::{Problem, check_name};
use crate::cluster::workload::RevisionFacts;
use crate::pipelines::build::record::{Record, build_record, hash};
use crate::pipelines::policy::parameters::effective;
use crate::pipelines::policy::side_by_side::side_by_side;
use crate::pipelines::runs::ahead::Ahead;
use crate::pipelines::runs::observe::Prepared;
use crate::pipelines::runs::status::{MODEL_NOT_OURS, Situation, is_finished};
use crate::pipelines::validate::{Claim, validate};
use crate::serving::status::CLAIM_NOT_SHAREABLE;

pub(super) fn start(view: &View) -> Plan<PipelineRunStatus> {
    if view.run.spec.cancel == Some(true) {
        let mut status = view.status.clone();
        let time = Time(whole_second(view.now));
        status.stopped = Some(Stopped { reason: StopReason::Cancelled, time });
        return view.say(status, &Situation::Ended, None);
    }
    let unchanged = || view.status.clone();
    let name = view.record_name();
    let id = view.id(Resource::ControllerRevision, &name);
    let present = view.observed.record.as_ref();
    let writes = &view.memory.writes;
    if present.is_none() && writes.has_created(Resource::ControllerRevision, &name) {
        // The record comes into view in a moment.
        return Plan::status_only(unchanged(), Publish::Now).waking_at(writes.doubt_at());
    }
    if let Some(refusal) = view.memory.refusal_of(&id).filter(|_| present.is_none()) {
        return view.wait_or_give_up(Situation::Refused(refusal.clone()), Some(refusal.until));
    }
    let again = view.memory.pipeline.as_ref().map(|read| read.due_at());
    let record = match record(view) {
        Ok(record) => record,
        Err(situation) => return view.wait_or_give_up(situation, again),
    };
    match (present, view.memory.prepared()) {
        (None, _) => {
            let object = build_record(view.maker(), &record).into();
            let owner_uid = view.maker().uid.to_owned();
            let mut plan = Plan::status_only(unchanged(), Publish::Now);
            plan.checks.push(view.run_is_current());
            plan.actions.push(Action::Create { id, owner_uid, object });
            plan
        }
        (Some(_), Some(prepared)) if prepared.record.is_same(&record) => begin(view, prepared),
        (Some(present), _) => remove(view, present),
    }
}

/// Removes a record that does not say what the run would run. Whoever may create ControllerRevisions can put one under this name,
/// and the steps in it would run with the rights of the operator; or it is of a process that ended before the Pipeline was edited.
fn remove(view: &View, present: &RevisionFacts) -> Plan<PipelineRunStatus> {
    let mut plan = view.wait_or_give_up(Situation::WrongRecord(view.record_name()), None);
    if !is_finished(&plan.status) {
        plan.checks.push(view.run_is_current());
        plan.actions.push(Action::delete(Resource::ControllerRevision, &present.meta));
    }
    plan
}

/// What the run would run, if it can be run.
fn record(view: &View) -> Result<Record, Situation> {
    let spec = &view.run.spec;
    let mut problems = Vec::new();
    check_name(view.maker().name, "run", &mut problems);
    let (definition, path, pipeline) = match (&spec.pipeline, &spec.pipeline_ref) {
        (Some(definition), None) => (definition.clone(), "spec.pipeline".to_owned(), PipelineIdentity::default()),
        (None, Some(named)) => of_pipeline(view, &named.name)?,
        (given, _) => {
            let value = if given.is_some() { "pipeline and pipelineRef" } else { "neither pipeline nor pipelineRef" };
            let remedy = "give one of pipelineRef, as in {name: my-pipeline}, and pipeline, with steps of its own";
            problems.push(Problem::new("spec", value, remedy));
            return Err(Situation::Invalid(problems));
        }
    };
    let parameters = effective(&definition.parameters, &spec.arguments);
    // With arguments that make no sense, the pipeline is checked with samples.
    if let Err(further) = validate(&definition, &path, parameters.as_ref().ok()) {
        problems.extend(further);
    }
    problems.extend(view.memory.asked.iter().flat_map(|asked| asked.problems.clone()));
    match parameters {
        Ok(parameters) if problems.is_empty() => {
            // Written out only once it is known to be of a bounded length.
            let pipeline = PipelineIdentity { hash: hash(&definition), ..pipeline };
            Ok(Record { pipeline, started_by: started_by(view), parameters, spec: definition })
        }
        Ok(_) => Err(Situation::Invalid(problems)),
        Err(further) => {
            problems.extend(further);
            Err(Situation::Invalid(problems))
        }
    }
}

/// Where the spec of a named Pipeline is, in problems of a run.
pub fn pipeline_path(name: &str) -> String {
    format!("Pipeline {name}: spec")
}

fn of_pipeline(view: &View, name: &str) -> Result<(PipelineDefinition, String, PipelineIdentity), Situation> {
    let read = view.memory.pipeline.as_ref().ok_or(Situation::Starting)?;
    match &read.pipeline {
        Ok(Some(pipeline)) => {
            let definition = pipeline.spec.definition.clone();
            let identity = PipelineIdentity {
                name: Some(name.to_owned()),
                uid: pipeline.metadata.uid.clone(),
                generation: pipeline.metadata.generation,
                ..PipelineIdentity::default()
            };
            Ok((definition, pipeline_path(name), identity))
        }
        Ok(None) => Err(Situation::NoPipeline(name.to_owned())),
        Err(error) => {
            let field = pipeline_path(name);
            Err(Situation::Invalid(vec![Problem::new(&field, error, "correct the Pipeline")]))
        }
    }
}

/// What made the first write to the run: the field manager of the oldest entry.
fn started_by(view: &View) -> Option<String> {
    let entries = view.run.metadata.managed_fields.as_deref().unwrap_or_default();
    let named = entries.iter().filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty());
    named.min_by_key(|entry| entry.time.as_ref().map(|time| time.0)).and_then(|entry| entry.manager.clone())
}

/// The run starts: from here on it is what its record says.
fn begin(view: &View, prepared: &Prepared) -> Plan<PipelineRunStatus> {
    let Prepared { record, pipeline, .. } = prepared;
    let mut status = view.status.clone();
    status.start_time = Some(Time(whole_second(view.now)));
    status.pipeline = Some(record.pipeline.clone());
    status.started_by.clone_from(&record.started_by);
    status.parameters.clone_from(&record.parameters);
    status.claim = pipeline.files.as_ref().map(|files| view.maker().claim_name(files));
    warn(view, prepared, &mut status);
    open_steps(view, prepared, &mut status);
    view.say(status, &Situation::Running(Vec::new()), Some(pipeline))
}

/// Says what may go wrong later, while it costs nothing yet.
fn warn(view: &View, prepared: &Prepared, status: &mut PipelineRunStatus) {
    let seen = Seen { now: whole_second(view.now), generation: view.run.metadata.generation };
    let none = Ahead::default();
    let ahead = view.memory.ahead.as_ref().unwrap_or(&none);
    if !ahead.foreign_models.is_empty() {
        let names = ahead.foreign_models.join(", ");
        let message = format!(
            "deploy.name: {names}: not made by this pipeline, so the step that deploys it will fail: set deploy.adopt: true to take \
             it over, or give another name"
        );
        conditions::set(&mut status.conditions, MODEL_NOT_OURS, true, "NotAdopted", &message, seen);
    }
    let Some(files) = &prepared.pipeline.files else { return };
    let modes = match &files.claim {
        Claim::Given(_) => &ahead.access_modes,
        Claim::Made { access_modes, .. } => access_modes,
    };
    let is_for_one_node = !modes.is_empty() && !modes.iter().any(|mode| mode.ends_with("Many"));
    if let Some(users) = side_by_side(&prepared.pipeline.steps).filter(|_| is_for_one_node) {
        let message = format!(
            "files: claim {} ({}) can be mounted on one node only, and {users} may run at the same time: those that the \
             scheduler places elsewhere do not start; use a claim that is ReadWriteMany, or let them depend on one another",
            view.maker().claim_name(files),
            modes.join(", "),
        );
        conditions::set(&mut status.conditions, CLAIM_NOT_SHAREABLE, true, "ReadWriteOnce", &message, seen);
    }
}
