//! PipelineRun: one run of a pipeline.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pipeline_step::{PipelineDefinition, any_value};
use super::scalar::Scalar;
use super::schema::condition_list;

/// Runs a pipeline once: what it runs is fixed when it starts.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "PipelineRun",
    plural = "pipelineruns",
    shortname = "plr",
    category = "trainyard",
    namespaced,
    status = "PipelineRunStatus",
    derive = "PartialEq",
    doc = "A PipelineRun runs a pipeline once, with arguments: one that it names, or one that it brings. What it runs is fixed when it starts.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')").message("the name must start with a letter and have at most 63 characters, all of them a-z, 0-9 or '-', since pods are labelled with it: rename the run"),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "What the run is doing"),
    printcolumn(name = "Steps", type_ = "string", json_path = ".status.summary", description = "Steps that have ended, of all"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "Finished", type_ = "date", json_path = ".status.finishTime"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What is happening, and what to do"),
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipelineRef.name", priority = 1),
    printcolumn(name = "Started By", type_ = "string", json_path = ".status.startedBy", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1),
)]
#[x_kube(
    validation = Rule::new("has(self.pipelineRef) != has(self.pipeline)").message("give one of pipelineRef, as in {name: my-pipeline}, and pipeline, with steps of its own"),
    validation = Rule::new("!oldSelf.?cancel.orValue(false) || self.?cancel.orValue(false)").message("a run that was cancelled cannot be taken up again: create another").field_path(".cancel"),
)]
pub struct PipelineRunSpec {
    /// The Pipeline that is run, as its spec is when the run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_ref: Option<PipelineRef>,

    /// What is run, in place of a Pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineDefinition>,

    /// Values of parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub arguments: Vec<Argument>,

    /// Stops the steps that run, skips those that have not started, and runs those of `finally`. To stop everything at
    /// once, delete the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// A Pipeline of the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PipelineRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Argument {
    /// Name of the parameter.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its value, of the parameter's type: text of at most 4,096 bytes, a number, true or false.
    #[schemars(schema_with = "any_value")]
    pub value: Scalar,
}

/// How the run is doing, as the operator saw it last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PipelineRunStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// What is happening and what to do, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling and Stalled as kstatus reads them; Finished for every outcome; Complete, Failed and Cancelled
    /// when they apply; ClaimNotShareable and ModelNotOurs warn when the run starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,

    /// Steps that have ended, of all: for instance 4/7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,

    /// When the run started. From then on it is what its record says: the ControllerRevision of the same label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the run finished, whatever its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// What is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineIdentity>,

    /// Who created the run: the field manager of its first write, such as kubectl-create or argocd-controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,

    /// The value of each parameter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_values")]
    pub parameters: BTreeMap<String, Value>,

    /// The claim that holds the run's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,

    /// Why and when the run was stopped before all its steps had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,

    /// Each step that is not waiting any more, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, StepStatus>,
}

/// What a run runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PipelineIdentity {
    /// Name of the Pipeline; nothing when the run brought its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// UID of that Pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Generation of its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Hash of the spec: runs with the same hash ran the same.
    pub hash: String,
}

/// Why a run was stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
    /// When the operator noticed.
    pub time: Time,
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum StopReason {
    /// `spec.cancel`.
    Cancelled,
    /// `timeout` of the pipeline.
    TimedOut,
}

/// How a step is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct StepStatus {
    /// Running (also between attempts), Succeeded, Failed, Skipped or Cancelled.
    pub state: StepState,
    /// The attempt in force, or the last, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When its first attempt was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the attempt in force was, or will be, started, if it is not the first; missing while it waits, longer than its
    /// timeout, for pods of the attempt before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Why it is as it is, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Name of its pod, TrainingJob or ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<String>,
    /// SHA-256 of the annotation `trainyard.dev/launch-token` that the pod or TrainingJob of the attempt in force carries,
    /// shortened: an object under that name without it was made by somebody else and counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
    /// What it reported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_values")]
    pub outputs: BTreeMap<String, Value>,
}

/// State of a step; one that waits has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum StepState {
    /// Started, or about to be.
    #[default]
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly, for good.
    Failed,
    /// Never started.
    Skipped,
    /// Stopped with the run.
    Cancelled,
}

impl StepState {
    /// As in status, and in `when` of steps of `finally`.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Running => "Running",
            StepState::Succeeded => "Succeeded",
            StepState::Failed => "Failed",
            StepState::Skipped => "Skipped",
            StepState::Cancelled => "Cancelled",
        }
    }
}

fn any_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
