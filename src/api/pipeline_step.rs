//! What a pipeline is made of: parameters, steps, and files that steps share.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::raw::RawObject;
use super::scalar::{MAX_TEXT, Scalar};
use super::training_job::Backoff;
use super::{Duration, FailureLogs, PodTemplate};

/// Most steps of one pipeline.
pub const MAX_STEPS: usize = 500;
/// Most steps that run at the end whatever happened.
pub const MAX_FINALLY: usize = 50;
/// Most parameters of one pipeline.
pub const MAX_PARAMETERS: usize = 100;
/// Most bytes of a pipeline's definition as JSON.
pub const MAX_DEFINITION: usize = 1_024 * 1_024;
/// Most values that `enum` of one parameter lists.
pub const MAX_ENUM: usize = 64;
/// Longest `pattern` of a parameter, in bytes.
pub const MAX_PATTERN: usize = 512;
/// Longest `when`, in bytes.
pub const MAX_WHEN: usize = 1_024;
/// Most outputs that one step declares.
pub const MAX_OUTPUTS: usize = 32;

/// Steps and their order, parameters, and what the steps share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PipelineDefinition {
    /// What a run may be given. In specs of steps `$(params.NAME)` stands for the value, in `when` it is `params.NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub parameters: Vec<Parameter>,

    /// The steps. Those that depend on nothing start together; each of the others starts when all that it depends on have
    /// succeeded.
    #[schemars(length(min = 1, max = 500))]
    pub steps: Vec<Step>,

    /// Steps that run when all others have ended, whatever became of them: to clean up, to send word. Their `when` may ask
    /// for `steps.NAME.state`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub finally: Vec<Step>,

    /// Steps that have not ended so long after the run's start are stopped, and the run fails. Steps of `finally` run
    /// afterwards; give each of them a timeout of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,

    /// A volume that the pods of all `run` and `train` steps find at the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
}

impl PipelineDefinition {
    /// Its length in bytes as JSON, without what was too long to be kept.
    pub fn length(&self) -> usize {
        let mut length = Length(0);
        // Nothing here fails to be written: names of fields are text, and a number is never infinite.
        _ = serde_json::to_writer(&mut length, self);
        length.0
    }
}

/// Counts what is written.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a run may be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Parameter {
    /// Its name: a letter, then letters, digits, '-' and '_'.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z][-_a-zA-Z0-9]*$"))]
    pub name: String,

    /// What its value is. `string` when left out.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueType>,

    /// For people: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,

    /// Its value where a run gives none: text of at most 4,096 bytes, a number, true or false. Without it, every run has to
    /// give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub default: Option<Scalar>,

    /// The only values that it may have.
    #[serde(default, rename = "enum", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "some_values")]
    pub allowed: Vec<Scalar>,

    /// The least number that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,

    /// The greatest number that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,

    /// A regular expression (RE2 syntax) that the text has to match somewhere; `^...$` for all of it. One that repeats large
    /// classes of characters, as in `\w{500}`, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub pattern: Option<String>,
}

/// Type of a parameter or an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ValueType {
    /// Text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// Any number; in `when` a double.
    Number,
    /// true or false.
    Boolean,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[x_kube(
    validation = Rule::new("(has(self.run) ? 1 : 0) + (has(self.train) ? 1 : 0) + (has(self.deploy) ? 1 : 0) == 1").message("a step does one thing: give exactly one of run, train and deploy"),
    validation = Rule::new("!has(self.deploy) || (!has(self.outputs) && !has(self.retries))").message("a deploy step has the outputs url and revision, and is not retried: remove outputs and retries"),
    validation = Rule::new("!has(self.failureLogs) || has(self.run)").message("failureLogs of a step is for run: set it in the spec of train or deploy"),
)]
pub struct Step {
    /// Its name within the pipeline.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Names of the steps that have to succeed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 63)))]
    pub depends_on: Vec<String>,

    /// A CEL expression over `params` and `steps`, such as `steps.evaluate.outputs.accuracy >= 0.95`. If it is false the
    /// step is skipped, and so are those that depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,

