//! Pods as far as a controller looks at them.
//!
//! A watched pod is trimmed to these facts as it comes in: ten thousand of them are kept, and a whole Pod is some
//! fifty times larger.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::container::{ContainerFacts, ContainerState, WatchedContainer};
use super::guard::{lenient, watched_as};
use super::index::{Child, ChildMeta};
use super::program::{Programs, WatchedProgram};
use crate::names;
use crate::text::shorten;

/// Longest text that is kept of one field, in bytes: as long as a termination message.
const LONGEST_TEXT: usize = 4_096;

/// Most scheduling gates of which the names are kept.
const MOST_GATES: usize = 8;

/// What is kept of a pod of ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// Identity and owner.
    pub meta: ChildMeta,
    /// Label: attempt that it belongs to.
    pub attempt: u32,
    /// Label: rank within the job.
    pub rank: u32,
    /// Annotation: hash of what it was launched from.
    pub launch_hash: String,
    /// Annotation: [`names::ANNOTATION_LAUNCH_TOKEN`] of the pod of a step.
    pub launch_token: String,
    /// What its containers run.
    pub programs: Programs,
    /// Label: revision that it serves.
    pub revision: i64,
    /// Whether it is in the endpoints of its Services (condition Ready).
    pub ready: bool,
    /// When its deletion was asked for, by whomever.
    pub delete_asked_at: Option<Timestamp>,
    /// Node that it is bound to.
    pub node: Option<String>,
    /// Its addresses, at most one per family.
    pub addresses: Vec<String>,
    /// Kubernetes' own summary.
    pub phase: Phase,
    /// `status.reason`, for instance Evicted.
    pub reason: Option<String>,
    /// `status.message`.
    pub message: Option<String>,
    /// The scheduler's words if it finds no node.
    pub unschedulable: Option<String>,
    /// Names of the scheduling gates that hold it.
    pub gates: Vec<String>,
    /// When its own activeDeadlineSeconds are over, by its node's clock.
    pub own_deadline: Option<Timestamp>,
    /// Whether the kubelet evicts it when it uses too much local storage: a limit of the pod's own, not of the node.
    pub has_storage_limit: bool,
    /// How long its processes are given to end.
    pub grace: SignedDuration,
    /// Whether claims were made for its generic ephemeral volumes, which stay as long as the pod does.
    pub has_claims: bool,
    /// When and why Kubernetes said that it would end the pod (condition DisruptionTarget).
    pub disrupted: Option<(Timestamp, String)>,
    /// Init containers, then containers, as far as the kubelet has reported them.
    pub containers: Vec<ContainerFacts>,
    /// Number of its containers by its spec, init and ephemeral ones included.
    pub container_count: usize,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// At least one container runs.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// All containers ended, one of them badly; or the pod was given up.
    Failed,
    /// The node does not answer; or a phase of which we know nothing.
    #[serde(other)]
    Unknown,
}

impl PodFacts {
    /// Whether no process of the pod can run any more, as the kubelet says. A deletionTimestamp alone says nothing.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Whether its containers have all ended, and its phase does not say so yet.
    ///
    /// A kubelet reports ended containers at once, and the phase only when it has stopped the rest of the pod: a second or
    /// two later, and up to the pod's grace period where sidecars (restartable init containers) have to be stopped.
    pub fn is_ending(&self) -> bool {
        let mut containers = self.containers.iter().filter(|container| !container.init).peekable();
        let any = containers.peek().is_some();
        any && !self.is_terminal() && containers.all(|container| matches!(container.state, ContainerState::Ended(_)))
    }

    /// The container of that name, if the kubelet has reported it; init containers do not count.
    pub fn container(&self, name: &str) -> Option<&ContainerFacts> {
        self.containers.iter().find(|container| !container.init && container.name == name)
    }
}

impl Child for PodFacts {
    fn meta(&self) -> &ChildMeta {
        &self.meta
    }
}

/// A pod as it comes from a watch, already without everything that [`PodFacts`] does not keep.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WatchedPod {
    metadata: ObjectMeta,
    spec: WatchedSpec,
    status: WatchedStatus,
}

