//! What the status of a run says: the same words for the same situation, whatever led to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, FINISHED, Seen, Standing, gist, set_standing};
use crate::api::pipeline_run::{StepState, StopReason};
use crate::api::{PipelineRunStatus, StepStatus};
use crate::cluster::problem::{Problem, told};
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::text::shorten;

/// Condition: every step succeeded or was skipped by its own `when`.
pub const COMPLETE: &str = "Complete";
/// Condition: a step failed, or the run's time ran out.
pub const FAILED: &str = "Failed";
/// Condition: the run was cancelled.
pub const CANCELLED: &str = "Cancelled";

/// Longest message of a run, in bytes: it stands in status and in several conditions.
const LONGEST_MESSAGE: usize = 2_048;
/// Longest message of a step, in bytes: there may be hundreds of them.
const LONGEST_STEP_MESSAGE: usize = 320;
/// Names of steps that a message lists.
const MOST_NAMES: usize = 5;

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
    /// Steps run. Something may hold them up.
    Running(Option<String>),
    /// Steps are being stopped.
    Stopping(StopReason),
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
    fn standing(self) -> Standing {
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
            Situation::Running(None) => State::Running,
            Situation::Running(Some(_)) => State::Waiting,
            Situation::Stopping(_) => State::Stopping,
            Situation::Ended => outcome(status),
        }
    }

    fn message(&self, status: &PipelineRunStatus) -> String {
        match self {
            Situation::Invalid(problems) => told(problems),
            Situation::NoPipeline(name) => format!(
                "spec.pipelineRef.name: {name}: there is no such Pipeline in this namespace: create it and the run starts, \
                 or delete the run"
            ),
            Situation::Refused(refusal) => refusal.told(""),
            Situation::Starting => "starting".to_owned(),
            Situation::NoRecord(name) => format!(
                "ControllerRevision {name}, the record of what this run runs, is gone or cannot be read by this operator: \
                 delete the run and create another"
            ),
            Situation::Running(None) => running(status),
            Situation::Running(Some(why)) => format!("{}; {why}", running(status)),
            Situation::Stopping(reason) => format!("{}: stopping {}", why_stopped(*reason), running_names(status)),
            Situation::Ended => ended(status),
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

fn running_names(status: &PipelineRunStatus) -> String {
    let names: Vec<&str> = in_state(status, StepState::Running).map(|(name, _)| name.as_str()).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        1..=MOST_NAMES => names.join(", "),
        more => format!("{} and {} more steps", names[..MOST_NAMES - 1].join(", "), more - MOST_NAMES + 1),
    }
}

fn running(status: &PipelineRunStatus) -> String {
    let failed = in_state(status, StepState::Failed).next();
    let running = format!("running {}", running_names(status));
    failed.map_or_else(|| running.clone(), |(name, step)| format!("step {name} failed: {}; {running}", words(step)))
}

fn words(step: &StepStatus) -> &str {
    step.message.as_deref().unwrap_or("no reason is known")
}

fn ended(status: &PipelineRunStatus) -> String {
    if status.start_time.is_none() {
        return "the run was cancelled (spec.cancel) before it started".to_owned();
    }
    let count = |state| in_state(status, state).count();
    let (succeeded, skipped, cancelled) =
        (count(StepState::Succeeded), count(StepState::Skipped), count(StepState::Cancelled));
    let mut parts = Vec::new();
    for (name, step) in in_state(status, StepState::Failed).take(3) {
        parts.push(format!("step {name} failed: {}", words(step)));
    }
    let failed = count(StepState::Failed);
    if failed > 3 {
        parts.push(format!("{} more steps failed", failed - 3));
    }
    if let Some(stopped) = &status.stopped {
        parts.push(why_stopped(stopped.reason).to_owned());
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

/// Writes a situation into a status: conditions, message, and what only this situation brings. `steps` is their number.
pub fn describe(status: &mut PipelineRunStatus, situation: &Situation, steps: Option<usize>, seen: Seen) {
    if let Some(steps) = steps {
        let ended = status.steps.values().filter(|step| step.state != StepState::Running).count();
        status.summary = Some(format!("{ended}/{steps}"));
    }
    let state = situation.state(status);
    let message = shorten(&situation.message(status), LONGEST_MESSAGE).to_owned();
    let list = &mut status.conditions;
    set_standing(list, state.standing(), state.as_str(), &message, seen);
    let finished = match state {
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
