//! What a run makes: one file per kind of object, all of them pure functions of the run's record.

pub mod claim;
pub mod deployment;
pub mod job;
pub mod pod;
pub mod record;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::validate::{Claim, ValidFiles, ValidPipeline};
use crate::cluster::build::{common_labels, merged, owner_reference};
use crate::cluster::port::Resource;
use crate::cluster::template_edit::{containers, init_containers, push, set};
use crate::names;

/// Name under which the run's files are mounted.
pub const FILES_VOLUME: &str = "trainyard-files";

/// Which run something is made for.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// Which attempt of which step something is made for.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The run.
    pub run: Maker<'a>,
    /// What the run runs.
    pub pipeline: &'a ValidPipeline,
    /// Name of the step.
    pub step: &'a str,
    /// Counted from 1.
    pub number: u32,
    /// What tells the child from another's object under its name.
    pub token: &'a str,
}

/// Gives a value of the spec of a `train` or `deploy` step its present name: what was written under the old one is still made.
pub(in crate::pipelines) fn rename_values(spec: &mut Value) {
    if spec["failureLogs"] == "Off" {
        set(spec, "failureLogs", "None");
    }
}

impl Maker<'_> {
    /// Metadata of an object that belongs to the run and is deleted with it.
    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace,
            "labels": common_labels(names::LABEL_RUN, self.name),
            "ownerReferences": [owner_reference(Resource::PipelineRun, self.name, self.uid)],
        })
    }

    /// Name of the claim that is, or was, given to the run's files.
    pub fn claim_name(&self, files: &ValidFiles) -> String {
        match &files.claim {
            Claim::Given(claim) => claim.clone(),
            Claim::Made { .. } => names::family(self.name, self.uid),
        }
    }
}

impl Attempt<'_> {
    /// Name of the pod or TrainingJob.
    pub fn child_name(&self) -> String {
        names::step_child(self.run.name, self.run.uid, self.step, self.number)
    }

    fn metadata(&self) -> Value {
        let mut metadata = self.run.metadata(&self.child_name());
        let own = json!({names::LABEL_STEP: self.step, names::LABEL_ATTEMPT: self.number.to_string()});
        let labels = merged(&metadata["labels"], &own);
        set(&mut metadata, "labels", labels);
        set(&mut metadata, "annotations", json!({names::ANNOTATION_LAUNCH_TOKEN: self.token}));
        metadata
    }

    /// Mounts the run's files in every container of a pod's spec.
    fn mount_files(&self, spec: &mut Value) {
        let Some(files) = &self.pipeline.files else { return };
        let claim = json!({"claimName": self.run.claim_name(files)});
        push(spec, "volumes", json!({"name": FILES_VOLUME, "persistentVolumeClaim": claim}));
        let mount = |container: &mut Value| {
            push(container, "volumeMounts", json!({"name": FILES_VOLUME, "mountPath": files.mount_path}));
        };
        init_containers(spec).for_each(mount);
        containers(spec).for_each(mount);
    }
}
