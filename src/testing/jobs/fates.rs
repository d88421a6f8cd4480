//! Which pod it is, and what its author says of its end: a template may carry a list of fates, one for each attempt.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::behaviour::{Behaviour, Ending};
use super::kubelet::{Part, job_of};
use crate::cluster::port::ObjectId;
use crate::names::{LABEL_ATTEMPT, LABEL_JOB, LABEL_RANK, LABEL_RUN, LABEL_STEP};
use crate::testing::json;
use crate::testing::world::World;

/// Annotation of a pod: the [`Fate`]s of its attempts as JSON. Where there are more attempts, the last counts for the rest.
pub(crate) const FATES: &str = "example.com/fates";

/// How the primary container of a pod ends, if nothing worse comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fate {
    /// How.
    pub(crate) ends: Ends,
    /// Its termination message.
    pub(crate) says: String,
}

/// How a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ends {
    /// With 0.
    Well,
    /// With 1.
    Badly,
    /// It runs until it is stopped.
    Never,
    /// Its node evicts it.
    Evicted,
}

/// What a kubelet knows of a new pod: the same in every run of a scenario, whatever happens to the operator.
pub(super) struct Identity {
    /// Which pod it is.
    pub(super) part: Part,
    /// Its name for the dice, which no UID is part of.
    pub(super) name: String,
    /// Whether it has to find others by name before it can do its work.
    pub(super) has_peers: bool,
    fate: Option<Fate>,
}

impl Identity {
    /// Who a pod is that somebody of ours controls; all others are none of our business.
    pub(super) fn of(world: &World, id: &ObjectId, pod: &Value) -> Option<Self> {
        let owner = json::controller_uid(pod)?;
        let attempt = json::label_number(pod, LABEL_ATTEMPT)?;
        if json::label(pod, LABEL_JOB).is_none()
            && let (Some(run), Some(step)) = (json::label(pod, LABEL_RUN), json::label(pod, LABEL_STEP))
        {
            let part = Part { job: (id.namespace.clone(), run.to_owned()), rank: 0, attempt };
            let name = format!("{}/{run}/{step} {attempt}", id.namespace);
            return Some(Identity { part, name, has_peers: false, fate: fate(pod, attempt) });
        }
        let rank = json::label_number(pod, LABEL_RANK)?;
        let part = Part { job: (id.namespace.clone(), json::label(pod, LABEL_JOB)?.to_owned()), rank, attempt };
        let job = job_of(&part, owner, world);
        let has_peers = job.as_ref().is_some_and(|job| {
            json::text(job, "/spec/framework") == Some("torch") && json::number(job, "/spec/nodes").unwrap_or(1) > 1
        });
        let of_step = job.as_ref().and_then(|job| {
            let (run, step) = (json::label(job, LABEL_RUN)?, json::label(job, LABEL_STEP)?);
            Some((run, step, json::label_number(job, LABEL_ATTEMPT)?, job))
        });
        let Some((run, step, step_attempt, job)) = of_step else {
            let name = format!("{}/{} {rank} {attempt}", part.job.0, part.job.1);
            return Some(Identity { part, name, has_peers, fate: None });
        };
        let name = format!("{}/{run}/{step} {step_attempt} {rank} {attempt}", id.namespace);
        let restarts = json::number(job, "/spec/failurePolicy/maxRestarts").unwrap_or(0) as u32;
        let turn = (step_attempt - 1) * (1 + restarts) + attempt;
        let fate = fate(pod, turn).filter(|_| rank == 0);
        Some(Identity { part, name, has_peers, fate })
    }

    /// A behaviour as the author says. What nodes do to a pod, they do in spite of it.
    pub(super) fn fated(&self, drawn: Behaviour) -> Behaviour {
        let Some(fate) = &self.fate else { return drawn };
        let ending = match (drawn.ending, fate.ends) {
            (worse @ (Ending::Vanishes | Ending::Evicted | Ending::Preempted), _) => worse,
            (_, Ends::Well) => Ending::Exit(0),
            (_, Ends::Badly) => Ending::Exit(1),
            (_, Ends::Never) => Ending::Never,
            (_, Ends::Evicted) => Ending::Evicted,
        };
        Behaviour { ending, says: Some(fate.says.clone()), ..drawn }
    }
}

/// The fate of a pod in its n-th attempt.
fn fate(pod: &Value, attempt: u32) -> Option<Fate> {
    let fates = json::at(pod, "/metadata/annotations")?.get(FATES)?.as_str()?;
    let fates: Vec<Fate> = serde_json::from_str(fates).expect("the scenarios' fates are well-formed");
    fates.get(attempt as usize - 1).or(fates.last()).cloned()
}
