//! TrainingJob: pods that train a model together and end.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::pod_template::training_schema;
use super::schema::condition_list;
use super::{Duration, FailureLogs, PodTemplate};

/// Most pods of one job: an EndpointSlice holds at most 1,000 endpoints, and one slice carries all host names.
pub const MAX_NODES: i32 = 1_000;
/// Most attempts that status remembers; older ones are forgotten first.
pub const MAX_ATTEMPT_RECORDS: usize = 10;

/// Trains a model: starts pods, tells them how to find each other, starts them again together when one fails, and
/// reports how it went.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "TrainingJob",
    plural = "trainingjobs",
    shortname = "tj",
    category = "trainyard",
    namespaced,
    status = "TrainingJobStatus",
    derive = "PartialEq",
    doc = "A TrainingJob trains a model: it starts pods, tells them how to find each other, starts them again together when one fails, and reports how it went.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')").message("the name must start with a letter and have at most 63 characters, all of them a-z, 0-9 or '-', since host names are made from it: rename the job"),
    validation = Rule::new("oldSelf.?status.?finishTime.hasValue() || self.spec.framework == oldSelf.spec.framework || oldSelf.spec.?suspend.orValue(false) || (oldSelf.?status.?observedGeneration.orValue(-1) > 0 && !oldSelf.?status.?startTime.hasValue())").message("framework can be changed only while the job is suspended: set suspend: true first").field_path(".spec.framework"),
    validation = Rule::new("oldSelf.?status.?finishTime.hasValue() || self.spec.?nodes.orValue(1) == oldSelf.spec.?nodes.orValue(1) || oldSelf.spec.?suspend.orValue(false) || (oldSelf.?status.?observedGeneration.orValue(-1) > 0 && !oldSelf.?status.?startTime.hasValue())").message("nodes can be changed only while the job is suspended: set suspend: true first").field_path(".spec.nodes"),
    validation = Rule::new("oldSelf.?status.?finishTime.hasValue() || (has(self.spec.sharedMemory) == has(oldSelf.spec.sharedMemory) && (!has(self.spec.sharedMemory) || self.spec.sharedMemory == oldSelf.spec.sharedMemory)) || oldSelf.spec.?suspend.orValue(false) || (oldSelf.?status.?observedGeneration.orValue(-1) > 0 && !oldSelf.?status.?startTime.hasValue())").message("sharedMemory can be changed only while the job is suspended: set suspend: true first").field_path(".spec.sharedMemory"),
    validation = Rule::new("!oldSelf.?status.?finishTime.hasValue() || (self.spec.framework == oldSelf.spec.framework && self.spec.?nodes.orValue(1) == oldSelf.spec.?nodes.orValue(1) && (has(self.spec.sharedMemory) == has(oldSelf.spec.sharedMemory) && (!has(self.spec.sharedMemory) || self.spec.sharedMemory == oldSelf.spec.sharedMemory)))").message("framework, nodes and sharedMemory of a finished job cannot be changed, since it does not run again: delete it and create it again (kubectl replace --force), or create a job of another name").field_path(".spec"),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "What the job is doing"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.pods.summary", description = "Pods that run or have ended well, of all pods"),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts", description = "Attempts that failed and were followed by another"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What is happening, and what to do"),
    printcolumn(name = "Framework", type_ = "string", json_path = ".spec.framework", priority = 1),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.attempt", priority = 1, description = "The attempt in force"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime", priority = 1),
    printcolumn(name = "Finished", type_ = "date", json_path = ".status.finishTime", priority = 1),
)]
#[x_kube(
    validation = Rule::new("!has(self.processesPerNode) || self.framework != 'none'").message("processesPerNode means nothing to framework none: remove it, or set framework: torch").field_path(".processesPerNode"),
)]
pub struct TrainingJobSpec {
    /// Whose rendezvous contract the pods are given. `torch` sets what torch.distributed and torchrun read
    /// (MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK, LOCAL_WORLD_SIZE and PET_*); `none` sets only TRAINYARD_*.
    pub framework: Framework,

    /// Number of pods, which PyTorch calls nodes (nnodes). 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub nodes: Option<i32>,

    /// Processes that torchrun starts in each pod (nproc_per_node): a number, or `auto` for one per GPU that the
    /// container asks for, else what torchrun finds. 1 when left out. Only for framework torch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_per_node: Option<ProcessesPerNode>,

    /// The pod that is started `nodes` times.
    #[schemars(schema_with = "training_schema")]
    pub template: PodTemplate,

    /// Size of /dev/shm in the training container, for instance 8Gi; it counts as memory of the pod. Left out, torch
    /// gets one as large as the pod's memory allows (data loaders need more than the usual 64 MiB), and none gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    pub shared_memory: Option<String>,

    /// Stops the job's pods while true; they start again, as a new attempt, when it is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The job fails when it is not finished this long after its start. After it was suspended it starts anew, as a Job
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline: Option<Duration>,

    /// What happens when a pod fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,

    /// Whether the last lines of a failed pod's log are copied to status, where everybody sees them who may read the
    /// job: `Tail` (1 KiB, the default) or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_logs: Option<FailureLogs>,

