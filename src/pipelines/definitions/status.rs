//! What the status of a Pipeline says.

use crate::api::PipelineStatus;
use crate::api::conditions::{self, READY, Seen, gist, set_standing};
use crate::cluster::port::{EventDraft, EventType};
use crate::cluster::problem::{Problem, told};
use crate::text::shorten;

/// Condition: how the run ended that finished last.
pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
/// Reason of Ready: runs can be started.
const RUNNABLE: &str = "Runnable";
/// Reason of Ready: the spec makes no sense.
const INVALID: &str = "Invalid";
/// Longest message, in bytes.
const LONGEST_MESSAGE: usize = 2_048;

/// Writes into a status whether the pipeline can be run: `problems` is empty if it can. `warnings` do not keep it from that.
pub fn describe(status: &mut PipelineStatus, problems: &[Problem], warnings: &[Problem], seen: Seen) {
    const CAN_BE_RUN: &str = "can be run: create a PipelineRun that names it";
    let (reason, message) = match problems {
        [] if warnings.is_empty() => (RUNNABLE, CAN_BE_RUN.to_owned()),
        [] => {
            let message = format!("{CAN_BE_RUN}; but note: {}", told(warnings));
            (RUNNABLE, shorten(&message, LONGEST_MESSAGE).to_owned())
        }
        problems => (INVALID, shorten(&told(problems), LONGEST_MESSAGE).to_owned()),
    };
    set_standing(&mut status.conditions, (problems.is_empty(), false, !problems.is_empty()), reason, &message, seen);
    if let Some(last) = &status.last_run {
        let message = format!("run {} {}", last.name, last.result.to_lowercase());
        let succeeded = last.result == "Succeeded";
        conditions::set(&mut status.conditions, LAST_RUN_SUCCEEDED, succeeded, &last.result.clone(), &message, seen);
    }
    status.message = Some(message);
    status.observed_generation = seen.generation;
}

/// The events that a change of status tells: that the spec makes no sense, or does again.
pub fn events(old: &PipelineStatus, new: &PipelineStatus) -> Vec<EventDraft> {
    let reason =
        |status: &PipelineStatus| conditions::find(&status.conditions, READY).map(|ready| ready.reason.clone());
    let note = new.message.clone().unwrap_or_default();
    match (reason(old).as_deref(), reason(new).as_deref()) {
        (before, Some(INVALID)) if before != Some(INVALID) => {
            vec![EventDraft { event_type: EventType::Warning, reason: INVALID, action: "Validate", note }]
        }
        (Some(INVALID), Some(RUNNABLE)) => {
            vec![EventDraft { event_type: EventType::Normal, reason: RUNNABLE, action: "Validate", note }]
        }
        _ => Vec::new(),
    }
}

/// Whether two statuses differ in more than how many runs there are.
pub fn differs_materially(old: &PipelineStatus, new: &PipelineStatus) -> bool {
    let standing = |status: &PipelineStatus| {
        let mut gist: Vec<_> = gist(&status.conditions)
            .into_iter()
            .filter(|(type_, ..)| *type_ != LAST_RUN_SUCCEEDED)
            .map(|(type_, status, reason)| format!("{type_} {status} {reason}"))
            .collect();
        gist.sort_unstable();
        gist
    };
    standing(old) != standing(new) || old.observed_generation != new.observed_generation
}
