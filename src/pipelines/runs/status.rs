//! What the status of a run says: the same words for the same situation, whatever led to it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, FINISHED, RECONCILING, STALLED, Seen, Standing, gist, set_standing};
use crate::api::pipeline_run::{StepState, StopReason};
use crate::api::{PipelineRunStatus, StepStatus};
use crate::cluster::problem::{Problem, told};
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::pipelines::validate::{ValidPipeline, ValidStep};
use crate::text::shorten;

/// Condition: every step succeeded or was skipped by its own `when`.
pub const COMPLETE: &str = "Complete";
/// Condition: a step failed, or the run's time ran out.
pub const FAILED: &str = "Failed";
/// Condition: the run was cancelled.
pub const CANCELLED: &str = "Cancelled";

/// Condition: a deploy step names a ModelDeployment that it may not change.
pub const MODEL_NOT_OURS: &str = "ModelNotOurs";
/// A run whose pipeline or arguments are invalid ends after this long.
const INVALID_PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// A run without its Pipeline or its record, or whose record is refused, ends after this long.
const ABSENCE_PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Longest message of a run, in bytes: it stands in status and in several conditions.
const LONGEST_MESSAGE: usize = 2_048;
/// Longest message of a step, in bytes: there may be hundreds of them.
const LONGEST_STEP_MESSAGE: usize = 320;
/// Names of steps that a message lists.
const MOST_NAMES: usize = 5;
/// Steps of which a message says what is wrong with them.
const MOST_REASONS: usize = 3;

/// A step that waits although it has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldUp {
    /// Its name.
    pub step: String,
    /// What for.
    pub why: String,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Situation {
    /// It cannot be started: the pipeline or the arguments make no sense.
    Invalid(Vec<Problem>),
    /// The Pipeline that it names does not exist.
    NoPipeline(String),
    /// The apiserver would not create something.
    Refused(Refusal),
    /// It is about to start.
    Starting,
    /// Its record is gone or cannot be read.
    NoRecord(String),
    /// What stands under the name of its record is not what it would run.
    WrongRecord(String),
    /// Steps run. Something may hold some of them up.
    Running(Vec<HeldUp>),
    /// Steps are being stopped.
    Stopping(StopReason),
    /// It has waited long enough for what it cannot start, or go on, without.
    GivenUp(Box<Situation>),
    /// All steps have ended.
    Ended,
}

/// The reason of condition Ready, which `kubectl get` shows as the run's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is described where its Situation is")]
pub enum State {
    Invalid,
    PipelineNotFound,
    Refused,
    NameTaken,
    QuotaExceeded,
    Starting,
    RecordNotFound,
    Running,
    Waiting,
    Stopping,
    Succeeded,
    Failed,
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [State; 13] = [
        State::Invalid,
        State::PipelineNotFound,
        State::Refused,
        State::NameTaken,
        State::QuotaExceeded,
        State::Starting,
        State::RecordNotFound,
        State::Running,
        State::Waiting,
        State::Stopping,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
    ];

    /// As the reason of a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Invalid => "Invalid",
            State::PipelineNotFound => "PipelineNotFound",
            State::Refused => "Refused",
            State::NameTaken => "NameTaken",
            State::QuotaExceeded => "QuotaExceeded",
            State::Starting => "Starting",
            State::RecordNotFound => "RecordNotFound",
            State::Running => "Running",
            State::Waiting => "Waiting",
            State::Stopping => "Stopping",
            State::Succeeded => "Succeeded",
            State::Failed => "Failed",
            State::Cancelled => "Cancelled",
        }
    }

    /// The state that a status says.
    pub fn of(status: &PipelineRunStatus) -> Option<State> {
        let reason = &conditions::find(&status.conditions, conditions::READY)?.reason;
        State::ALL.into_iter().find(|state| state.as_str() == reason)
    }

    /// Ready, Reconciling and Stalled, by the table in ARCHITECTURE.md. A run is Ready when it has done what it was asked
    /// to, and not before: `kubectl wait` and health checks wait for its end.
    pub fn standing(self) -> Standing {
        match self {
            State::Invalid | State::Refused | State::NameTaken | State::RecordNotFound | State::Failed => {
                (false, false, true)
            }
            State::PipelineNotFound
            | State::QuotaExceeded
            | State::Starting
            | State::Running
            | State::Waiting
            | State::Stopping => (false, true, false),
            State::Succeeded | State::Cancelled => (true, false, false),
        }
    }
}

