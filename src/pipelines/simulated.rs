//! All controllers at once in the simulated cluster, as in the operator: those of runs and Pipelines, and those of the
//! TrainingJobs and ModelDeployments that runs make. Each has the same caches, memories and `reconcile` as in the operator, and
//! watches of its own.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::PartialObjectMeta;
use serde_json::Value;

use super::definitions::facts::{Memory as PipelineMemory, RunFacts};
use super::runs::caches::Caches;
use super::runs::observe::Memory as RunMemory;
use super::{definitions, runs};
use crate::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use crate::cluster::guard::Guarded;
use crate::cluster::index::{OwnedIndex, OwnerKey};
use crate::cluster::load::extra_wait;
use crate::cluster::pod::WatchedPod;
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::workload::WatchedRevision;
use crate::testing::json;
use crate::testing::operator::{Delivery, SimulatedOperator};
use crate::testing::pipelines::{Menu, Pipelines};
use crate::testing::scenario::{exhaustive_crashes, exhaustive_recreations, random_runs, seeds_or};
use crate::testing::watch::Source;
use crate::testing::world::World;
use crate::{names, serving, training};

/// The operator's state; a crash is a new one.
#[derive(Default)]
struct Operator {
    runs: Runs,
    pipelines: PipelinesOfRuns,
    training: training::simulated::Operator,
    serving: serving::simulated::Operator,
}

/// The controller of PipelineRuns.
#[derive(Default)]
struct Runs {
    runs: HashMap<ObjectId, PipelineRun>,
    caches: Caches,
    memories: HashMap<String, RunMemory>,
    active: usize,
}

/// The controller of Pipelines.
#[derive(Default)]
struct PipelinesOfRuns {
    pipelines: HashMap<ObjectId, Pipeline>,
    runs: OwnedIndex<RunFacts>,
    memories: HashMap<String, PipelineMemory>,
    active: usize,
}

impl SimulatedOperator for Operator {
    type Subject = Pipelines;

    fn set_active(&mut self, objects: usize) {
        self.training.set_active(objects);
        self.serving.set_active(objects);
        (self.runs.active, self.pipelines.active) = (objects, objects);
    }

    fn selects(source: Source, object: &Value) -> bool {
        match source.by {
            Resource::TrainingJob => training::simulated::Operator::selects(source, object),
            Resource::ModelDeployment => serving::simulated::Operator::selects(source, object),
            Resource::PipelineRun if !matches!(source.of, Resource::PipelineRun | Resource::Pipeline) => {
                json::label(object, names::LABEL_RUN).is_some() && json::label(object, names::LABEL_JOB).is_none()
            }
            _ => true,
        }
    }

    fn deliver(&mut self, source: Source, delivery: Delivery<'_>) -> Vec<ObjectId> {
        match source.by {
            Resource::TrainingJob => self.training.deliver(source, delivery),
            Resource::ModelDeployment => self.serving.deliver(source, delivery),
            Resource::Pipeline => self.pipelines.deliver(source.of, &delivery),
            _ => self.runs.deliver(source.of, &delivery),
        }
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        match key.resource {
            Resource::TrainingJob => self.training.reconcile(api, key, now).await,
            Resource::ModelDeployment => self.serving.reconcile(api, key, now).await,
            Resource::Pipeline => self.pipelines.reconcile(api, key, now).await,
            _ => self.runs.reconcile(api, key, now).await,
        }
    }
}

impl Runs {
    fn deliver(&mut self, resource: Resource, delivery: &Delivery<'_>) -> Vec<ObjectId> {
        let caches = &mut self.caches;
        let concerned = match resource {
            Resource::PipelineRun => {
                if let Delivery::Deleted(run) = delivery {
                    self.memories.remove(json::uid(run));
                }
                delivery.feed_children(&mut caches.finished, |run: Guarded<PipelineRun>| run.into());
                return delivery.feed_owners(resource, &mut self.runs);
            }
            Resource::Pipeline => delivery
                .feed_children(&mut caches.pipelines, |pipeline: Guarded<PartialObjectMeta<Pipeline>>| pipeline.into()),
            Resource::Pod => delivery.feed_children(&mut caches.pods, |pod: WatchedPod| pod.into()),
            Resource::TrainingJob => delivery.feed_children(&mut caches.jobs, |job: Guarded<TrainingJob>| job.into()),
            Resource::ModelDeployment => delivery
                .feed_children(&mut caches.deployments, |deployment: Guarded<ModelDeployment>| deployment.into()),
            Resource::ControllerRevision => {
                delivery.feed_children(&mut caches.records, |record: WatchedRevision| record.into())
            }
            _ => delivery
                .feed_children(&mut caches.claims, |claim: PartialObjectMeta<PersistentVolumeClaim>| claim.into()),
        };
        concerned.into_iter().filter_map(|key| owner(&key, Resource::PipelineRun)).collect()
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Some(run) = self.runs.get(key) else { return Ok(None) };
        let uid = run.metadata.uid.clone().unwrap_or_default();
        let observed = self.caches.observe(run, now);
        let memory = self.memories.entry(uid).or_default();
        memory.writes.extra_wait = extra_wait(self.active);
        let reconciled = runs::reconcile::reconcile(api, run, &observed, memory, now).await;
        reconciled.map(|reconciled| reconciled.wake_at).map_err(|error| error.to_string())
    }
}

impl PipelinesOfRuns {
    fn deliver(&mut self, resource: Resource, delivery: &Delivery<'_>) -> Vec<ObjectId> {
        if resource == Resource::PipelineRun {
            let concerned = delivery.feed_children(&mut self.runs, |run: Guarded<PipelineRun>| run.into());
            return concerned.into_iter().filter_map(|key| owner(&key, Resource::Pipeline)).collect();
        }
        if let Delivery::Deleted(pipeline) = delivery {
            self.memories.remove(json::uid(pipeline));
        }
        delivery.feed_owners(Resource::Pipeline, &mut self.pipelines)
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        let Some(pipeline) = self.pipelines.get(key) else { return Ok(None) };
        let uid = pipeline.metadata.uid.clone().unwrap_or_default();
        let runs = self.runs.of(&key.namespace, &key.name);
        let memory = self.memories.entry(uid).or_default();
        memory.writes.extra_wait = extra_wait(self.active);
        let reconciled = definitions::reconcile::reconcile(api, pipeline, &runs, memory, now).await;
        reconciled.map(|reconciled| reconciled.wake_at).map_err(|error| error.to_string())
    }
}

/// The object of ours that a change of a child concerns, if it is of that kind.
fn owner(key: &OwnerKey, kind: Resource) -> Option<ObjectId> {
    (key.owner.kind == kind.kind()).then(|| ObjectId::new(kind, &key.namespace, &key.owner.name))
}

#[test]
fn random_runs_end_as_they_should() {
    random_runs::<Operator>(seeds_or(120), &Menu::everything());
}

#[test]
fn a_run_made_again_at_any_step_never_meets_its_past_self() {
    let runs: u64 = (0..4).map(|scenario| exhaustive_recreations::<Operator>(scenario, &Menu::calm())).sum();
    assert!(runs > 50, "only {runs} runs");
}

#[test]
fn a_crash_around_any_write_changes_nothing_but_time() {
    for scenario in 0..6 {
        exhaustive_crashes::<Operator>(scenario, &Menu::calm());
    }
}
