//! Events: the turning points of a job, told once each; never one per pod.

use super::status::State;
use crate::api::TrainingJobStatus;
use crate::api::conditions::{self, READY};
use crate::cluster::port::{EventDraft, EventType};

/// The events that a change of status tells. An attempt that goes well tells two: Running and Succeeded.
pub fn events(old: &TrainingJobStatus, new: &TrainingJobStatus) -> Vec<EventDraft> {
    let (before, after) = (state(old), state(new));
    let attempt_failed = old.attempts != new.attempts;
    let Some(after) = after.filter(|after| Some(*after) != before || attempt_failed) else {
        return Vec::new();
    };
    let Some((event_type, action)) = told(after) else {
        return Vec::new();
    };
    let note = new.message.clone().unwrap_or_default();
    vec![EventDraft { event_type, reason: after.as_str(), action, note }]
}

/// How a state is told; `None` for what is on its way somewhere else.
fn told(state: State) -> Option<(EventType, &'static str)> {
    match state {
        State::Starting | State::Waiting | State::Suspending => None,
        State::Running => Some((EventType::Normal, "Launch")),
        State::Succeeded => Some((EventType::Normal, "Finish")),
        State::Suspended => Some((EventType::Normal, "Suspend")),
        State::Restarting => Some((EventType::Warning, "Restart")),
        State::Failed => Some((EventType::Warning, "Finish")),
        State::Invalid => Some((EventType::Warning, "Validate")),
        State::Refused | State::NameTaken | State::QuotaExceeded => Some((EventType::Warning, "Launch")),
    }
}

fn state(status: &TrainingJobStatus) -> Option<State> {
    let reason = &conditions::find(&status.conditions, READY)?.reason;
    State::ALL.into_iter().find(|state| state.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Seen;
    use crate::training::status::{Situation, describe};
    use jiff::Timestamp;

    fn status(situation: &Situation) -> TrainingJobStatus {
        let mut status = TrainingJobStatus::default();
        describe(&mut status, situation, Seen { now: Timestamp::UNIX_EPOCH, generation: None });
        status
    }

    #[test]
    fn an_attempt_that_goes_well_tells_two_events() {
        let steps = [
            TrainingJobStatus::default(),
            status(&Situation::Starting { started: 0, nodes: 2, why: None }),
            status(&Situation::Starting { started: 1, nodes: 2, why: Some("w".into()) }),
            status(&Situation::Running { nodes: 2 }),
            status(&Situation::Running { nodes: 2 }),
            status(&Situation::Complete(Ok(None))),
        ];
        let told: Vec<&str> =
            steps.windows(2).flat_map(|pair| events(&pair[0], &pair[1])).map(|event| event.reason).collect();
        assert_eq!(told, ["Running", "Succeeded"]);
    }
}
