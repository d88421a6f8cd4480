//! ModelDeployment: pods that serve a model, replaced without a dropped request.
#![allow(unreachable_pub, reason = "the schema's derive macro makes a public type within a function")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::pod_template::serving_schema;
use super::schema::condition_list;
use super::{Duration, FailureLogs, PodTemplate};

/// Most replicas of one deployment.
pub const MAX_REPLICAS: i32 = 1_000;
/// Most revisions that are kept besides those in use.
pub const MAX_REVISION_HISTORY: i32 = 50;
/// Longest time that a pod may have to be ready before it counts, in seconds.
pub const MAX_MIN_READY_SECONDS: i32 = 3_600;
/// Most revisions that status lists.
pub const MAX_LISTED_REVISIONS: usize = 64;

/// Serves a model: keeps pods running behind a Service, and replaces them, one immutable revision after another,
/// without dropping a request.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "trainyard.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "md",
    category = "trainyard",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    doc = "A ModelDeployment serves a model: it keeps pods running behind a Service, and replaces them, one immutable revision after another, without dropping a request.",
    scale = r#"{"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}"#,
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')").message("the name must start with a letter and have at most 63 characters, all of them a-z, 0-9 or '-', since its Service has the same name: rename the deployment"),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "What the deployment is doing"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.summary", description = "Pods that serve, of those asked for"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision", description = "The revision that the spec asks for"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where the model answers, within the cluster"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", description = "What is happening, and what to do"),
    printcolumn(name = "Stable", type_ = "integer", json_path = ".status.stableRevision", priority = 1, description = "The newest revision that served at full capacity"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.uri", priority = 1),
)]
pub struct ModelDeploymentSpec {
    /// The model that the pods find when they start. Left out, the image brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSource>,

    /// Number of pods. `kubectl scale` and a HorizontalPodAutoscaler set it; leave it out of Git when one of them does.
    #[serde(default = "one_replica")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// The pod that serves. A change of it, or of the model, makes a new revision.
    #[schemars(schema_with = "serving_schema")]
    pub template: PodTemplate,

    /// How one revision replaces another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// Number of revisions that are kept besides those in use, for a rollback. 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 50))]
    pub revision_history_limit: Option<i32>,

    /// How many pods a drain of nodes may take at a time, when there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,

    /// Whether the last lines of a failed container's log are copied to status, where everybody sees them who may read
    /// the deployment: `Tail` (1 KiB, the default) or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_logs: Option<FailureLogs>,
}

/// A default of the schema, since the scale subresource wants a number; HorizontalPodAutoscalers read it there.
fn one_replica() -> i32 {
    1
}

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[x_kube(
    validation = Rule::new("self.uri.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?$')").message(Message::Expression("self.uri + ': write pvc://CLAIM/PATH, with the name of a PersistentVolumeClaim of this namespace; or leave model out, and let the image bring it'".to_owned())).field_path(".uri"),
    validation = Rule::new("!self.uri.split('/').exists(part, part == '..')").message(Message::Expression("self.uri + ': remove .. from it: a path leads down from the root of the claim'".to_owned())).field_path(".uri"),
)]
pub struct ModelSource {
    /// `pvc://CLAIM/PATH`: a folder or file of a PersistentVolumeClaim in the deployment's namespace. The serving
    /// container finds it, read-only, at /mnt/models, and that path in the variable TRAINYARD_MODEL_DIR.
    #[schemars(length(max = 1024))]
    pub uri: String,
}

/// How one revision replaces another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[x_kube(
    validation = Rule::new("!has(self.maxSurge) || !has(self.maxUnavailable) || !(string(self.maxSurge) in ['0', '0%']) || !(string(self.maxUnavailable) in ['0', '0%'])").message("maxSurge and maxUnavailable cannot both be 0: no pod could ever be replaced; leave maxUnavailable out, or set one of them to 1").field_path(".maxUnavailable"),
)]
pub struct Rollout {
    /// Number of pods beyond `replicas` while a revision is replaced: a number, or a percentage of `replicas` such as 25%,
    /// rounded up. 1 when left out. With 0, pods are replaced in place, which needs no spare GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Amount>,

