//! TrainingJobs and ModelDeployments as far as a run looks at them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::api::conditions::{READY, STALLED, find, holds};
use crate::api::{ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, TrainingJob};
use crate::cluster::guard::{Guarded, Unreadable};
use crate::cluster::index::{Child, ChildMeta, Owner};
use crate::cluster::port::Resource;
use crate::names;
use crate::serving::content::Content;
use crate::training::status::{COMPLETE, FAILED, RESULTS_REFUSED, SUSPENDED};

/// States of a TrainingJob that is held up.
const WAITING: [&str; 2] = ["Waiting", "QuotaExceeded"];

/// What is kept of a TrainingJob that a run made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Annotation: [`names::ANNOTATION_LAUNCH_TOKEN`].
    pub launch_token: String,
    /// How it is doing.
    pub progress: JobProgress,
    /// Whether it is held up by something out of the ordinary.
    pub waits: bool,
    /// What it says.
    pub message: String,
    /// What it reported.
    pub results: BTreeMap<String, Value>,
    /// Whether some of that could not be taken; its message says what.
    pub results_refused: bool,
    /// Whether its spec says suspend.
    pub is_asked_to_stop: bool,
    /// Whether it is being deleted.
    pub is_deleted: bool,
}

/// How a TrainingJob is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobProgress {
    /// On its way.
    #[default]
    Underway,
    /// Nothing happens without a person.
    Stalled,
    /// Suspended, and none of its pods is left.
    Stopped,
    /// Ended well.
    Complete,
    /// Failed for good.
    Failed,
}

impl Child for JobFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

impl From<TrainingJob> for JobFacts {
    fn from(job: TrainingJob) -> Self {
        let (meta, launch_token) = (ChildMeta::new(&job.metadata), launch_token(&job.metadata));
        let is_asked_to_stop = job.spec.suspend.unwrap_or(false);
        let is_deleted = job.metadata.deletion_timestamp.is_some();
        let Some(status) = job.status else {
            return JobFacts { meta, launch_token, is_asked_to_stop, is_deleted, ..JobFacts::default() };
        };
        let holds = |type_| holds(&status.conditions, type_);
        let is_current = status.observed_generation == job.metadata.generation;
        let progress = match () {
            () if holds(COMPLETE) => JobProgress::Complete,
            () if holds(FAILED) => JobProgress::Failed,
            () if holds(SUSPENDED) && is_asked_to_stop && is_current => JobProgress::Stopped,
            () if holds(STALLED) => JobProgress::Stalled,
            () => JobProgress::Underway,
        };
        JobFacts {
            meta,
            launch_token,
            waits: find(&status.conditions, READY).is_some_and(|ready| WAITING.contains(&ready.reason.as_str())),
            progress,
            results_refused: holds(RESULTS_REFUSED),
            message: status.message.unwrap_or_default(),
            results: status.results.unwrap_or_default(),
            is_asked_to_stop,
            is_deleted,
        }
    }
}

fn launch_token(metadata: &ObjectMeta) -> String {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(names::ANNOTATION_LAUNCH_TOKEN)).cloned().unwrap_or_default()
}

/// A job that cannot be read stalls the step that it belongs to, and no other.
impl From<Guarded<TrainingJob>> for JobFacts {
    fn from(job: Guarded<TrainingJob>) -> Self {
        match job.0 {
            Ok(job) => JobFacts::from(job),
            Err(Unreadable { error, metadata, .. }) => JobFacts {
                meta: ChildMeta::new(&metadata),
                launch_token: launch_token(&metadata),
                progress: JobProgress::Stalled,
                message: format!("it cannot be read: {error}"),
                // What cannot be read is not changed either.
                is_asked_to_stop: true,
                ..JobFacts::default()
            },
        }
    }
}

/// What is kept of a ModelDeployment that a run deployed last: it is found under that run, which does not own it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServingFacts {
    /// Identity, and the run.
    pub meta: ChildMeta,
    /// The step of the run that deployed it.
    pub step: String,
    /// How it is doing.
    pub progress: ServingProgress,
    /// What it says.
    pub message: String,
    /// Where the model answers.
    pub url: String,
    /// The revision that its spec asks for, an undo included.
    pub revision: i64,
}

/// How a ModelDeployment is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServingProgress {
    /// On its way.
    #[default]
    Underway,
    /// Ready, as its spec is now.
    Ready,
    /// Ready, with an earlier revision than its model and template are: `rollout.undoTo` asks for that one.
    Undone,
    /// Given up: the spec is invalid, or the rollout failed.
    Stalled,
}

