//! What status says: the same words for the same situation, whatever led to it.

use super::policy::trouble::TroubleKind;
use crate::api::ModelDeploymentStatus;
use crate::api::conditions::{self, Seen, Standing, gist, set_standing};
use crate::cluster::refusal::RefusalKind;
use crate::text::shorten;

/// Condition: enough pods serve.
pub const AVAILABLE: &str = "Available";
/// Condition: the model's claim cannot be mounted by all replicas wherever they are placed.
pub const CLAIM_NOT_SHAREABLE: &str = "ClaimNotShareable";
/// Condition: the pod template of a revision was changed in its Deployment after it was made.
pub const REVISION_CHANGED: &str = "RevisionChanged";

/// Longest message, in bytes: it stands in status and in three conditions, and quotes what users wrote.
const LONGEST_MESSAGE: usize = 2_048;

/// The reason of condition Ready, which `kubectl get` shows as the deployment's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The spec cannot be carried out.
    Invalid,
    /// The apiserver would not create something.
    Refused,
    /// Somebody else's object has a name that is needed.
    NameTaken,
    /// The model's claim does not exist.
    ClaimNotFound,
    /// The first revision is on its way.
    Starting,
    /// Pods of the revision that serves are missing, or more are asked for.
    Scaling,
    /// One revision replaces another.
    RollingOut,
    /// The apiserver refuses the pods.
    PodsRefused,
    /// Pods find no node.
    Unschedulable,
    /// An image cannot be pulled.
    ImageNotPulled,
    /// A container cannot be started.
    CannotStart,
    /// A container ends again and again.
    Crashing,
    /// Containers run, and are not ready.
    NotReady,
    /// A revision was given up, and the stable one restored.
    RolloutFailed,
    /// All pods serve.
    Serving,
    /// No pods are wanted.
    ScaledToZero,
}

impl State {
    /// Every state.
    pub const ALL: [State; 16] = [
        State::Invalid,
        State::Refused,
        State::NameTaken,
        State::ClaimNotFound,
        State::Starting,
        State::Scaling,
        State::RollingOut,
        State::PodsRefused,
        State::Unschedulable,
        State::ImageNotPulled,
        State::CannotStart,
        State::Crashing,
        State::NotReady,
        State::RolloutFailed,
        State::Serving,
        State::ScaledToZero,
    ];

    /// As the reason of a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Invalid => "Invalid",
            State::Refused => "Refused",
            State::NameTaken => "NameTaken",
            State::ClaimNotFound => "ClaimNotFound",
            State::Starting => "Starting",
            State::Scaling => "Scaling",
            State::RollingOut => "RollingOut",
            State::PodsRefused => "PodsRefused",
            State::Unschedulable => "Unschedulable",
            State::ImageNotPulled => "ImageNotPulled",
            State::CannotStart => "CannotStart",
            State::Crashing => "Crashing",
            State::NotReady => "NotReady",
            State::RolloutFailed => "RolloutFailed",
            State::Serving => "Serving",
            State::ScaledToZero => "ScaledToZero",
        }
    }

    /// The state that a status says.
    pub fn of(status: &ModelDeploymentStatus) -> Option<State> {
        let reason = &conditions::find(&status.conditions, conditions::READY)?.reason;
        State::ALL.into_iter().find(|state| state.as_str() == reason)
    }

    /// The state that a create that was refused leads to.
    pub fn of_refusal(kind: RefusalKind) -> State {
        match kind {
            RefusalKind::Content | RefusalKind::Overdue => State::Refused,
            RefusalKind::Foreign => State::NameTaken,
            RefusalKind::Quota | RefusalKind::Leftover | RefusalKind::Unanswered | RefusalKind::Awaited => {
                State::Starting
            }
        }
    }

    /// The state that trouble with pods leads to.
    pub fn of_trouble(kind: TroubleKind) -> State {
        match kind {
            TroubleKind::NotReady => State::NotReady,
            TroubleKind::Unschedulable => State::Unschedulable,
            TroubleKind::CannotStart => State::CannotStart,
            TroubleKind::ImagePull => State::ImageNotPulled,
            TroubleKind::Crashing => State::Crashing,
        }
    }

    /// Ready, Reconciling and Stalled, by the table in ARCHITECTURE.md. What is on its way stalls when it is overdue.
    pub fn standing(self, overdue: bool) -> Standing {
        match self {
            State::Serving | State::ScaledToZero => (true, false, false),
            State::Invalid | State::Refused | State::NameTaken | State::RolloutFailed => (false, false, true),
            _ => (false, !overdue, overdue),
        }
    }
}

