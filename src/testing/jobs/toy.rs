//! A toy operator that runs, restarts and finishes jobs; and the same with one of the classic mistakes.
//!
//! It tests the simulation: the sound one must pass, and the oracle must find out each of the others.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Jobs;
use crate::cluster::port::{ApiError, ApiServer, ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::operator::{Delivery, SimulatedOperator};
use crate::testing::watch::Source;
use crate::testing::world::World;

/// No mistake.
pub(super) const SOUND: u8 = 0;
/// Starts an attempt while pods of the one before still run.
pub(super) const UNFENCED: u8 = 1;
/// Believes its cache when it starts pods.
pub(super) const CREDULOUS: u8 = 2;
/// Writes a status that differs every time.
pub(super) const RESTLESS: u8 = 3;
/// Restarts without a limit.
pub(super) const SPENDTHRIFT: u8 = 4;
/// Removes whatever is in its way.
pub(super) const RUDE: u8 = 5;
/// Fails at the first failure.
pub(super) const HASTY: u8 = 6;
/// Takes exit code 0 for success, also of a pod that was told to stop.
pub(super) const GULLIBLE: u8 = 7;
/// Leaves sidecars running.
pub(super) const NEGLIGENT: u8 = 8;
/// Removes a failed attempt before it has written down that it failed.
pub(super) const FORGETFUL: u8 = 9;

/// The toy, with one mistake.
#[derive(Default)]
pub(super) struct Toy<const MISTAKE: u8> {
    jobs: BTreeMap<ObjectId, Value>,
    pods: BTreeMap<ObjectId, Value>,
    reconciles: u64,
}

impl<const MISTAKE: u8> SimulatedOperator for Toy<MISTAKE> {
    type Subject = Jobs;

    fn selects(Source { of: resource, .. }: Source, object: &Value) -> bool {
        match resource {
            Resource::TrainingJob => true,
            Resource::Pod => json::label(object, names::LABEL_JOB).is_some(),
            _ => false,
        }
    }

    fn deliver(&mut self, Source { of: resource, .. }: Source, delivery: Delivery<'_>) -> Vec<ObjectId> {
        let cache = match resource {
            Resource::TrainingJob => &mut self.jobs,
            Resource::Pod => &mut self.pods,
            _ => return Vec::new(),
        };
        match delivery {
            Delivery::Listed(objects) => {
                *cache = objects.iter().map(|object| (json::id(resource, object), object.clone())).collect();
                self.jobs.keys().cloned().collect()
            }
            Delivery::Applied(object) => {
                cache.insert(json::id(resource, object), object.clone());
                vec![job_of(resource, object)]
            }
            Delivery::Deleted(object) => {
                cache.remove(&json::id(resource, object));
                vec![job_of(resource, object)]
            }
        }
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        self.reconciles += 1;
        let Some(job) = self.jobs.get(key) else { return Ok(None) };
        let wait = Visit::<MISTAKE>::new(api, key, job, &self.pods, self.reconciles).run().await;
        Ok(wait.map_err(|error| error.to_string())?.map(|wait| now + wait))
    }
}

fn job_of(resource: Resource, object: &Value) -> ObjectId {
    let mut key = json::id(Resource::TrainingJob, object);
    if resource == Resource::Pod {
        key.name = json::label(object, names::LABEL_JOB).unwrap_or_default().to_owned();
    }
    key
}

/// One reconcile.
struct Visit<'a, const MISTAKE: u8> {
    api: &'a World,
    key: &'a ObjectId,
    job: &'a Value,
    uid: &'a str,
    pods: Vec<(&'a ObjectId, &'a Value)>,
    attempt: u32,
    reconciles: u64,
}

type Wait = Result<Option<SignedDuration>, ApiError>;

