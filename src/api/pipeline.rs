//! Pipeline: steps in order, to be run with arguments.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]
#![allow(clippy::duplicated_attributes, reason = "each column has its type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::Duration;
use super::pipeline_step::{Files, Parameter, PipelineDefinition, Step};
use super::schema::condition_list;

/// Most runs that are kept.
pub const MAX_RUN_HISTORY: i32 = 1_000;

/// Says what a run does: prepare, train, evaluate, deploy, or whatever the steps are. A PipelineRun runs it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "Pipeline",
    plural = "pipelines",
    shortname = "pl",
    category = "trainyard",
    namespaced,
    status = "PipelineStatus",
    derive = "PartialEq",
    doc = "A Pipeline says what a run does: steps in order, such as prepare, train, evaluate and deploy. A PipelineRun runs it; a run under way keeps the spec that it started with.",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Whether it can be run"
    ),
    printcolumn(
        name = "Running",
        type_ = "integer",
        json_path = ".status.runs.running",
        description = "Runs that have not finished"
    ),
    printcolumn(
        name = "Last Run",
        type_ = "string",
        json_path = ".status.lastRun.name",
        description = "The run that finished last"
    ),
    printcolumn(
        name = "Result",
        type_ = "string",
        json_path = ".status.lastRun.result",
        description = "How that run ended"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "What is wrong, and what to do"
    ),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.runs.succeeded", priority = 1),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.runs.failed", priority = 1)
)]
pub struct PipelineSpec {
    /// Steps, parameters, and what the steps share.
    #[serde(flatten)]
    pub definition: PipelineDefinition,

    /// Number of runs that succeeded and are kept, the newest; older ones are deleted with what they made, except
    /// ModelDeployments. 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub successful_runs_history_limit: Option<i32>,

    /// Number of runs that failed or were cancelled and are kept. 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed_runs_history_limit: Option<i32>,
}

impl<'de> Deserialize<'de> for PipelineSpec {
    /// By hand, since serde reads what is flattened into a tree first.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            #[serde(default)]
            parameters: Vec<Parameter>,
            steps: Vec<Step>,
            #[serde(default)]
            finally: Vec<Step>,
            timeout: Option<Duration>,
            files: Option<Files>,
            successful_runs_history_limit: Option<i32>,
            failed_runs_history_limit: Option<i32>,
        }
        let fields = Fields::deserialize(deserializer)?;
        let Fields { parameters, steps, finally, timeout, files, .. } = fields;
        Ok(PipelineSpec {
            definition: PipelineDefinition { parameters, steps, finally, timeout, files },
            successful_runs_history_limit: fields.successful_runs_history_limit,
            failed_runs_history_limit: fields.failed_runs_history_limit,
        })
    }
}

/// Whether the pipeline can be run, and how its runs went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PipelineStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// What is wrong and what to do, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling and Stalled as kstatus reads them; LastRunSucceeded once a run has finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,

    /// Its runs that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunCounts>,

    /// The run that finished last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

/// Runs of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RunCounts {
    /// Not finished.
    pub running: i32,
    /// Succeeded.
    pub succeeded: i32,
    /// Failed, or cancelled.
    pub failed: i32,
}

/// The run that finished last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct LastRun {
    /// Its name.
    pub name: String,
    /// Succeeded, Failed or Cancelled.
    pub result: String,
    /// When.
    pub finish_time: Time,
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_of_the_spec_is_read() {
        let spec = json!({
            "parameters": [{"name": "p", "default": 3}],
            "steps": [{"name": "a", "run": {"spec": {}}}],
            "finally": [{"name": "z", "run": {"spec": {}}}],
            "timeout": "3600s",
            "files": {"size": "1Gi"},
            "successfulRunsHistoryLimit": 1,
            "failedRunsHistoryLimit": 2,
        });
        let declared = Pipeline::crd();
        let schema = declared.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let fields = json!(schema)["properties"]["spec"]["properties"].as_object().unwrap().len();
        assert_eq!(fields, spec.as_object().unwrap().len(), "the test names every field");
        let read: PipelineSpec = serde_json::from_str(&spec.to_string()).unwrap();
        assert_eq!(json!(read), spec);
    }
}