impl Situation {
    /// How long a run waits in this situation before it ends; nothing for situations that pass. A Pipeline and its run may be
    /// applied together and in any order, and a mistake may be corrected at once.
    fn patience(&self) -> Option<SignedDuration> {
        match self {
            Situation::Invalid(_) => Some(INVALID_PATIENCE),
            Situation::NoPipeline(_) | Situation::NoRecord(_) | Situation::WrongRecord(_) => Some(ABSENCE_PATIENCE),
            Situation::Refused(refusal) => {
                matches!(refusal.kind, RefusalKind::Content | RefusalKind::Foreign).then_some(ABSENCE_PATIENCE)
            }
            _ => None,
        }
    }

    /// When a run that is in this situation ends because of it, by what its status says of how long that is so.
    pub fn given_up_at(&self, status: &PipelineRunStatus, now: Timestamp) -> Option<Timestamp> {
        let state = self.state(status);
        let is_known = State::of(status) == Some(state);
        let (_, _, stalled) = state.standing();
        let since = conditions::find(&status.conditions, if stalled { STALLED } else { RECONCILING });
        let since = since.filter(|_| is_known).map_or(now, |condition| condition.last_transition_time.0);
        since.checked_add(self.patience()?).ok()
    }

    fn state(&self, status: &PipelineRunStatus) -> State {
        match self {
            Situation::Invalid(_) => State::Invalid,
            Situation::NoPipeline(_) => State::PipelineNotFound,
            Situation::Refused(refusal) => match refusal.kind {
                RefusalKind::Content | RefusalKind::Overdue => State::Refused,
                RefusalKind::Quota => State::QuotaExceeded,
                RefusalKind::Foreign => State::NameTaken,
                RefusalKind::Leftover | RefusalKind::Unanswered | RefusalKind::Awaited => State::Waiting,
            },
            Situation::Starting => State::Starting,
            Situation::NoRecord(_) => State::RecordNotFound,
            Situation::WrongRecord(_) => State::NameTaken,
            Situation::Running(held_up) if held_up.is_empty() => State::Running,
            Situation::Running(_) => State::Waiting,
            Situation::Stopping(_) => State::Stopping,
            Situation::GivenUp(why) => why.state(status),
            Situation::Ended => outcome(status),
        }
    }

    fn message(&self, status: &PipelineRunStatus, order: &[ValidStep]) -> String {
        match self {
            Situation::Invalid(problems) => told(problems),
            Situation::NoPipeline(name) => {
                format!("spec.pipelineRef.name: {name}: there is no such Pipeline in this namespace: create it")
            }
            Situation::Refused(refusal) => refusal.told(""),
            Situation::Starting => "starting".to_owned(),
            Situation::NoRecord(name) => format!(
                "ControllerRevision {name}, the record of what this run runs, is gone or cannot be read by this operator: \
                 delete the run and create another"
            ),
            Situation::WrongRecord(name) => format!(
                "ControllerRevision {name} has the name of this run's record and says something else than the run would run: \
                 somebody else made it, or the Pipeline was edited since; it counts for nothing and is being removed"
            ),
            Situation::Running(held_up) => running(status, order, held_up),
            Situation::Stopping(reason) => {
                let names = in_state(status, StepState::Running).map(|(name, _)| name.as_str()).collect();
                format!("{}: stopping {}", why_stopped(*reason), listed(names))
            }
            Situation::GivenUp(why) => {
                let patience = why.patience().unwrap_or_default();
                format!("{}; given up after {patience:#}: create the run again", why.message(status, order))
            }
            Situation::Ended => ended(status, order),
        }
    }
}

