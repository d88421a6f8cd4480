//! The record of a run: what it runs, fixed when it starts.
//!
//! A ControllerRevision, since the apiserver itself keeps its data from being changed. There is one for each run, owned by it:
//! a record shared by the runs of a pipeline could not outlive the pipeline, and the run must.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Maker;
use crate::api::PipelineDefinition;
use crate::api::pipeline_run::PipelineIdentity;
use crate::names;

/// What a run runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Where it is from.
    pub pipeline: PipelineIdentity,
    /// Who created the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
    /// The value of each parameter.
    pub parameters: BTreeMap<String, Value>,
    /// The steps.
    pub spec: PipelineDefinition,
}

impl Record {
    /// Whether both say the same in the same words: a record may have been made by somebody else.
    pub fn is_same(&self, other: &Record) -> bool {
        let text = |record: &Record| serde_json::to_string(record).ok();
        text(self).is_some_and(|one| text(other) == Some(one))
    }
}

/// Tells what is run apart from what else could be: fifty bits, compared within one pipeline.
pub fn hash(definition: &PipelineDefinition) -> String {
    names::short_hash(json!(definition).to_string().as_bytes(), 10)
}

/// Builds the record.
pub fn build_record(run: Maker, record: &Record) -> Value {
    let mut metadata = run.metadata(&names::family(run.name, run.uid));
    metadata["annotations"] = json!({names::ANNOTATION_REVISION_HASH: record.pipeline.hash});
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "revision": 1,
        "data": record,
    })
}