    /// Pods are deleted this long after the job has finished; the job itself stays. Left out, they stay with the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_after_finished: Option<Duration>,

    /// The job is deleted, with its pods, this long after it has finished. Left out, it stays. A job that Git owns
    /// would be made again and run again: use podsAfterFinished there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after_finished: Option<Duration>,
}

/// A contract between the operator and a training framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Framework {
    /// PyTorch: torch.distributed and torchrun.
    Torch,
    /// No contract: pods with stable host names.
    None,
}

/// How many processes a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessesPerNode {
    /// One per GPU.
    Auto,
    /// A number of processes.
    Count(i32),
}

const AUTO: &str = "auto";

impl Serialize for ProcessesPerNode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ProcessesPerNode::Auto => serializer.serialize_str(AUTO),
            ProcessesPerNode::Count(count) => serializer.serialize_i32(*count),
        }
    }
}

impl<'de> Deserialize<'de> for ProcessesPerNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == AUTO => Ok(ProcessesPerNode::Auto),
            Value::Number(number) => number
                .as_i64()
                .and_then(|count| i32::try_from(count).ok())
                .map(ProcessesPerNode::Count)
                .ok_or_else(|| de::Error::custom(format!("processesPerNode: {number} is no count of processes"))),
            other => Err(de::Error::custom(format!("processesPerNode: {other} is neither a number nor \"auto\""))),
        }
    }
}

impl JsonSchema for ProcessesPerNode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProcessesPerNode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 8,
            "x-kubernetes-validations": [{
                "rule": "type(self) == int ? (self >= 1 && self <= 1024) : self == 'auto'",
                "message": "must be a number from 1 to 1024, or auto",
            }],
        })
    }
}

/// What happens when a pod fails, vanishes or is evicted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct FailurePolicy {
    /// How often all pods are started again, whatever the cause, before the job fails. 3 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_restarts: Option<i32>,

    /// The wait before each restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// A wait that doubles each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Backoff {
    /// First wait, counted from the failure. 1s when left out, and at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,

    /// The longest wait. 5m when left out, and at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// How the job is doing, as the operator saw it last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TrainingJobStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// What is happening and what to do, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling and Stalled as kstatus reads them; Finished for either outcome; Complete, Failed, Suspended
    /// and ResultsRefused when they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,

    /// The attempt in force, counted from 1. Every restart and every resume is a new attempt, and the pods of an older
    /// one are gone before the pods of a newer one start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,

    /// The newest attempt of which all pods were seen to exist. From then on a pod that is missing is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_attempt: Option<u32>,

    /// Ranks of the attempt in force that have ended well, as ranges: 0-3,7. They stay so, whatever becomes of their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub succeeded_ranks: Option<String>,

    /// The attempt in force starts no earlier than this: the wait before a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Time>,

    /// How many attempts failed and were followed by another; counts towards failurePolicy.maxRestarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i32>,

    /// When the job started; set again when it resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the job finished, either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,

    /// Pods of the attempt in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,

    /// The values that hold where spec leaves a field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveSpec>,

    /// The JSON object that the training container of rank 0 wrote to its termination message (/dev/termination-log) before it
    /// ended well. Kubernetes keeps 4,096 bytes of it, fewer in a pod of more than three containers: 12,288 divided by their
    /// number, init containers included. A key whose value Kubernetes would not keep as it is (NaN, null, a whole number beyond
    /// 64 bits) is left out, and the condition ResultsRefused names it; 3.0 is kept as 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub results: Option<BTreeMap<String, Value>>,

    /// The latest attempts that failed, oldest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub attempts: Vec<AttemptRecord>,
}

/// Pods of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PodCounts {
    /// Pods that run or have ended well, of all: for instance 2/8.
    pub summary: String,
    /// Pods whose training container runs.
    pub running: i32,
    /// Pods whose training container ended with exit code 0.
    pub succeeded: i32,
    /// Pods that failed.
    pub failed: i32,
}

/// What the operator goes by where spec leaves a field out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EffectiveSpec {
    /// Number of pods.
    pub nodes: i32,
    /// Processes in each pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_per_node: Option<ProcessesPerNode>,
    /// The container that trains.
    pub container: String,
    /// Restarts before the job fails.
    pub max_restarts: i32,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct AttemptRecord {
    /// Which attempt.
    pub attempt: u32,
    /// Why it ended.
    pub cause: Cause,
    /// When the failure happened.
    pub time: Time,
    /// Rank of the pod that failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Name of that pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Node that the pod ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Container that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its exit code; 137 is SIGKILL, 143 SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What happened, in one sentence.
    pub message: String,
    /// The last lines of its log or its termination message, at most 1 KiB; absent with failureLogs: None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// Why an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Cause {
    /// The training container ended with an exit code other than 0.
    ExitCode,
    /// The container used more memory than its limit.
    OutOfMemory,
    /// The node evicted or preempted the pod, or was drained.
    Disrupted,
    /// The pod vanished, or was deleted, before its end was seen.
    Lost,
    /// The pod could not be started and Kubernetes gave up on it.
    NotStarted,
    /// The pod was ended over a limit of its own: its activeDeadlineSeconds, or its local storage.
    LimitExceeded,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}
