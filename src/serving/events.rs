//! Events: the turning points of a deployment, told once each; never one per pod.

use super::status::{CLAIM_NOT_SHAREABLE, REVISION_CHANGED, State};
use crate::api::ModelDeploymentStatus;
use crate::api::conditions::{self, STALLED};
use crate::cluster::port::{EventDraft, EventType};

/// The events that a change of status tells. A replacement that goes well tells two: RollingOut and Serving.
pub fn events(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> Vec<EventDraft> {
    let turned = turning_point(old, new).and_then(|state| {
        let stalled = conditions::holds(&new.conditions, STALLED);
        let (event_type, action) = told(state, stalled)?;
        Some(EventDraft { event_type, reason: state.as_str(), action, note: new.message.clone().unwrap_or_default() })
    });
    let warnings = [(CLAIM_NOT_SHAREABLE, "Validate"), (REVISION_CHANGED, "Observe")];
    let warnings = warnings.into_iter().filter_map(|(condition, action)| warning(old, new, condition, action));
    turned.into_iter().chain(warnings).collect()
}

/// The state that was turned to; a revision that follows another within a rollout is a turn too.
fn turning_point(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> Option<State> {
    let stalled = |status: &ModelDeploymentStatus| conditions::holds(&status.conditions, STALLED);
    let (before, after) = (State::of(old), State::of(new)?);
    let turned = before != Some(after) || old.revision != new.revision || stalled(old) != stalled(new);
    // Pods come and go, by an autoscaler's will too: that all of them serve again is no news.
    let is_routine = before == Some(State::Scaling) && after == State::Serving && !stalled(old);
    Some(after).filter(|_| turned && !is_routine)
}

/// How a state is reported; `None` for what is on its way somewhere else.
fn told(state: State, stalled: bool) -> Option<(EventType, &'static str)> {
    match state {
        State::Serving => Some((EventType::Normal, "RollOut")),
        State::ScaledToZero => Some((EventType::Normal, "Scale")),
        State::RollingOut if !stalled => Some((EventType::Normal, "RollOut")),
        State::Starting | State::Scaling if !stalled => None,
        State::Invalid => Some((EventType::Warning, "Validate")),
        State::Refused | State::NameTaken | State::ClaimNotFound | State::PodsRefused => {
            Some((EventType::Warning, "Create"))
        }
        // What may pass by itself is reported when it does not.
        State::NotReady | State::Unschedulable if !stalled => None,
        _ => Some((EventType::Warning, "RollOut")),
    }
}

/// The event that a condition came to hold.
fn warning(
    old: &ModelDeploymentStatus,
    new: &ModelDeploymentStatus,
    condition: &'static str,
    action: &'static str,
) -> Option<EventDraft> {
    let present = conditions::find(&new.conditions, condition)?;
    let is_new = conditions::find(&old.conditions, condition).is_none();
    is_new.then(|| EventDraft {
        event_type: EventType::Warning,
        reason: condition,
        action,
        note: present.message.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::Seen;
    use crate::serving::status::{Situation, describe};
    use jiff::Timestamp;

    fn status(state: State, revision: i64) -> ModelDeploymentStatus {
        let mut status = ModelDeploymentStatus { revision: Some(revision), ..ModelDeploymentStatus::default() };
        let seen = Seen { now: Timestamp::UNIX_EPOCH, generation: None };
        describe(&mut status, &Situation::new(state, "m".into()), seen);
        status
    }

    #[test]
    fn a_replacement_that_goes_well_tells_two_events() {
        let steps = [
            ModelDeploymentStatus::default(),
            status(State::Starting, 1),
            status(State::Serving, 1),
            status(State::RollingOut, 2),
            status(State::RollingOut, 2),
            status(State::Unschedulable, 2),
            status(State::Serving, 2),
            status(State::Serving, 2),
        ];
        let told: Vec<&str> =
            steps.windows(2).flat_map(|pair| events(&pair[0], &pair[1])).map(|event| event.reason).collect();
        assert_eq!(told, ["Serving", "RollingOut", "Serving"]);
    }
}
