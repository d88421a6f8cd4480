//! What the operator makes: one file per built object, all of them pure functions of the job.

pub mod env;
pub mod pod;
pub mod service;

use serde_json::{Value, json};

use super::validate::ValidJob;
use crate::names;

/// The ownerReference of every child. `blockOwnerDeletion` stays unset: setting it needs a right to the owner's
/// finalizers, and nothing outside the cluster has to be undone.
pub(crate) fn owner_reference(job: &ValidJob) -> Value {
    json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "name": job.name,
        "uid": job.uid,
        "controller": true,
    })
}

/// The labels of every child. Labels of the job itself are not copied: Argo CD would take the children for its own.
pub(crate) fn common_labels(job: &ValidJob) -> Value {
    json!({
        "app.kubernetes.io/managed-by": names::OPERATOR,
        names::LABEL_JOB: job.name,
    })
}
