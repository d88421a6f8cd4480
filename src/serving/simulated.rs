//! The ModelDeployment controller in the simulated cluster: the same caches, memory and [`reconcile`] as in the operator,
//! fed by the simulation's watches in place of real ones.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use crate::api::ModelDeployment;
use crate::cluster::index::OwnerKey;
use crate::cluster::load::extra_wait;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::workload::{WatchedBudget, WatchedDeployment, WatchedRevision, WatchedService};
use crate::names;
use crate::testing::json;
use crate::testing::operator::{Delivery, SimulatedOperator};
use crate::testing::scenario::{exhaustive_crashes, exhaustive_recreations, random_runs, seeds};
use crate::testing::serving::{Menu, Serving};
use crate::testing::watch::Source;
use crate::testing::world::World;

/// The operator's state; a crash is a new one.
#[derive(Default)]
pub(crate) struct Operator {
    deployments: HashMap<ObjectId, ModelDeployment>,
    caches: Caches,
    memories: HashMap<String, Memory>,
    active: usize,
}

impl SimulatedOperator for Operator {
    type Subject = Serving;

    fn set_active(&mut self, objects: usize) {
        self.active = objects;
    }

    fn selects(Source { of: resource, .. }: Source, object: &Value) -> bool {
        resource == Resource::ModelDeployment || json::label(object, names::LABEL_DEPLOYMENT).is_some()
    }

    fn deliver(&mut self, Source { of: resource, .. }: Source, delivery: Delivery<'_>) -> Vec<ObjectId> {
        let caches = &mut self.caches;
        let concerned = match resource {
            Resource::ModelDeployment => return self.deliver_deployments(&delivery),
            Resource::Pod => delivery.feed_children(&mut caches.pods, |pod: WatchedPod| pod.into()),
            Resource::Deployment => {
                delivery.feed_children(&mut caches.deployments, |child: WatchedDeployment| child.into())
            }
            Resource::ControllerRevision => {
                delivery.feed_children(&mut caches.revisions, |record: WatchedRevision| record.into())
            }
            Resource::Service => delivery.feed_children(&mut caches.routes, |service: WatchedService| service.into()),
            Resource::PodDisruptionBudget => {
                delivery.feed_children(&mut caches.budgets, |budget: WatchedBudget| budget.into())
            }
            _ => return Vec::new(),
        };
        concerned.into_iter().filter(|key| key.owner.kind == "ModelDeployment").map(deployment_of).collect()
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(None) };
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        let observed = self.caches.observe(&key.namespace, &key.name, &uid);
        let memory = self.memories.entry(uid).or_default();
        memory.writes.extra_wait = extra_wait(self.active);
        let reconciled = reconcile(api, deployment, &observed, memory, now).await;
        reconciled.map(|reconciled| reconciled.wake_at).map_err(|error| error.to_string())
    }
}

impl Operator {
    fn deliver_deployments(&mut self, delivery: &Delivery<'_>) -> Vec<ObjectId> {
        if let Delivery::Deleted(deployment) = delivery {
            self.memories.remove(json::uid(deployment));
        }
        delivery.feed_owners(Resource::ModelDeployment, &mut self.deployments)
    }
}

fn deployment_of(key: OwnerKey) -> ObjectId {
    ObjectId::new(Resource::ModelDeployment, &key.namespace, &key.owner.name)
}

#[test]
fn random_runs_end_as_they_should() {
    random_runs::<Operator>(seeds(), &Menu::everything());
}

#[test]
fn a_deployment_made_again_at_any_step_never_meets_its_past_self() {
    let runs: u64 = (0..6).map(|scenario| exhaustive_recreations::<Operator>(scenario, &Menu::calm())).sum();
    assert!(runs > 50, "only {runs} runs");
}

#[test]
fn a_crash_around_any_write_changes_nothing_but_time() {
    for scenario in 0..4 {
        exhaustive_crashes::<Operator>(scenario, &Menu::calm());
    }
}
