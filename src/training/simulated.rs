//! The TrainingJob controller in the simulated cluster: the same caches, memory and [`reconcile`] as in the operator,
//! fed by the simulation's watches in place of real ones.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use crate::api::TrainingJob;
use crate::cluster::endpoints::{ServiceFacts, WatchedSlice};
use crate::cluster::index::{ChildMeta, OwnerKey};
use crate::cluster::load::extra_wait;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::jobs::{Jobs, Menu};
use crate::testing::json;
use crate::testing::operator::{Delivery, SimulatedOperator};
use crate::testing::scenario::{exhaustive_crashes, exhaustive_recreations, random_runs, seeds};
use crate::testing::watch::Source;
use crate::testing::world::World;

/// The operator's state; a crash is a new one.
#[derive(Default)]
pub(crate) struct Operator {
    jobs: HashMap<ObjectId, TrainingJob>,
    caches: Caches,
    memories: HashMap<String, Memory>,
    active: usize,
}

impl SimulatedOperator for Operator {
    type Subject = Jobs;

    fn set_active(&mut self, objects: usize) {
        self.active = objects;
    }

    fn selects(Source { of: resource, .. }: Source, object: &Value) -> bool {
        resource == Resource::TrainingJob || object["metadata"]["labels"].get(names::LABEL_JOB).is_some()
    }

    fn deliver(&mut self, Source { of: resource, .. }: Source, delivery: Delivery<'_>) -> Vec<ObjectId> {
        let concerned = match resource {
            Resource::TrainingJob => return self.deliver_jobs(&delivery),
            Resource::Pod => delivery.feed_children(&mut self.caches.pods, |pod: WatchedPod| pod.into()),
            Resource::Service => delivery.feed_children(&mut self.caches.services, |service: MetadataOnly| {
                ServiceFacts { meta: ChildMeta::new(&service.metadata) }
            }),
            Resource::EndpointSlice => {
                delivery.feed_children(&mut self.caches.slices, |slice: WatchedSlice| slice.into())
            }
            _ => return Vec::new(),
        };
        concerned.into_iter().filter(|key| key.owner.kind == "TrainingJob").map(job_of).collect()
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Some(job) = self.jobs.get(key) else { return Ok(None) };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let observed = self.caches.observe(&key.namespace, &key.name, &uid);
        let memory = self.memories.entry(uid).or_default();
        memory.writes.extra_wait = extra_wait(self.active);
        let reconciled = reconcile(api, job, &observed, memory, now).await;
        reconciled.map(|reconciled| reconciled.wake_at).map_err(|error| error.to_string())
    }
}

impl Operator {
    fn deliver_jobs(&mut self, delivery: &Delivery<'_>) -> Vec<ObjectId> {
        if let Delivery::Deleted(job) = delivery {
            self.memories.remove(json::uid(job));
        }
        delivery.feed_owners(Resource::TrainingJob, &mut self.jobs)
    }
}

/// What the watch of Services asks the apiserver for.
#[derive(serde::Deserialize)]
struct MetadataOnly {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

fn job_of(key: OwnerKey) -> ObjectId {
    ObjectId::new(Resource::TrainingJob, &key.namespace, &key.owner.name)
}

#[test]
fn random_runs_end_as_they_should() {
    random_runs::<Operator>(seeds(), &Menu::everything());
}

#[test]
fn a_job_made_again_at_any_step_never_meets_its_past_self() {
    let runs: u64 = (0..4).map(|scenario| exhaustive_recreations::<Operator>(scenario, &Menu::calm())).sum();
    assert!(runs > 50, "only {runs} runs");
}

#[test]
fn a_crash_around_any_write_changes_nothing_but_time() {
    for scenario in 0..4 {
        exhaustive_crashes::<Operator>(scenario, &Menu::calm());
    }
}