/// How a run whose steps have all ended did.
fn outcome(status: &PipelineRunStatus) -> State {
    let failed = status.steps.values().any(|step| step.state == StepState::Failed);
    match status.stopped.as_ref().map(|stopped| stopped.reason) {
        _ if failed => State::Failed,
        Some(StopReason::TimedOut) => State::Failed,
        Some(StopReason::Cancelled) => State::Cancelled,
        None => State::Succeeded,
    }
}

/// Why a run was stopped, in words.
pub fn why_stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled => "the run was cancelled (spec.cancel)",
        StopReason::TimedOut => "the run's time ran out (timeout)",
    }
}

fn in_state(status: &PipelineRunStatus, state: StepState) -> impl Iterator<Item = (&String, &StepStatus)> {
    status.steps.iter().filter(move |(_, step)| step.state == state)
}

/// Steps in that state, the one that ended first to begin with, and those of one second in the order of the pipeline: what
/// came first is most likely the cause of the rest.
fn by_end<'a>(
    status: &'a PipelineRunStatus,
    state: StepState,
    order: &[ValidStep],
) -> Vec<(&'a String, &'a StepStatus)> {
    let mut steps: Vec<_> = in_state(status, state).collect();
    if steps.len() > 1 {
        let position = |name: &String| order.iter().position(|step| step.name == *name);
        steps.sort_by_cached_key(|(name, step)| (step.finish_time.as_ref().map(|time| time.0), position(name)));
    }
    steps
}

fn listed(names: Vec<&str>) -> String {
    match names.len() {
        0 => "nothing".to_owned(),
        1..=MOST_NAMES => names.join(", "),
        more => format!("{} and {} more steps", names[..MOST_NAMES - 1].join(", "), more - MOST_NAMES + 1),
    }
}

fn running(status: &PipelineRunStatus, order: &[ValidStep], held_up: &[HeldUp]) -> String {
    let mut parts = Vec::new();
    if let Some((name, step)) = by_end(status, StepState::Failed, order).first() {
        parts.push(format!("step {name} failed: {}", words(step)));
    }
    let waiting: BTreeSet<&str> = held_up.iter().map(|held_up| held_up.step.as_str()).collect();
    let names = in_state(status, StepState::Running).map(|(name, _)| name.as_str());
    let running: Vec<&str> = names.filter(|name| !waiting.contains(name)).collect();
    if !running.is_empty() || waiting.is_empty() {
        parts.push(format!("running {}", listed(running)));
    }
    let (told, others) = held_up.split_at(held_up.len().min(MOST_REASONS));
    parts.extend(told.iter().map(|HeldUp { step, why }| format!("step {step}: {why}")));
    if !others.is_empty() {
        parts.push(format!("waiting too: {}", listed(others.iter().map(|other| other.step.as_str()).collect())));
    }
    parts.join("; ")
}

fn words(step: &StepStatus) -> &str {
    step.message.as_deref().unwrap_or("no reason is known")
}

fn ended(status: &PipelineRunStatus, order: &[ValidStep]) -> String {
    if status.start_time.is_none() {
        return "the run was cancelled (spec.cancel) before it started".to_owned();
    }
    let count = |state| in_state(status, state).count();
    let (succeeded, skipped, cancelled) =
        (count(StepState::Succeeded), count(StepState::Skipped), count(StepState::Cancelled));
    let mut parts = Vec::new();
    for (name, step) in by_end(status, StepState::Failed, order).into_iter().take(MOST_REASONS) {
        parts.push(format!("step {name} failed: {}", words(step)));
    }
    let failed = count(StepState::Failed);
    if failed > MOST_REASONS {
        parts.push(format!("{} more steps failed", failed - MOST_REASONS));
    }
    if let Some(stopped) = &status.stopped {
        parts.push(why_stopped(stopped.reason).to_owned());
        parts.extend(hidden_causes(status, order, stopped.reason));
    }
    let mut counts = vec![format!("{succeeded} of {} steps succeeded", status.steps.len())];
    if skipped > 0 {
        counts.push(format!("{skipped} skipped"));
    }
    if cancelled > 0 {
        counts.push(format!("{cancelled} stopped"));
    }
    parts.push(counts.join(", "));
    parts.join("; ")
}

