//! Advancing a run: what became of its steps, which steps start, and what has to be made or stopped for that.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::View;
use super::child::{Finding, Verdict, look};
use super::tidy::tidy;
use super::work::{self, Creation};
use crate::api::conditions::whole_second;
use crate::api::pipeline_run::{StepState, StopReason, Stopped};
use crate::api::{PipelineRunStatus, StepStatus};
use crate::cluster::plan::{Action, Check, Plan, earliest};
use crate::cluster::port::Resource;
use crate::cluster::retry::wait_before;
use crate::pipelines::build::claim::build_claim;
use crate::pipelines::policy::when::Facts;
use crate::pipelines::runs::observe::Prepared;
use crate::pipelines::runs::status::{self, HeldUp, Situation};
use crate::pipelines::validate::ValidStep;

/// Most bytes that the outputs of all steps of a run may have as JSON: they stand in its status, and an object of Kubernetes
/// holds about a megabyte.
const MOST_OUTPUTS: usize = 256 * 1_024;
/// With so many children that wait for quota, or for an apiserver that answers, no others are asked for.
const MOST_LATE: usize = 8;
/// Shortest wait before another attempt, whatever the pipeline says: each costs a pod and two writes.
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// Most children made in one reconcile; more follow in the next.
const MOST_CREATES: usize = 128;

pub(super) fn advance(view: &View, prepared: &Prepared) -> Plan<PipelineRunStatus> {
    let pipeline = &prepared.pipeline;
    let mut next = view.status.clone();
    let (mut checks, mut actions, mut wake_at) = (Vec::new(), Vec::new(), None);
    let (mut creations, mut held_up) = (Vec::new(), Vec::new());
    stop(view, prepared, &mut next);
    let mut reported: usize = view.status.steps.values().map(|step| size(&step.outputs)).sum();
    for step in &pipeline.steps {
        let Some(present) = view.status.steps.get(&step.name).filter(|step| step.state == StepState::Running) else {
            continue;
        };
        let stopped = next.stopped.as_ref().filter(|_| !step.is_final).map(|stopped| stopped.reason);
        let has_room = creations.len() < MOST_CREATES && view.memory.late.len() < MOST_LATE;
        let finding = look(view, prepared, step, present, stopped, has_room);
        let Finding { verdict, checks: needed, action, creation, wake_at: at } = finding;
        wake_at = earliest(wake_at, at);
        checks.extend(needed);
        actions.extend(action);
        creations.extend(creation);
        if let Verdict::GoesOn(Some(why)) | Verdict::BeginsLater(why) = &verdict {
            held_up.push(HeldUp { step: step.name.clone(), why: why.clone() });
        }
        let verdict = within_bounds(verdict, &mut reported);
        settle(view, step, present, verdict, &mut next, &mut wake_at);
    }
    forgive_lateness(view, prepared, &mut next);
    open_steps(view, prepared, &mut next);
    let is_more = creations.len() >= MOST_CREATES;
    let made = make(view, prepared, creations, &mut checks);
    // As long as something is made, what there was no room for follows at once.
    wake_at = earliest(wake_at, (is_more && !made.is_empty()).then_some(view.now));
    actions.extend(made);
    let all_ended = pipeline.steps.iter().all(|step| status::has_ended(&next, &step.name));
    let situation = match &next.stopped {
        _ if all_ended => Situation::Ended,
        Some(stopped) if !is_main_part_over(prepared, &next) => Situation::Stopping(stopped.reason),
        _ => Situation::Running(held_up),
    };
    wake_at = earliest(wake_at, run_deadline(view, prepared).filter(|_| next.stopped.is_none() && !all_ended));
    let mut plan = view.say(next, &situation, Some(pipeline));
    for at in [wake_at, view.memory.put_off_until(), view.memory.writes.doubt_at()] {
        plan = plan.waking_at(at);
    }
    plan.checks = checks;
    plan.actions = actions;
    tidy(view, plan)
}

/// Whether all steps have ended that are not of `finally`.
fn is_main_part_over(prepared: &Prepared, status: &PipelineRunStatus) -> bool {
    prepared.pipeline.main_steps().all(|step| status::has_ended(status, &step.name))
}

/// Length of outputs as JSON.
fn size(outputs: &BTreeMap<String, Value>) -> usize {
    if outputs.is_empty() { 0 } else { serde_json::to_string(outputs).map_or(0, |text| text.len()) }
}

