//! Events: the turning points of a run, told once each.

use super::status::{MODEL_NOT_OURS, State, is_finished};
use crate::api::conditions::find;
use crate::api::pipeline_run::StepState;
use crate::api::{PipelineRunStatus, StepStatus};
use crate::cluster::port::{EventDraft, EventType};
use crate::serving::status::CLAIM_NOT_SHAREABLE;

/// Conditions that warn of something.
const WARNINGS: [&str; 2] = [CLAIM_NOT_SHAREABLE, MODEL_NOT_OURS];
/// Steps that are told of in one change of status; a broken cluster may fail hundreds at a time.
const MOST_STEPS: usize = 3;

/// The events that a change of status tells: that the run started, each failure, and how it ended.
pub fn events(old: &PipelineRunStatus, new: &PipelineRunStatus) -> Vec<EventDraft> {
    let failures = new.steps.iter().filter_map(|(name, step)| failure(name, old.steps.get(name), step));
    let mut events: Vec<EventDraft> = failures.take(MOST_STEPS).collect();
    let (before, after) = (State::of(old), State::of(new));
    if old.start_time.is_none() && new.start_time.is_some() {
        events.push(draft(EventType::Normal, "Started", "Start", new));
    }
    let ends = is_finished(new) && !is_finished(old);
    events.extend(WARNINGS.into_iter().filter_map(|type_| warning(old, new, type_)));
    if let Some(after) = after.filter(|after| before != Some(*after) || ends)
        && let Some((event_type, action)) = told(after)
    {
        events.push(draft(event_type, after.as_str(), action, new));
    }
    events
}

/// A condition that warns of something, when it is new.
fn warning(old: &PipelineRunStatus, new: &PipelineRunStatus, type_: &'static str) -> Option<EventDraft> {
    let present = find(&new.conditions, type_).filter(|_| find(&old.conditions, type_).is_none())?;
    let note = present.message.clone();
    Some(EventDraft { event_type: EventType::Warning, reason: type_, action: "Validate", note })
}

fn draft(event_type: EventType, reason: &'static str, action: &'static str, status: &PipelineRunStatus) -> EventDraft {
    EventDraft { event_type, reason, action, note: status.message.clone().unwrap_or_default() }
}

fn failure(name: &str, old: Option<&StepStatus>, new: &StepStatus) -> Option<EventDraft> {
    let was = |step: &StepStatus| (step.state == StepState::Failed, step.attempts.unwrap_or(1));
    let (failed, attempts) = was(new);
    let is_news = old.map_or((false, 1), was) != (failed, attempts);
    let message = new.message.as_deref().unwrap_or_default();
    (is_news && (failed || attempts > 1)).then(|| EventDraft {
        event_type: EventType::Warning,
        reason: if failed { "StepFailed" } else { "StepRetried" },
        action: "RunStep",
        note: format!("step {name}: {message}"),
    })
}

/// How a state is told; `None` for what is on its way somewhere else.
fn told(state: State) -> Option<(EventType, &'static str)> {
    match state {
        State::Starting | State::Waiting | State::Running => None,
        State::Stopping => Some((EventType::Normal, "Stop")),
        State::Succeeded | State::Cancelled => Some((EventType::Normal, "Finish")),
        State::Failed => Some((EventType::Warning, "Finish")),
        State::Invalid | State::PipelineNotFound => Some((EventType::Warning, "Validate")),
        State::Refused | State::NameTaken | State::QuotaExceeded | State::RecordNotFound => {
            Some((EventType::Warning, "Start"))
        }
    }
}