/// What Kubernetes gives a pod that does not say (core/v1 defaults).
const DEFAULT_GRACE: i64 = 30;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedSpec {
    node_name: Option<String>,
    active_deadline_seconds: Option<i64>,
    termination_grace_period_seconds: Option<i64>,
    scheduling_gates: Vec<WatchedGate>,
    volumes: Vec<WatchedVolume>,
    init_containers: Option<Vec<WatchedProgram>>,
    containers: Option<Vec<WatchedProgram>>,
    ephemeral_containers: Vec<IgnoredAny>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WatchedGate {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedVolume {
    ephemeral: Option<IgnoredAny>,
    empty_dir: Option<WatchedEmptyDir>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedEmptyDir {
    medium: String,
    size_limit: Option<IgnoredAny>,
}

impl WatchedSpec {
    /// Whether something limits the local storage of the pod. In memory a volume cannot grow beyond its limit.
    fn has_storage_limit(&self) -> bool {
        let mut containers = [&self.init_containers, &self.containers].into_iter().flatten().flatten();
        let mut folders = self.volumes.iter().filter_map(|volume| volume.empty_dir.as_ref());
        containers.any(WatchedProgram::limits_storage)
            || folders.any(|folder| folder.medium != "Memory" && folder.size_limit.is_some())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedStatus {
    phase: Phase,
    reason: Option<String>,
    message: Option<String>,
    #[serde(deserialize_with = "lenient::time_or_none")]
    start_time: Option<Time>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<WatchedAddress>,
    conditions: Vec<WatchedCondition>,
    init_container_statuses: Vec<WatchedContainer>,
    container_statuses: Vec<WatchedContainer>,
}

#[derive(Clone, Debug, Deserialize)]
struct WatchedAddress {
    ip: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default, deserialize_with = "lenient::time_or_none")]
    last_transition_time: Option<Time>,
}

impl From<WatchedPod> for PodFacts {
    fn from(pod: WatchedPod) -> Self {
        let WatchedPod { metadata, spec, status } = pod;
        let condition = |type_: &str, status_: &str| {
            status.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status_)
        };
        let unschedulable = condition("PodScheduled", "False")
            .filter(|condition| condition.reason == "Unschedulable")
            .map(|condition| condition.message.clone());
        let disrupted = condition("DisruptionTarget", "True").map(|condition| {
            let since = condition.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
            (since, condition.reason.clone())
        });
        let none = BTreeMap::new();
        let labels = metadata.labels.as_ref().unwrap_or(&none);
        let number = |label: &str| labels.get(label).and_then(|value| value.parse().ok()).unwrap_or_default();
        let ready = condition("Ready", "True").is_some();
        let annotations = metadata.annotations.as_ref().unwrap_or(&none);
        let own_deadline = (status.start_time.as_ref())
            .zip(spec.active_deadline_seconds)
            .and_then(|(start, seconds)| start.0.checked_add(SignedDuration::from_secs(seconds)).ok());
        let has_storage_limit = spec.has_storage_limit();
        let containers: Vec<WatchedProgram> =
            [spec.init_containers, spec.containers].into_iter().flatten().flatten().collect();
        let container_count = containers.len() + spec.ephemeral_containers.len();
        PodFacts {
            meta: ChildMeta::new(&metadata),
            attempt: number(names::LABEL_ATTEMPT),
            rank: number(names::LABEL_RANK),
            revision: labels.get(names::LABEL_REVISION).and_then(|value| value.parse().ok()).unwrap_or_default(),
            ready,
            launch_hash: kept(annotations.get(names::ANNOTATION_LAUNCH_HASH).cloned()).unwrap_or_default(),
            launch_token: kept(annotations.get(names::ANNOTATION_LAUNCH_TOKEN).cloned()).unwrap_or_default(),
            programs: Programs::new(containers),
            delete_asked_at: delete_asked_at(&metadata),
            node: spec.node_name,
            addresses: status.pod_ips.into_iter().map(|address| address.ip).collect(),
            phase: status.phase,
            reason: kept(status.reason),
            message: kept(status.message),
            unschedulable: kept(unschedulable),
            own_deadline,
            has_storage_limit,
            grace: SignedDuration::from_secs(spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE)),
            has_claims: spec.volumes.iter().any(|volume| volume.ephemeral.is_some()),
            container_count,
            gates: spec
                .scheduling_gates
                .into_iter()
                .take(MOST_GATES)
                .filter_map(|gate| kept(Some(gate.name)))
                .collect(),
            disrupted,
            containers: (status.init_container_statuses.into_iter().map(|container| container.facts(true)))
                .chain(status.container_statuses.into_iter().map(|container| container.facts(false)))
                .collect(),
        }
    }
}

/// A text as far as it is kept: others decide how long it is, and tens of thousands of pods are kept.
pub(super) fn kept(text: Option<String>) -> Option<String> {
    text.map(|text| if text.len() > LONGEST_TEXT { shorten(&text, LONGEST_TEXT).to_owned() } else { text })
}

/// `deletionTimestamp` is when the grace period *ends*; what decides is when it began.
fn delete_asked_at(meta: &ObjectMeta) -> Option<Timestamp> {
    let ends = meta.deletion_timestamp.as_ref()?.0;
    if ends == Timestamp::MAX {
        // A moment that no clock knows. Long ago is the safe side: nothing that ended since has ended of its own.
        return Some(Timestamp::UNIX_EPOCH);
    }
    let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or_default());
    Some(ends.saturating_sub(grace).unwrap_or(ends))
}