/// The verdict, unless what the step reports is too much together with what the others have.
fn within_bounds(verdict: Verdict, reported: &mut usize) -> Verdict {
    let Verdict::Succeeded(outputs) = &verdict else { return verdict };
    let bytes = size(outputs);
    if bytes > 0 && *reported + bytes > MOST_OUTPUTS {
        let message = format!("outputs: all steps together report more than {MOST_OUTPUTS} bytes: write them to files");
        return Verdict::Failed { message, is_final: true };
    }
    *reported += bytes;
    verdict
}

/// Steps that had all ended before anybody noticed that their time had run out were not too late.
fn forgive_lateness(view: &View, prepared: &Prepared, next: &mut PipelineRunStatus) {
    let is_news = view.status.stopped.is_none();
    let is_late = next.stopped.as_ref().is_some_and(|stopped| stopped.reason == StopReason::TimedOut);
    let was_stopped = next.steps.values().any(|step| step.state == StepState::Cancelled);
    if is_news && is_late && !was_stopped && is_main_part_over(prepared, next) {
        next.stopped = None;
    }
}

fn run_deadline(view: &View, prepared: &Prepared) -> Option<Timestamp> {
    let started = view.status.start_time.as_ref()?.0;
    started.checked_add(prepared.pipeline.timeout?).ok()
}

/// Notices that the run is to be stopped, while there is anything to stop.
fn stop(view: &View, prepared: &Prepared, next: &mut PipelineRunStatus) {
    if is_main_part_over(prepared, view.status) || next.stopped.is_some() {
        return;
    }
    let reason = if view.run.spec.cancel == Some(true) {
        StopReason::Cancelled
    } else if run_deadline(view, prepared).is_some_and(|deadline| deadline <= view.now) {
        StopReason::TimedOut
    } else {
        return;
    };
    next.stopped = Some(Stopped { reason, time: Time(whole_second(view.now)) });
}

/// Puts what became of a step into the status.
fn settle(
    view: &View,
    step: &ValidStep,
    present: &StepStatus,
    verdict: Verdict,
    next: &mut PipelineRunStatus,
    wake_at: &mut Option<Timestamp>,
) {
    let now = whole_second(view.now);
    let mut new = StepStatus { message: None, ..present.clone() };
    let attempt = present.attempts.unwrap_or(1);
    match verdict {
        Verdict::GoesOn(message) => {
            match message {
                Some(message) => status::put_message(&mut new, &message),
                None if attempt > 1 => new.message.clone_from(&present.message),
                None => {}
            }
            next.steps.insert(step.name.clone(), new);
            return;
        }
        Verdict::Relaunches => {
            new.launch = work::on_record(view, step, attempt);
            new.message.clone_from(&present.message);
            next.steps.insert(step.name.clone(), new);
            return;
        }
        Verdict::BeginsLater(_) | Verdict::Begins => {
            new.retry_time = matches!(verdict, Verdict::Begins).then(|| Time(now));
            // Why there is another attempt remains said.
            new.message.clone_from(&present.message);
            next.steps.insert(step.name.clone(), new);
            return;
        }
        Verdict::Succeeded(outputs) => {
            new.state = StepState::Succeeded;
            new.outputs = outputs;
        }
        Verdict::Stopped(message) => {
            new.state = StepState::Cancelled;
            status::put_message(&mut new, &message);
        }
        Verdict::Failed { message, is_final: false }
            if attempt <= step.retries && (next.stopped.is_none() || step.is_final) =>
        {
            let wait = wait_before(attempt.cast_signed(), step.backoff, step.max_backoff).max(SHORTEST_WAIT);
            let at = now.checked_add(wait).unwrap_or(now);
            new.attempts = Some(attempt + 1);
            new.retry_time = Some(Time(at));
            new.child = Some(work::child_name(view, step, attempt + 1));
            new.launch = work::on_record(view, step, attempt + 1);
            let message = format!("attempt {attempt}: {message}; retry {attempt} of {}", step.retries);
            status::put_message(&mut new, &message);
            *wake_at = earliest(*wake_at, Some(at));
            next.steps.insert(step.name.clone(), new);
            return;
        }
        Verdict::Failed { message, .. } => {
            new.state = StepState::Failed;
            let message = if attempt > 1 { format!("{message}; {attempt} attempts failed") } else { message };
            status::put_message(&mut new, &message);
        }
    }
    new.launch = None;
    new.finish_time = Some(Time(now));
    next.steps.insert(step.name.clone(), new);
}