/// What held up the steps that were stopped because the run's time ran out, as their messages say after that.
fn hidden_causes(status: &PipelineRunStatus, order: &[ValidStep], reason: StopReason) -> Vec<String> {
    let stopped = by_end(status, StepState::Cancelled, order).into_iter();
    let cause = |step: &StepStatus| Some(words(step).strip_prefix(why_stopped(reason))?.strip_prefix("; ")?.to_owned());
    let causes = stopped.filter_map(|(name, step)| Some(format!("step {name}: {}", cause(step)?)));
    causes.take(MOST_REASONS).collect()
}

/// Writes a situation into a status: conditions, message, and what only this situation brings. `pipeline` is what is run, if
/// that is known.
pub fn describe(status: &mut PipelineRunStatus, situation: &Situation, pipeline: Option<&ValidPipeline>, seen: Seen) {
    let order = pipeline.map(|pipeline| pipeline.steps.as_slice()).unwrap_or_default();
    if pipeline.is_some() {
        let ended = status.steps.values().filter(|step| step.state != StepState::Running).count();
        status.summary = Some(format!("{ended}/{}", order.len()));
    }
    let state = situation.state(status);
    let message = shorten(&situation.message(status, order), LONGEST_MESSAGE).to_owned();
    let list = &mut status.conditions;
    let given_up = matches!(situation, Situation::GivenUp(_));
    let standing = if given_up { (false, false, true) } else { state.standing() };
    set_standing(list, standing, state.as_str(), &message, seen);
    let finished = match state {
        _ if given_up => Some(FAILED),
        State::Succeeded => Some(COMPLETE),
        State::Failed => Some(FAILED),
        State::Cancelled => Some(CANCELLED),
        _ => None,
    };
    if let Some(condition) = finished {
        conditions::set(list, condition, true, state.as_str(), &message, seen);
        conditions::set(list, FINISHED, true, condition, &message, seen);
        status.finish_time = Some(Time(seen.now));
    }
    status.message = Some(message);
    status.observed_generation = seen.generation;
}

/// Says that a generation was seen, and nothing else: `kubectl wait` looks at the generation of each condition.
pub fn observe(status: &mut PipelineRunStatus, generation: Option<i64>) {
    status.observed_generation = generation;
    conditions::observe(&mut status.conditions, generation);
}

/// Puts words into the status of a step, as many as there is room for.
pub fn put_message(step: &mut StepStatus, message: &str) {
    step.message = Some(shorten(message, LONGEST_STEP_MESSAGE).to_owned());
}

/// Whether a step has ended, or never will start.
pub fn has_ended(status: &PipelineRunStatus, step: &str) -> bool {
    status.steps.get(step).is_some_and(|step| step.state != StepState::Running)
}

/// Whether the run is over.
pub fn is_finished(status: &PipelineRunStatus) -> bool {
    conditions::holds(&status.conditions, FINISHED)
}

/// Whether two statuses differ in more than wording, so that the new one cannot wait.
pub fn differs_materially(old: &PipelineRunStatus, new: &PipelineRunStatus) -> bool {
    let bare = |status: &PipelineRunStatus| {
        let mut bare = PipelineRunStatus { message: None, conditions: Vec::new(), ..status.clone() };
        for step in bare.steps.values_mut().filter(|step| step.state == StepState::Running) {
            step.message = None;
        }
        bare
    };
    gist(&old.conditions) != gist(&new.conditions) || bare(old) != bare(new)
}

/// Whether two statuses differ in what their steps are at only, as they do all the time in a run of many.
pub fn differs_in_steps_only(old: &PipelineRunStatus, new: &PipelineRunStatus) -> bool {
    old.stopped == new.stopped && old.start_time == new.start_time && gist(&old.conditions) == gist(&new.conditions)
}
