//! What is looked up when a run is about to start, so that what would only show at its last step is said before the first.

use serde_json::Value;

use super::observe::Prepared;
use crate::cluster::port::{ApiError, ApiServer, ObjectId, Resource};
use crate::names::ANNOTATION_PIPELINE_UID;
use crate::pipelines::validate::{Claim, Work};

/// Models that are looked up for one run.
const MOST_MODELS: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ahead {
    /// ModelDeployments that deploy steps name, that another pipeline or a person made, and that may not be taken over.
    pub foreign_models: Vec<String>,
    /// Access modes of the claim that is given for files; nothing if there is none.
    pub access_modes: Vec<String>,
}

/// Looks up the models that a run may deploy, and its claim.
///
/// # Errors
/// What the apiserver answered to a read.
pub async fn look_ahead<A: ApiServer>(
    api: &A,
    namespace: &str,
    run_uid: &str,
    prepared: &Prepared,
) -> Result<Ahead, ApiError> {
    let mut ahead = Ahead::default();
    let mark = prepared.record.pipeline.uid.as_deref().unwrap_or(run_uid);
    let models = prepared.pipeline.steps.iter().filter_map(|step| match &step.work {
        Work::Deploy(deploy) if deploy.adopt != Some(true) => Some(deploy.name.as_str()),
        _ => None,
    });
    for name in models.take(MOST_MODELS) {
        let live = api.read(&ObjectId::new(Resource::ModelDeployment, namespace, name)).await?;
        let is_foreign = |model: &Value| model["metadata"]["annotations"][ANNOTATION_PIPELINE_UID] != mark;
        let is_known = ahead.foreign_models.iter().any(|known| known == name);
        if live.as_ref().is_some_and(is_foreign) && !is_known {
            ahead.foreign_models.push(name.to_owned());
        }
    }
    if let Some(Claim::Given(claim)) = prepared.pipeline.files.as_ref().map(|files| &files.claim) {
        let live = api.read(&ObjectId::new(Resource::PersistentVolumeClaim, namespace, claim)).await?;
        let modes = live.as_ref().and_then(|claim| claim["spec"]["accessModes"].as_array());
        ahead.access_modes = modes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    Ok(ahead)
}
