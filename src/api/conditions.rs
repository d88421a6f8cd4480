//! Conditions: the same three on every kind, with the meaning that kstatus gives them, beside each kind's own.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::text::shorten;

/// The object is as its spec asks (kstatus: Current).
pub const READY: &str = "Ready";
/// The operator is working towards the spec (kstatus: InProgress).
pub const RECONCILING: &str = "Reconciling";
/// Nothing will happen without a person (kstatus: Failed).
pub const STALLED: &str = "Stalled";

/// The object is over, either way; for kinds that come to an end.
pub const FINISHED: &str = "Finished";

/// The longest message that the apiserver's own validation of conditions allows.
const MAX_MESSAGE: usize = 32_768;

/// Sets or adds the condition of that type. `lastTransitionTime` moves only when the status does, as the API
/// conventions demand.
pub fn set(conditions: &mut Vec<Condition>, type_: &str, holds: bool, reason: &str, message: &str, seen: Seen) {
    let status = if holds { "True" } else { "False" };
    let mut next = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shorten(message, MAX_MESSAGE).to_owned(),
        observed_generation: seen.generation,
        last_transition_time: Time(seen.now),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(present) => {
            if present.status == next.status {
                next.last_transition_time = present.last_transition_time.clone();
            }
            *present = next;
        }
        None => conditions.push(next),
    }
}

/// Has every condition speak of this generation: what they say holds for it too. `kubectl wait` compares a condition's own.
pub fn observe(conditions: &mut [Condition], generation: Option<i64>) {
    conditions.iter_mut().for_each(|condition| condition.observed_generation = generation);
}

/// Removes the condition of that type.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is True.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Ready, Reconciling and Stalled, as a situation stands.
pub type Standing = (bool, bool, bool);

/// Sets Ready, Reconciling and Stalled, with one reason and message for all of them.
pub fn set_standing(conditions: &mut Vec<Condition>, standing: Standing, reason: &str, message: &str, seen: Seen) {
    let (ready, reconciling, stalled) = standing;
    for (type_, holds) in [(READY, ready), (RECONCILING, reconciling), (STALLED, stalled)] {
        set(conditions, type_, holds, reason, message, seen);
    }
}

/// What conditions say, without wording and time.
pub fn gist(conditions: &[Condition]) -> Vec<(&str, &str, &str)> {
    let bare = |condition| {
        let Condition { type_, status, reason, .. }: &Condition = condition;
        (type_.as_str(), status.as_str(), reason.as_str())
    };
    let mut gist: Vec<_> = conditions.iter().map(bare).collect();
    gist.sort_unstable();
    gist
}

/// Kubernetes keeps whole seconds; what is compared with what was read back must be whole too.
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// When, and of which generation, a condition is said.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The time of the reconcile.
    pub now: Timestamp,
    /// The generation that was reconciled.
    pub generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Seen {
        Seen { now: Timestamp::from_second(second).unwrap(), generation: Some(second) }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut conditions = Vec::new();
        set(&mut conditions, READY, false, "Starting", "starting", at(1));
        set(&mut conditions, READY, false, "Waiting", "waiting", at(2));
        assert_eq!(conditions[0].last_transition_time.0, at(1).now);
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("Waiting", Some(2)));
        set(&mut conditions, READY, true, "Running", "running", at(3));
        assert_eq!(conditions[0].last_transition_time.0, at(3).now);
        assert!(holds(&conditions, READY));
        remove(&mut conditions, READY);
        assert!(conditions.is_empty());
    }
}