    /// Runs a pod to its end: a pod template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "run_schema")]
    pub run: Option<PodTemplate>,

    /// Trains: the spec of a TrainingJob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "train_schema")]
    pub train: Option<RawObject>,

    /// Deploys a model: makes or changes a ModelDeployment, and waits until it is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,

    /// What the step reports: fields of the JSON object that its container writes to its termination message
    /// (/dev/termination-log; 4,096 bytes at most, fewer in a pod of more than three containers: 12,288 divided by their
    /// number, init containers included). In later steps `$(steps.STEP.outputs.NAME)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub outputs: Vec<Output>,

    /// What happens when it fails. Left out, it is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,

    /// Longest time of one attempt, from when it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,

    /// Whether the last line of a failed pod's log stands in the step's message, where everybody sees it who may read the
    /// run: `Tail` (the default) or `None`. Only for `run`; `train` and `deploy` have the field in their specs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_logs: Option<FailureLogs>,
}

/// A ModelDeployment that a step makes or changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Deploy {
    /// Name of the ModelDeployment. It outlives the run and the pipeline.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Whether a ModelDeployment of that name that this pipeline did not make may be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<bool>,

    /// The spec of the ModelDeployment. Fields that it leaves out keep what others have set, such as replicas.
    #[schemars(schema_with = "deploy_schema")]
    pub spec: RawObject,
}

/// A value that a step reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Output {
    /// Its name: a letter, then letters, digits, '-' and '_'.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z][-_a-zA-Z0-9]*$"))]
    pub name: String,

    /// What it is. `string` when left out.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueType>,
}

/// How often and when a step is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Retries {
    /// How often, whatever the cause.
    #[schemars(range(min = 0, max = 100))]
    pub limit: i32,

    /// The wait before each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// A volume that all steps find at the same place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[x_kube(
    validation = Rule::new("has(self.claim) != has(self.size)").message("give either the claim, or the size of one that is made for each run"),
    validation = Rule::new("!has(self.claim) || (!has(self.storageClassName) && !has(self.accessModes))").message("storageClassName and accessModes are for a claim that is made for each run: remove them, or give size instead of claim"),
)]
pub struct Files {
    /// A PersistentVolumeClaim of the run's namespace. It outlives the run; models that a deploy step serves belong there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim: Option<String>,

    /// Size of a claim that is made for each run and deleted with it, such as 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub size: Option<String>,

    /// Storage class of that claim; the cluster's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,

    /// Access modes of that claim. ReadWriteOnce when left out: pods of several nodes need ReadWriteMany.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(max = 32)))]
    pub access_modes: Vec<String>,

    /// Where containers find it. /mnt/files when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^/[^:]+$"))]
    pub mount_path: Option<String>,
}

/// Text, a number, true or false: no structural schema can say so, but lists and objects can be kept empty.
pub(super) fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-preserve-unknown-fields": true,
        "maxLength": MAX_TEXT,
        "maxItems": 0,
        "maxProperties": 0,
    })
}

fn some_values(generator: &mut SchemaGenerator) -> Schema {
    let items = any_value(generator);
    json_schema!({"type": "array", "maxItems": MAX_ENUM, "items": items})
}

fn raw_schema(description: &str) -> Schema {
    json_schema!({"description": description, "type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn run_schema(_: &mut SchemaGenerator) -> Schema {
    raw_schema(
        "Runs a pod to its end: a pod template, with metadata (labels and annotations) and spec. With several containers, its annotation kubectl.kubernetes.io/default-container names the one whose end is the step's.",
    )
}

fn train_schema(_: &mut SchemaGenerator) -> Schema {
    raw_schema("Trains: the spec of a TrainingJob. Its results are the step's outputs.")
}

fn deploy_schema(_: &mut SchemaGenerator) -> Schema {
    raw_schema(
        "The spec of the ModelDeployment. Fields that it leaves out keep what others have set, such as replicas.",
    )
}