/// Decides about the steps that wait: which of them start, and which never will. Steps stand in order, so one pass is enough.
pub(super) fn open_steps(view: &View, prepared: &Prepared, next: &mut PipelineRunStatus) {
    let now = Time(whole_second(view.now));
    for step in &prepared.pipeline.steps {
        if next.steps.contains_key(&step.name) {
            continue;
        }
        let Some(opened) = open(prepared, step, next) else { continue };
        let status = match opened {
            Opened::Starts => StepStatus {
                attempts: Some(1),
                start_time: Some(now.clone()),
                child: Some(work::child_name(view, step, 1)),
                launch: work::on_record(view, step, 1),
                ..StepStatus::default()
            },
            Opened::Ends(state, message) => {
                let mut status = StepStatus { state, finish_time: Some(now.clone()), ..StepStatus::default() };
                status::put_message(&mut status, &message);
                status
            }
        };
        next.steps.insert(step.name.clone(), status);
    }
}

/// What becomes of a step that waited.
enum Opened {
    Starts,
    Ends(StepState, String),
}

fn open(prepared: &Prepared, step: &ValidStep, next: &PipelineRunStatus) -> Option<Opened> {
    let skipped = |why: String| Some(Opened::Ends(StepState::Skipped, why));
    if let Some(stopped) = next.stopped.as_ref().filter(|_| !step.is_final) {
        return skipped(status::why_stopped(stopped.reason).to_owned());
    }
    if step.is_final && !is_main_part_over(prepared, next) {
        return None;
    }
    let mut waits = false;
    for dependency in &step.depends_on {
        match next.steps.get(dependency).map(|step| step.state) {
            None | Some(StepState::Running) => waits = true,
            Some(StepState::Succeeded) => {}
            Some(StepState::Failed) => return skipped(format!("step {dependency} failed")),
            Some(StepState::Skipped) => return skipped(format!("step {dependency} was skipped")),
            Some(StepState::Cancelled) => return skipped(format!("step {dependency} was stopped")),
        }
    }
    if waits {
        return None;
    }
    // Of a step of `finally`, those that it refers to may not have run; of others they have succeeded.
    let starts = || match work::missing_output(step, next).filter(|_| step.is_final) {
        Some(missing) => skipped(missing),
        None => Some(Opened::Starts),
    };
    let Some(when) = &step.when else { return starts() };
    let is_final = step.is_final;
    let succeeded = |name: &str| next.steps.get(name).is_some_and(|step| step.state == StepState::Succeeded);
    let step = |name: &str| next.steps.get(name).map(|step| (step.state.as_str(), &step.outputs));
    let facts = Facts { parameters: &next.parameters, step: &step };
    match when.holds(&facts) {
        Ok(true) => starts(),
        Ok(false) => skipped(format!("when is false: {}", when.text())),
        Err(error) if is_final && when.uses_outputs_of().any(|name| !succeeded(name)) => {
            skipped(format!("when cannot be evaluated: {error}: {}", when.text()))
        }
        Err(error) => {
            Some(Opened::Ends(StepState::Failed, format!("when cannot be evaluated: {error}: {}", when.text())))
        }
    }
}

/// The actions that make these children, the claim for files first if it is needed; and what must hold before.
fn make(view: &View, prepared: &Prepared, mut creations: Vec<Creation>, checks: &mut Vec<Check>) -> Vec<Action> {
    let mut actions = Vec::new();
    let needs_files = |creation: &Creation| creation.action.id().resource != Resource::ModelDeployment;
    if let Some(files) = &prepared.pipeline.files
        && let Some(object) = build_claim(view.maker(), files)
    {
        let id = view.id(Resource::PersistentVolumeClaim, &view.maker().claim_name(files));
        let is_there = view.observed.claim.is_some() || view.memory.writes.has_created(id.resource, &id.name);
        if !is_there && creations.iter().any(needs_files) {
            actions.push(Action::Create { id, owner_uid: view.maker().uid.to_owned(), object: object.into() });
        }
    }
    if !creations.is_empty() {
        checks.push(view.run_is_current());
    }
    // Pods first: they go in parallel.
    creations.sort_by_key(|creation| !creation.action.creates_pod());
    for Creation { action, check } in creations {
        checks.extend(check);
        actions.push(action);
    }
    actions
}
