//! One reconcile of one TrainingJob: decide, execute, publish. The operator and the simulated cluster both call this.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::decide::decide;
use super::events::events;
use super::observe::{Memory, Observed};
use super::status::{Situation, describe, recorded_attempt};
use crate::api::conditions::Seen;
use crate::api::{TrainingJob, TrainingJobStatus};
use crate::cluster::managed::{Managed, Said};
use crate::cluster::port::{ApiError, ApiServer, EventDraft, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::reconcile::{Reconciled, carry_out, is_behind};

impl Managed for TrainingJob {
    const RESOURCE: Resource = Resource::TrainingJob;
    const NOUN: &'static str = "job";
    type Status = TrainingJobStatus;
    type Memory = Memory;

    fn status(&self) -> Option<&TrainingJobStatus> {
        self.status.as_ref()
    }

    fn events(old: &TrainingJobStatus, new: &TrainingJobStatus) -> Vec<EventDraft> {
        events(old, new)
    }

    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said {
        let mut status = TrainingJobStatus { conditions, ..TrainingJobStatus::default() };
        describe(&mut status, &Situation::Invalid(vec![problem]), seen);
        let TrainingJobStatus { observed_generation, message, conditions, .. } = status;
        Said { observed_generation, message, conditions }
    }
}

/// Brings one job a step closer to its spec.
///
/// `job` and `observed` are as the caches have them; `memory` is what this process knows of its own writes to this
/// very object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    job: &TrainingJob,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    if is_behind(job, memory) {
        return Ok(Reconciled::stale(now));
    }
    memory.catch_up(observed, recorded_attempt(job), now);
    carry_out(api, job, memory, |memory| decide(job, observed, memory, now), now).await
}