impl<'a, const MISTAKE: u8> Visit<'a, MISTAKE> {
    fn new(
        api: &'a World,
        key: &'a ObjectId,
        job: &'a Value,
        pods: &'a BTreeMap<ObjectId, Value>,
        reconciles: u64,
    ) -> Self {
        let uid = json::uid(job);
        let pods: Vec<_> = pods.iter().filter(|(_, pod)| json::controller_uid(pod) == Some(uid)).collect();
        let labelled = pods.iter().filter_map(|(_, pod)| json::label_number(pod, names::LABEL_ATTEMPT)).max();
        let attempt = labelled.unwrap_or(1).max(json::number(job, "/status/attempt").unwrap_or(1) as u32);
        Visit { api, key, job, uid, pods, attempt, reconciles }
    }

    async fn run(&self) -> Wait {
        if json::is_terminating(self.job) {
            return Ok(None);
        }
        if json::condition_is_true(self.job, "Finished") {
            if MISTAKE != NEGLIGENT {
                self.stop(|_| true).await?;
            }
            return Ok(None);
        }
        let is_old = |pod: &Value| json::label_number(pod, names::LABEL_ATTEMPT) < Some(self.attempt);
        let old_are_left = self.stop(is_old).await?;
        if old_are_left && MISTAKE != UNFENCED {
            return self.publish(&[("Reconciling", "True")], json!({})).await.map(|()| None);
        }
        let current: Vec<&Value> = self.pods.iter().map(|(_, pod)| *pod).filter(|pod| !is_old(pod)).collect();
        if current.iter().any(|pod| failed::<MISTAKE>(pod)) {
            return self.restart_or_fail().await;
        }
        let nodes = json::number(self.job, "/spec/nodes").unwrap_or(1) as u32;
        let done = |rank: u32| current.iter().any(|pod| rank_of(pod) == rank && ended_well::<MISTAKE>(pod));
        if (0..nodes).all(done) {
            let conditions = [("Complete", "True"), ("Finished", "True"), ("Ready", "True")];
            return self.publish(&conditions, json!({})).await.map(|()| None);
        }
        let missing = (0..nodes).filter(|rank| !current.iter().any(|pod| rank_of(pod) == *rank));
        let obstacle = self.start(missing.collect()).await?;
        let message = obstacle.as_ref().map(|(_, name)| name);
        self.publish(&[("Reconciling", "True")], json!({ "message": message })).await?;
        Ok(obstacle.map(|(wait, _)| wait))
    }

    /// Deletes live pods; answers whether there are any.
    async fn stop(&self, which: impl Fn(&Value) -> bool) -> Result<bool, ApiError> {
        let mut left = false;
        for (id, pod) in self.pods.iter().filter(|(_, pod)| which(pod) && !json::is_terminal(pod)) {
            left = true;
            if !json::is_terminating(pod) {
                self.api.delete(id, json::uid(pod), None).await?;
            }
        }
        Ok(left)
    }

    async fn restart_or_fail(&self) -> Wait {
        if MISTAKE == FORGETFUL {
            for (id, pod) in &self.pods {
                self.api.delete(id, json::uid(pod), None).await?;
            }
        }
        let most = json::number(self.job, "/spec/failurePolicy/maxRestarts").unwrap_or(3);
        let restarts = json::number(self.job, "/status/restarts").unwrap_or(0);
        if (restarts >= most && MISTAKE != SPENDTHRIFT) || MISTAKE == HASTY {
            let conditions = [("Failed", "True"), ("Finished", "True"), ("Stalled", "True")];
            return self.publish(&conditions, json!({})).await.map(|()| None);
        }
        let counters = json!({ "attempt": self.attempt + 1, "restarts": restarts + 1 });
        self.publish(&[("Reconciling", "True")], counters).await.map(|()| None)
    }

