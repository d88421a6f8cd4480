//! One reconcile of one ModelDeployment: decide, execute, publish. The operator and the simulated cluster both call this.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::content::{ClaimPath, Content};
use super::decide::decide;
use super::events::events;
use super::observe::{ClaimFacts, Memory, Observed};
use super::status::{Situation, State, describe};
use crate::api::conditions::{READY, Seen, holds};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::managed::{Managed, Said};
use crate::cluster::port::{ApiError, ApiServer, EventDraft, ObjectId, Resource};
use crate::cluster::problem::Problem;
use crate::cluster::reconcile::{Reconciled, carry_out, is_behind};

impl Managed for ModelDeployment {
    const RESOURCE: Resource = Resource::ModelDeployment;
    const NOUN: &'static str = "deployment";
    type Status = ModelDeploymentStatus;
    type Memory = Memory;

    fn status(&self) -> Option<&ModelDeploymentStatus> {
        self.status.as_ref()
    }

    fn events(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> Vec<EventDraft> {
        events(old, new)
    }

    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said {
        let mut status = ModelDeploymentStatus { conditions, ..ModelDeploymentStatus::default() };
        describe(&mut status, &Situation::new(State::Invalid, problem.to_string()), seen);
        let ModelDeploymentStatus { observed_generation, message, conditions, .. } = status;
        Said { observed_generation, message, conditions }
    }
}

/// Brings one deployment a step closer to its spec.
///
/// `deployment` and `observed` are as the caches have them; `memory` is what this process knows of its own writes to this
/// very object (by UID) and is brought up to date.
///
/// # Errors
/// What the apiserver answered, if it is worth another try soon.
pub async fn reconcile<A: ApiServer>(
    api: &A,
    deployment: &ModelDeployment,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Reconciled, ApiError> {
    if is_behind(deployment, memory) {
        return Ok(Reconciled::stale(now));
    }
    memory.catch_up(observed, now);
    look_at_claim(api, deployment, observed, memory, now).await;
    carry_out(api, deployment, memory, |memory| decide(deployment, observed, memory, now), now).await
}

/// Reads the claim of the model if it may explain something: before the deployment serves, and while it is missing. It is
/// only told of: that it cannot be read is no obstacle.
async fn look_at_claim<A: ApiServer>(
    api: &A,
    deployment: &ModelDeployment,
    observed: &Observed,
    memory: &mut Memory,
    now: Timestamp,
) {
    let Some(model) = asked_model(deployment, observed) else {
        memory.claim = None;
        return;
    };
    let status = deployment.status.as_ref();
    let settled = status.is_some_and(|status| {
        holds(&status.conditions, READY) && status.observed_generation == deployment.metadata.generation
    });
    if memory.is_claim_due(&model.claim, settled, now) {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let id = ObjectId::new(Resource::PersistentVolumeClaim, namespace, &model.claim);
        match api.read(&id).await {
            Ok(claim) => memory.claim = Some(ClaimFacts::new(&model.claim, claim.as_ref(), now)),
            Err(error) => tracing::debug!("{id} cannot be read: {error}"),
        }
    }
}

/// The model that is asked for: of the revision that an undo leads to, or the spec's own. The template is not looked at.
fn asked_model(deployment: &ModelDeployment, observed: &Observed) -> Option<ClaimPath> {
    match deployment.spec.rollout.as_ref().and_then(|rollout| rollout.undo_to) {
        Some(number) => {
            let record = observed.revisions.iter().find(|record| record.number == number)?;
            Content::of_revision(&record.data)?.model
        }
        None => ClaimPath::of_uri(&deployment.spec.model.as_ref()?.uri).ok(),
    }
}