watched_as!(WatchedPod, k8s_openapi::api::core::v1::Pod);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::guard::Guarded;
    use serde_json::json;

    #[test]
    fn keeps_what_decisions_need() {
        let pod: WatchedPod = serde_json::from_value(json!({
            "metadata": {
                "name": "a-worker-1-2", "namespace": "ns", "uid": "u", "resourceVersion": "7",
                "labels": {"trainyard.dev/attempt": "2", "trainyard.dev/rank": "1"},
                "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30,
                "ownerReferences": [{"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "name": "a", "uid": "o", "controller": true}],
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "aFieldOfTomorrow": true}]},
            "status": {
                "phase": "Failed", "podIPs": [{"ip": "10.0.0.7"}],
                "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 143, "finishedAt": "2026-01-01T00:00:02Z"}}}],
            },
        }))
        .unwrap();
        let facts = PodFacts::from(pod);
        assert_eq!((facts.attempt, facts.rank), (2, 1));
        assert_eq!(facts.delete_asked_at, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(facts.disrupted.as_ref().unwrap().1, "EvictionByEvictionAPI");
        assert_eq!(facts.meta.owner.as_ref().unwrap().uid, "o");
        assert!(facts.is_terminal());
        assert!(matches!(&facts.container("c").unwrap().state, ContainerState::Ended(ended) if ended.exit_code == 143));
    }

    #[test]
    fn long_texts_and_moments_that_no_clock_knows_are_bounded() {
        let pod: Guarded<WatchedPod> = serde_json::from_value(json!({
            "metadata": {"name": "p", "deletionTimestamp": "11476-01-01T00:00:00Z", "deletionGracePeriodSeconds": 300_000_000_000_u64},
            "status": {"phase": "Failed", "message": "x".repeat(1_000_000), "reason": "y".repeat(1_000_000)},
        }))
        .unwrap();
        let facts = PodFacts::from(pod.or_bare());
        assert_eq!(facts.delete_asked_at, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(facts.message.map(|text| text.len()), Some(LONGEST_TEXT));
        assert_eq!(facts.reason.map(|text| text.len()), Some(LONGEST_TEXT));
    }

    #[test]
    fn keeps_what_a_pod_may_be_ended_for() {
        let facts = |spec: serde_json::Value| {
            let status = json!({"startTime": "2026-01-01T00:00:00Z"});
            let metadata = json!({"name": "a", "namespace": "ns", "uid": "u"});
            let pod = json!({"metadata": metadata, "spec": spec, "status": status});
            PodFacts::from(serde_json::from_value::<WatchedPod>(pod).unwrap())
        };
        let limits = |volume, resources| json!({"volumes": [{"name": "v", "emptyDir": volume}], "containers": [{"name": "c", "resources": resources}]});
        for (limited, volume, resources) in [
            (true, json!({"sizeLimit": "16Mi"}), json!({})),
            (true, json!({}), json!({"limits": {"ephemeral-storage": "1Gi"}})),
            (false, json!({"medium": "Memory", "sizeLimit": "2Gi"}), json!({"limits": {"memory": "4Gi"}})),
            (false, json!({}), json!({})),
        ] {
            assert_eq!(facts(limits(volume.clone(), resources)).has_storage_limit, limited, "{volume}");
        }
        let pod = facts(json!({
            "activeDeadlineSeconds": 8, "terminationGracePeriodSeconds": 120, "schedulingGates": [{"name": "example.com/queue"}],
            "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}],
            "initContainers": [{"name": "i"}], "containers": [{"name": "c"}, {"name": "d"}], "ephemeralContainers": [{"name": "e"}],
        }));
        assert_eq!(pod.own_deadline, Some("2026-01-01T00:00:08Z".parse().unwrap()));
        assert_eq!((pod.grace, pod.container_count), (SignedDuration::from_secs(120), 4));
        assert_eq!((pod.gates, pod.has_claims), (vec!["example.com/queue".to_owned()], true));
        assert_eq!(facts(json!({})).grace, SignedDuration::from_secs(30));
    }
}
