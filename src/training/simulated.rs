//! The TrainingJob controller in the simulated cluster: the same caches, memory and [`reconcile`] as in the operator,
//! fed by the simulation's watches in place of real ones.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::caches::Caches;
use super::observe::Memory;
use super::reconcile::reconcile;
use crate::api::TrainingJob;
use crate::cluster::endpoints::{ServiceFacts, WatchedSlice};
use crate::cluster::index::{Child, ChildMeta, OwnedIndex, OwnerKey};
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::scenario::{Menu, exhaustive_crashes, exhaustive_recreations, random_runs, seeds};
use crate::testing::simulation::{Delivery, SimulatedOperator};
use crate::testing::world::World;

/// The operator's state; a crash is a new one.
#[derive(Default)]
struct Operator {
    jobs: HashMap<ObjectId, TrainingJob>,
    caches: Caches,
    memories: HashMap<String, Memory>,
}

impl SimulatedOperator for Operator {
    fn selects(resource: Resource, object: &Value) -> bool {
        resource == Resource::TrainingJob || object["metadata"]["labels"].get(names::LABEL_JOB).is_some()
    }

    fn deliver(&mut self, resource: Resource, delivery: Delivery<'_>) -> Vec<ObjectId> {
        let concerned = match resource {
            Resource::TrainingJob => return self.deliver_job(&delivery),
            Resource::Pod => feed(&mut self.caches.pods, &delivery, |pod: WatchedPod| pod.into()),
            Resource::Service => feed(&mut self.caches.services, &delivery, |service: MetadataOnly| ServiceFacts {
                meta: ChildMeta::new(&service.metadata),
            }),
            Resource::EndpointSlice => feed(&mut self.caches.slices, &delivery, |slice: WatchedSlice| slice.into()),
            _ => return Vec::new(),
        };
        concerned.into_iter().filter(|key| key.owner.kind == "TrainingJob").map(job_of).collect()
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Some(job) = self.jobs.get(key) else { return Ok(None) };
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let observed = self.caches.observe(&key.namespace, &key.name, &uid);
        let memory = self.memories.entry(uid).or_default();
        let reconciled = reconcile(api, job, &observed, memory, now).await;
        reconciled.map(|reconciled| reconciled.wake_at).map_err(|error| error.to_string())
    }
}

impl Operator {
    fn deliver_job(&mut self, delivery: &Delivery<'_>) -> Vec<ObjectId> {
        match delivery {
            Delivery::Listed(jobs) => {
                self.jobs = jobs.iter().map(|job| (id_of(job), parse(job))).collect();
                self.jobs.keys().cloned().collect()
            }
            Delivery::Applied(job) => {
                self.jobs.insert(id_of(job), parse(job));
                vec![id_of(job)]
            }
            Delivery::Deleted(job) => {
                self.jobs.remove(&id_of(job));
                self.memories.remove(job["metadata"]["uid"].as_str().unwrap_or_default());
                Vec::new()
            }
        }
    }
}

/// What the watch of Services asks the apiserver for.
#[derive(serde::Deserialize)]
struct MetadataOnly {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

fn feed<W: DeserializeOwned, T: Child>(
    index: &mut OwnedIndex<T>,
    delivery: &Delivery<'_>,
    facts: fn(W) -> T,
) -> Vec<OwnerKey> {
    match delivery {
        Delivery::Listed(objects) => {
            index.begin_relist();
            let mut concerned: Vec<OwnerKey> =
                objects.iter().flat_map(|object| index.apply(facts(parse(object)))).collect();
            concerned.extend(index.finish_relist());
            concerned
        }
        Delivery::Applied(object) => index.apply(facts(parse(object))),
        Delivery::Deleted(object) => {
            let id = id_of(object);
            index.delete(&id.namespace, &id.name).into_iter().collect()
        }
    }
}

fn parse<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("the simulated cluster's objects are well-formed")
}

fn id_of(object: &Value) -> ObjectId {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    ObjectId::new(Resource::TrainingJob, text("namespace"), text("name"))
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