/// Where a deployment stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// In one word.
    pub state: State,
    /// In one sentence.
    pub message: String,
    /// Whether nothing has come further for longer than progressDeadline.
    pub overdue: bool,
}

impl Situation {
    /// A situation that no deadline has to do with.
    pub fn new(state: State, message: String) -> Self {
        Situation { state, message, overdue: false }
    }
}

/// Writes a situation into a status: message and conditions.
pub fn describe(status: &mut ModelDeploymentStatus, situation: &Situation, seen: Seen) {
    let message = shorten(&situation.message, LONGEST_MESSAGE).to_owned();
    let standing = situation.state.standing(situation.overdue);
    set_standing(&mut status.conditions, standing, situation.state.as_str(), &message, seen);
    status.message = Some(message);
    status.observed_generation = seen.generation;
}

/// Writes whether enough pods serve.
pub fn describe_available(status: &mut ModelDeploymentStatus, serving: i32, fewest: i32, seen: Seen) {
    let (holds, reason) = match serving >= fewest {
        true => (true, "MinimumReplicasAvailable"),
        false => (false, "MinimumReplicasUnavailable"),
    };
    let message = format!("{serving} {} serve, and at least {fewest} should", pods(serving));
    conditions::set(&mut status.conditions, AVAILABLE, holds, reason, &message, seen);
}

/// The noun for this number of pods.
pub fn pods(count: i32) -> &'static str {
    if count == 1 { "pod" } else { "pods" }
}

/// Whether two statuses differ in more than wording, counts and history, so that the new one cannot wait.
pub fn differs_materially(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> bool {
    let rollout = |status: &ModelDeploymentStatus| {
        status.rollout.as_ref().map(|rollout| (rollout.revision, rollout.failed.is_some()))
    };
    let bare = |status: &ModelDeploymentStatus| {
        let ModelDeploymentStatus { observed_generation, revision, stable_revision, url, selector, .. } = status;
        ((*observed_generation, *revision, *stable_revision), url.clone(), selector.clone(), rollout(status))
    };
    gist(&old.conditions) != gist(&new.conditions) || bare(old) != bare(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn every_state_stands_as_the_design_says() {
        let seen = Seen { now: Timestamp::UNIX_EPOCH, generation: Some(1) };
        for state in State::ALL {
            for overdue in [false, true] {
                let mut status = ModelDeploymentStatus::default();
                describe(&mut status, &Situation { state, message: "m".into(), overdue }, seen);
                let holding: Vec<&str> = ["Ready", "Reconciling", "Stalled"]
                    .into_iter()
                    .filter(|type_| conditions::holds(&status.conditions, type_))
                    .collect();
                let expected = match state {
                    State::Serving | State::ScaledToZero => "Ready",
                    State::Invalid | State::Refused | State::NameTaken => "Stalled",
                    State::RolloutFailed => "Stalled",
                    _ if overdue => "Stalled",
                    _ => "Reconciling",
                };
                assert_eq!(holding, [expected], "{state:?}, overdue: {overdue}");
                assert_eq!(State::of(&status), Some(state));
            }
        }
    }

    #[test]
    fn wording_and_counts_can_wait() {
        let seen = Seen { now: Timestamp::UNIX_EPOCH, generation: Some(1) };
        let mut old = ModelDeploymentStatus::default();
        describe(&mut old, &Situation::new(State::RollingOut, "1 of 3".into()), seen);
        let mut new = ModelDeploymentStatus { replicas: Some(3), ..old.clone() };
        describe(&mut new, &Situation::new(State::RollingOut, "2 of 3".into()), seen);
        assert!(!differs_materially(&old, &new));
        describe(&mut new, &Situation::new(State::Serving, "all".into()), seen);
        assert!(differs_materially(&old, &new));
        assert!(differs_materially(&old, &ModelDeploymentStatus { revision: Some(2), ..old.clone() }));
    }
}
