//! The caches of a run's children, and what they show of one run.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::PartialObjectMeta;

use super::facts::{JobFacts, ServingFacts};
use super::observe::{Observed, named};
use super::status::is_finished;
use crate::api::{Pipeline, PipelineRun};
use crate::cluster::guard::Guarded;
use crate::cluster::index::{Child, ChildMeta, OwnedIndex, Owner};
use crate::cluster::pod::PodFacts;
use crate::cluster::port::Resource;
use crate::cluster::workload::RevisionFacts;
use crate::names;
use crate::pipelines::definitions::facts::{NO_PIPELINE, RunFacts};

/// For this long after its end, a run counts as one that has just finished.
const JUST_NOW: SignedDuration = SignedDuration::from_mins(1);

/// One index for each kind of child.
#[derive(Debug, Default)]
pub struct Caches {
    /// Pods, trimmed.
    pub pods: OwnedIndex<PodFacts>,
    /// TrainingJobs.
    pub jobs: OwnedIndex<JobFacts>,
    /// ModelDeployments, under the run that deployed them last.
    pub deployments: OwnedIndex<ServingFacts>,
    /// Records of runs.
    pub records: OwnedIndex<RevisionFacts>,
    /// Runs that have finished, under their Pipeline or under none.
    pub finished: OwnedIndex<RunFacts>,
    /// Claims, by their metadata.
    pub claims: OwnedIndex<ClaimMeta>,
    /// Pipelines, each under its own name: whether there is one.
    pub pipelines: OwnedIndex<PipelineMeta>,
}

/// A Pipeline, of which only its name is asked for.
#[derive(Clone, Debug)]
pub struct PipelineMeta(ChildMeta);

impl Child for PipelineMeta {
    fn meta(&self) -> &ChildMeta {
        &self.0
    }
}

impl From<Guarded<PartialObjectMeta<Pipeline>>> for PipelineMeta {
    fn from(pipeline: Guarded<PartialObjectMeta<Pipeline>>) -> Self {
        let meta = match &pipeline.0 {
            Ok(pipeline) => ChildMeta::new(&pipeline.metadata),
            Err(unreadable) => ChildMeta::new(&unreadable.metadata),
        };
        let owner =
            Owner { kind: Resource::Pipeline.kind().to_owned(), name: meta.name.clone(), uid: meta.name.clone() };
        PipelineMeta(ChildMeta { owner: Some(owner), ..meta })
    }
}

/// A claim of a run.
#[derive(Clone, Debug)]
pub struct ClaimMeta(Arc<ChildMeta>);

impl Child for ClaimMeta {
    fn meta(&self) -> &ChildMeta {
        &self.0
    }
}

impl From<PartialObjectMeta<PersistentVolumeClaim>> for ClaimMeta {
    fn from(claim: PartialObjectMeta<PersistentVolumeClaim>) -> Self {
        ClaimMeta(Arc::new(ChildMeta::new(&claim.metadata)))
    }
}

impl Caches {
    /// The children of a run, each as its own cache has it. What is looked at is found by the name that it must have.
    pub fn observe(&self, run: &PipelineRun, now: Timestamp) -> Observed {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let meta = &run.metadata;
        let (namespace, name, uid) = (&text(&meta.namespace), &text(&meta.name), &text(&meta.uid));
        let family = names::family(name, uid);
        Observed {
            of_no_pipeline: if prunes(run, now) { self.of_no_pipeline(namespace) } else { Vec::new() },
            pods: self.pods.of(namespace, uid),
            jobs: self.jobs.of(namespace, uid),
            deployments: self.deployments.of(namespace, uid),
            record: named(&self.records.of(namespace, uid), &family).cloned(),
            claim: named(&self.claims.of(namespace, uid), &family).map(|claim| claim.0.clone()),
        }
    }

    /// Runs of a namespace that have finished and belong to no Pipeline: they name none, never found it, or it is gone.
    fn of_no_pipeline(&self, namespace: &str) -> Vec<Arc<RunFacts>> {
        let is_gone = |owner: &&str| *owner == NO_PIPELINE || self.pipelines.of(namespace, owner).is_empty();
        let runs = self.finished.owners(namespace).filter(is_gone).flat_map(|owner| self.finished.of(namespace, owner));
        runs.filter(|run| run.finished.is_some()).collect()
    }
}

/// Whether a run looks after the history of those that belong to no Pipeline: it is one of them, or has just finished. Nobody
/// else would, since nothing happens to a run when its Pipeline is deleted; and after a restart not every run has to.
fn prunes(run: &PipelineRun, now: Timestamp) -> bool {
    let Some(status) = run.status.as_ref().filter(|status| is_finished(status)) else { return false };
    let has_just = || status.finish_time.as_ref().is_some_and(|time| now < time.0 + JUST_NOW);
    run.spec.pipeline_ref.is_none() || has_just()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(name: &str, pipeline: Option<&str>, reason: &str) -> PipelineRun {
        let spec =
            pipeline.map_or_else(|| json!({"pipeline": {"steps": []}}), |name| json!({"pipelineRef": {"name": name}}));
        let condition = |type_: &str, reason: &str| {
            json!({
                "type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let finished = [condition("Ready", reason), condition("Finished", "Failed")];
        let conditions = if reason == "Running" { json!([]) } else { json!(finished) };
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec,
            "status": {"conditions": conditions, "finishTime": "2026-01-01T00:00:00Z"},
        }))
        .unwrap()
    }

    #[test]
    fn runs_whose_pipeline_is_gone_count_among_those_of_none() {
        let mut caches = Caches::default();
        let pipeline = |name: &str| -> Guarded<PartialObjectMeta<Pipeline>> {
            let object: Value = json!({"metadata": {"name": name, "namespace": "ns"}});
            serde_json::from_value(object).unwrap()
        };
        for name in ["kept", "none"] {
            caches.pipelines.apply(pipeline(name).into());
        }
        let gone = run("gone", Some("deleted"), "Succeeded");
        for run in [
            run("own", None, "Succeeded"),
            run("of-a-pipeline", Some("kept"), "Succeeded"),
            run("of-one-named-none", Some("none"), "Succeeded"),
            run("never-found", Some("absent"), "PipelineNotFound"),
            run("cancelled-before-its-start", Some("absent"), "Cancelled"),
            run("under-way", Some("deleted"), "Running"),
            gone.clone(),
        ] {
            caches.finished.apply(run.into());
        }
        let at = |second: i64| "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second);
        let seen = |run: &PipelineRun, second| {
            let mut names: Vec<String> =
                caches.observe(run, at(second)).of_no_pipeline.iter().map(|run| run.meta.name.clone()).collect();
            names.sort();
            names
        };
        let expected = ["cancelled-before-its-start", "gone", "never-found", "own"];
        assert_eq!(seen(&gone, 0), expected);
        assert_eq!(
            seen(&run("new", Some("kept"), "Succeeded"), 59),
            expected,
            "one that has just finished looks after them"
        );
        assert_eq!(seen(&run("new", Some("kept"), "Succeeded"), 60), [""; 0]);
        assert_eq!(seen(&run("own", None, "Succeeded"), 1_000), expected);
        assert_eq!(seen(&run("under-way", None, "Running"), 0), [""; 0]);
    }
}
