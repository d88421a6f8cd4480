//! What the operator makes: one file per built object, all of them pure functions of the job.

pub mod env;
pub mod pod;
pub mod service;

use serde_json::Value;

use super::validate::ValidJob;
use crate::cluster::build;
use crate::cluster::port::Resource;
use crate::names;

/// The ownerReference of every child.
pub(crate) fn owner_reference(job: &ValidJob) -> Value {
    build::owner_reference(Resource::TrainingJob, &job.name, &job.uid)
}

/// The labels of every child.
pub(crate) fn common_labels(job: &ValidJob) -> Value {
    build::common_labels(names::LABEL_JOB, &job.name)
}