impl Child for ServingFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// Identity of a ModelDeployment, with the run that deployed it last in place of an owner.
fn deployed(metadata: &ObjectMeta) -> ChildMeta {
    let text = |map: &Option<BTreeMap<String, String>>, key| {
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    let run = Owner {
        kind: Resource::PipelineRun.kind().to_owned(),
        name: text(&metadata.labels, names::LABEL_RUN),
        uid: text(&metadata.annotations, names::ANNOTATION_RUN_UID),
    };
    ChildMeta { owner: Some(run), ..ChildMeta::new(metadata) }
}

fn deploying_step(metadata: &ObjectMeta) -> String {
    metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_STEP)).cloned().unwrap_or_default()
}

/// A deployment that cannot be read fails the step that waits for it, and no other.
impl From<Guarded<ModelDeployment>> for ServingFacts {
    fn from(deployment: Guarded<ModelDeployment>) -> Self {
        match deployment.0 {
            Ok(deployment) => ServingFacts::from(deployment),
            Err(Unreadable { error, metadata, .. }) => ServingFacts {
                meta: deployed(&metadata),
                step: deploying_step(&metadata),
                progress: ServingProgress::Stalled,
                message: format!("it cannot be read: {error}"),
                ..ServingFacts::default()
            },
        }
    }
}

impl From<ModelDeployment> for ServingFacts {
    fn from(deployment: ModelDeployment) -> Self {
        let (meta, step) = (deployed(&deployment.metadata), deploying_step(&deployment.metadata));
        let Some(status) = deployment.status else { return ServingFacts { meta, step, ..ServingFacts::default() } };
        let is_current = status.observed_generation == deployment.metadata.generation;
        let progress = match () {
            () if !is_current => ServingProgress::Underway,
            () if holds(&status.conditions, READY) && is_undone(&deployment.spec, &status) => ServingProgress::Undone,
            () if holds(&status.conditions, READY) => ServingProgress::Ready,
            () if holds(&status.conditions, STALLED) => ServingProgress::Stalled,
            () => ServingProgress::Underway,
        };
        let reason = find(&status.conditions, READY).map(|ready| ready.reason.clone()).unwrap_or_default();
        let message = status.message.unwrap_or_default();
        ServingFacts {
            meta,
            step,
            progress,
            message: if reason.is_empty() { message } else { format!("{reason}: {message}") },
            url: status.url.unwrap_or_default(),
            revision: status.revision.unwrap_or_default(),
        }
    }
}

/// Whether `rollout.undoTo` names another revision than model and template are.
fn is_undone(spec: &ModelDeploymentSpec, status: &ModelDeploymentStatus) -> bool {
    let Some(number) = spec.rollout.as_ref().and_then(|rollout| rollout.undo_to) else { return false };
    let named = status.revisions.iter().find(|revision| revision.revision == number);
    let says_the_same = |hash: &str| Content::of_spec(spec).is_ok_and(|content| content.has_hash(hash));
    !named.is_some_and(|revision| says_the_same(&revision.hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_that_was_undone_does_not_serve_what_it_says() {
        let spec = json!({"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}});
        let content = Content::of_spec(&serde_json::from_value(spec.clone()).unwrap()).unwrap();
        let revision = |number: i64, hash: &str| {
            let created = "2026-11-24T10:01:12Z";
            json!({"revision": number, "hash": hash, "created": created, "replicas": 1, "availableReplicas": 1})
        };
        let progress = |undo: Option<i64>, ready: &str| {
            let mut spec = spec.clone();
            spec["rollout"] = json!({"undoTo": undo});
            let time = "2026-11-24T10:01:12Z";
            let condition =
                json!({"type": "Ready", "status": ready, "reason": "r", "message": "", "lastTransitionTime": time});
            let deployment = json!({
                "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment",
                "metadata": {"name": "m", "generation": 2}, "spec": spec,
                "status": {
                    "observedGeneration": 2, "revision": undo.unwrap_or(7), "conditions": [condition],
                    "revisions": [revision(3, "v1:other"), revision(7, content.hash())],
                },
            });
            ServingFacts::from(serde_json::from_value::<ModelDeployment>(deployment).unwrap()).progress
        };
        assert_eq!(progress(None, "True"), ServingProgress::Ready);
        assert_eq!(progress(Some(7), "True"), ServingProgress::Ready, "model and template say the same");
        assert_eq!(progress(Some(3), "True"), ServingProgress::Undone);
        assert_eq!(progress(Some(1), "True"), ServingProgress::Undone, "its record is gone");
        assert_eq!(progress(Some(3), "False"), ServingProgress::Underway);
    }
}