    /// Creates pods; answers what is in the way, and when to try again.
    async fn start(&self, ranks: Vec<u32>) -> Result<Option<(SignedDuration, String)>, ApiError> {
        if ranks.is_empty() {
            return Ok(None);
        }
        let live = self.api.read(self.key).await?.unwrap_or_default();
        let same = ["/metadata/uid", "/metadata/deletionTimestamp", "/status/attempt", "/status/conditions"];
        if MISTAKE != CREDULOUS && same.iter().any(|field| json::at(&live, field) != json::at(self.job, field)) {
            return Ok(None);
        }
        let mut wait = None;
        for rank in ranks {
            let name = names::pod(&self.key.name, self.uid, names::ROLE_WORKER, rank, self.attempt);
            let pod = self.build(&name, rank);
            let id = ObjectId::new(Resource::Pod, &self.key.namespace, &name);
            match self.api.create(&id, pod.to_string()).await {
                Err(ApiError::AlreadyExists(id)) => {
                    let other = self.api.read(&id).await?.unwrap_or_default();
                    if json::controller_uid(&other) != Some(self.uid) {
                        if MISTAKE == RUDE {
                            self.api.delete(&id, json::uid(&other), None).await?;
                        }
                        wait = Some((SignedDuration::from_secs(300), id.name.clone()));
                    }
                }
                Err(ApiError::QuotaExceeded(_) | ApiError::Refused(_)) => {
                    wait = Some((SignedDuration::from_secs(30), String::new()));
                }
                other => drop(other?),
            }
        }
        Ok(wait)
    }

    fn build(&self, name: &str, rank: u32) -> Value {
        let labels = json!({
            names::LABEL_JOB: &self.key.name,
            names::LABEL_ROLE: names::ROLE_WORKER,
            names::LABEL_INDEX: rank.to_string(),
            names::LABEL_RANK: rank.to_string(),
            names::LABEL_ATTEMPT: self.attempt.to_string(),
        });
        let owner = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": &self.key.name, "uid": self.uid,
            "controller": true,
        });
        json!({
            "apiVersion": "v1", "kind": "Pod", "spec": &self.job["spec"]["template"]["spec"],
            "metadata": {
                "name": name, "labels": labels, "ownerReferences": [owner],
                "annotations": &self.job["spec"]["template"]["metadata"]["annotations"],
            },
        })
    }

    /// Sets the conditions that are True, all others False, and further fields; writes only what differs.
    async fn publish(&self, conditions: &[(&str, &str)], further: Value) -> Result<(), ApiError> {
        let of = |kind: &&str| {
            let status = conditions.iter().find(|(known, _)| known == kind).map_or("False", |(_, status)| status);
            json!({ "type": kind, "status": status })
        };
        let kinds = ["Ready", "Reconciling", "Stalled", "Complete", "Failed", "Finished"];
        let mut status = further;
        status["conditions"] = kinds.iter().map(of).collect::<Vec<_>>().into();
        status["observedGeneration"] = self.job["metadata"]["generation"].clone();
        if MISTAKE == RESTLESS {
            status["reconciles"] = self.reconciles.into();
        }
        let mut wanted = self.job["status"].clone();
        json_patch::merge(&mut wanted, &status);
        if wanted == self.job["status"] {
            return Ok(());
        }
        let metadata = json!({ "resourceVersion": &self.job["metadata"]["resourceVersion"] });
        self.api.patch_status(self.key, &json!({ "metadata": metadata, "status": status })).await.map(drop)
    }
}

fn rank_of(pod: &Value) -> u32 {
    json::label_number(pod, names::LABEL_RANK).unwrap_or(0)
}

fn exit_code(pod: &Value) -> Option<i64> {
    let statuses = json::at(pod, "/status/containerStatuses")?.as_array()?;
    let primary = json::primary_container(pod)?;
    statuses.iter().find(|status| status["name"] == primary)?.pointer("/state/terminated/exitCode")?.as_i64()
}

fn ended_well<const MISTAKE: u8>(pod: &Value) -> bool {
    exit_code(pod) == Some(0) && (!json::is_terminating(pod) || MISTAKE == GULLIBLE)
}

fn failed<const MISTAKE: u8>(pod: &Value) -> bool {
    let deleted = json::is_terminating(pod) && MISTAKE != GULLIBLE;
    deleted || (json::is_terminal(pod) || exit_code(pod).is_some()) && !ended_well::<MISTAKE>(pod)
}