    /// Number of pods below `replicas` that may serve while a revision is replaced: a number, or a percentage of `replicas` such
    /// as 25%, rounded down. 0 when left out, or 1 when maxSurge is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,

    /// A pod of a new revision counts, for replacing others, when it has been ready for this many seconds without a break,
    /// as with a Deployment; requests reach it as soon as it is ready. 10 when left out, or half of progressDeadline where
    /// that is less. It must be shorter than progressDeadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: Option<i32>,

    /// A new revision is given up, and the stable one restored, when this long after the last progress (a pod scheduled,
    /// a container pulled and started, ready, ready for minReadySeconds) the next has not come. 10m when left out. One that
    /// found no room (no node, no quota, a claim that is missing, pods that are refused) is tried again for a day, after
    /// pauses that double up to an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<Duration>,

    /// Serves this revision (`status.revisions`) instead of what `model` and `template` say, until it is removed. It may
    /// name what they say by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub undo_to: Option<i64>,
}

/// How many pods a drain of nodes may take at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DisruptionBudget {
    /// A number, or a percentage of `replicas` such as 25%, rounded up. 1 when left out. With 100% no PodDisruptionBudget is
    /// made, for those who write their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,
}

/// How the deployment is doing, as the operator saw it last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ModelDeploymentStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// What is happening and what to do, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling and Stalled as kstatus reads them; Available while enough pods serve; ClaimNotShareable and
    /// RevisionChanged when they apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition_list")]
    pub conditions: Vec<Condition>,

    /// The revision that the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,

    /// The newest revision that served at full capacity; what is returned to when another fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<i64>,

    /// The highest number that a revision ever had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_revision: Option<i64>,

    /// Where the model answers, within the cluster; absent while there is no Service of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// Pods that serve, of those asked for: for instance 2/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,

    /// Pods of all revisions, but not those beyond `spec.replicas` while one revision replaces another: the number that the
    /// scale subresource reports to autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Pods of all revisions that serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,

    /// Selects the pods of all revisions, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The replacement under way, or the one that was given up; also while pods of a revision that has served are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// The revisions that can be gone back to, oldest first; the newest 64 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub revisions: Vec<RevisionStatus>,

    /// What last kept a container from serving; gone when all pods serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ContainerFailure>,

    /// The values that hold where spec leaves a field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveServing>,
}

/// How a revision comes to have all its pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RolloutStatus {
    /// The revision that is to serve.
    pub revision: i64,
    /// When it was begun.
    pub start_time: Time,
    /// When it last came further.
    pub progress_time: Time,
    /// How far it has come: steps (scheduled, each container pulled and started, ready) that pods have taken.
    pub progress: i32,
    /// Whose pods are counted: of the revision itself, or of the stable one while that is restored first. Nobody's before
    /// there is a Deployment for them, and while a revision that found no room waits to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<i64>,
    /// Why it was given up. The revision is tried again when `model` or `template` change, an annotation for instance; by
    /// itself only if it found no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RevisionStatus {
    /// Its number.
    pub revision: i64,
    /// Hash of model and template.
    pub hash: String,
    /// When it was made.
    pub created: Time,
    /// What changed from the revision before, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Its pods.
    pub replicas: i32,
    /// Its pods that serve.
    pub available_replicas: i32,
}

/// A container that does not serve, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ContainerFailure {
    /// Revision of its pod.
    pub revision: i64,
    /// Its pod.
    pub pod: String,
    /// Which container.
    pub container: String,
    /// The kubelet's word: CrashLoopBackOff, ImagePullBackOff, OOMKilled.
    pub reason: String,
    /// Its exit code, if it ended; 137 is SIGKILL, 143 SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The last lines of its log or its termination message, at most 1 KiB; absent with failureLogs: None.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// What the operator goes by where spec leaves a field out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EffectiveServing {
    /// The container that serves.
    pub container: String,
    /// Pods more than `replicas` while a revision is replaced.
    pub max_surge: i32,
    /// Pods fewer than `replicas` that may serve meanwhile.
    pub max_unavailable: i32,
    /// Seconds that a pod has to be ready before it counts for replacing others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i32>,
    /// Longest time without progress.
    pub progress_deadline: Duration,
}
