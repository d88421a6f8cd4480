//! A job under test, built up step by step, and plans in short.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::api::conditions::{self, READY};
use crate::api::{TrainingJob, TrainingJobStatus};
use crate::cluster::container::{ContainerFacts, ContainerState, Ended};
use crate::cluster::endpoints::{EndpointFacts, ServiceFacts, SliceFacts};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::pod::{Phase, PodFacts};
use crate::names::{self, AddressFamily};
use crate::training::decide::decide;
use crate::training::observe::{Memory, Observed};
use crate::training::validate::validate;

pub(super) const UID: &str = "0b7d";

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000 + millis).unwrap()
}

pub(super) fn seconds(seconds: i64) -> Timestamp {
    at(seconds * 1_000)
}

/// A job under test with its children; each step of a test changes what is there and asks again.
pub(super) struct Case {
    pub(super) job: TrainingJob,
    pub(super) observed: Observed,
    pub(super) memory: Memory,
    pub(super) now: Timestamp,
}

impl Case {
    pub(super) fn new(spec: Value) -> Case {
        let mut job = json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": "j", "namespace": "ns", "uid": UID, "resourceVersion": "1", "generation": 1},
            "spec": {"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": {"observedGeneration": -1},
        });
        for (field, value) in spec.as_object().unwrap() {
            job["spec"][field] = value.clone();
        }
        let mut job: TrainingJob = serde_json::from_value(job).unwrap();
        job.metadata.creation_timestamp = Some(Time(seconds(0)));
        Case { job, observed: Observed::default(), memory: Memory::default(), now: seconds(0) }
    }

    pub(super) fn pod(mut self, rank: u32, attempt: u32, phase: Phase, state: Option<ContainerState>) -> Case {
        let hash = validate(&self.job).map(|valid| valid.launch_hash).unwrap_or_default();
        let name = names::pod("j", UID, names::ROLE_WORKER, rank, attempt);
        let containers = state.map(|state| ContainerFacts { name: "c".into(), state, ..ContainerFacts::default() });
        self.observed.pods.push(Arc::new(PodFacts {
            meta: ChildMeta { namespace: "ns".into(), uid: format!("uid-{name}"), name, ..ChildMeta::default() },
            rank,
            attempt,
            phase,
            launch_hash: hash,
            addresses: vec![format!("10.0.{attempt}.{rank}")],
            containers: containers.into_iter().collect(),
            ..PodFacts::default()
        }));
        self
    }

    pub(super) fn running(self, rank: u32, attempt: u32) -> Case {
        self.pod(rank, attempt, Phase::Running, Some(ContainerState::Running))
    }

    pub(super) fn ended(self, rank: u32, attempt: u32, exit_code: i32, second: i64) -> Case {
        let phase = if exit_code == 0 { Phase::Succeeded } else { Phase::Failed };
        let finished_at = Some(Time(seconds(second)));
        let ended = Ended { exit_code, finished_at, ..Ended::default() };
        self.pod(rank, attempt, phase, Some(ContainerState::Ended(ended)))
    }

    /// A pod that trains no more, but goes on: its other container runs.
    pub(super) fn sidecar_only(mut self, rank: u32, attempt: u32) -> Case {
        self = self.pod(rank, attempt, Phase::Running, Some(ContainerState::Ended(Ended::default())));
        if let Some(pod) = self.observed.pods.last_mut() {
            let sidecar =
                ContainerFacts { name: "sidecar".into(), state: ContainerState::Running, ..ContainerFacts::default() };
            Arc::make_mut(pod).containers.push(sidecar);
        }
        self
    }

    pub(super) fn slice(mut self, attempt: u32, ranks: std::ops::Range<u32>) -> Case {
        let endpoint = |rank| EndpointFacts {
            hostname: names::pod("j", UID, names::ROLE_WORKER, rank, attempt),
            addresses: vec![format!("10.0.{attempt}.{rank}")],
        };
        let name = names::endpoint_slice("j", UID, AddressFamily::V4);
        let meta = ChildMeta { namespace: "ns".into(), name, resource_version: "5".into(), ..ChildMeta::default() };
        let service = ChildMeta { namespace: "ns".into(), name: names::service("j", UID), ..ChildMeta::default() };
        self.observed.service = Some(Arc::new(ServiceFacts { meta: service }));
        self.observed.slices = vec![Arc::new(SliceFacts { meta, endpoints: ranks.map(endpoint).collect() })];
        self
    }

    pub(super) fn status(mut self, change: impl FnOnce(&mut TrainingJobStatus)) -> Case {
        change(self.job.status.get_or_insert_default());
        self
    }

    pub(super) fn at(mut self, now: Timestamp) -> Case {
        self.now = now;
        self
    }

    pub(super) fn plan(&self) -> Plan<TrainingJobStatus> {
        decide(&self.job, &self.observed, &self.memory, self.now)
    }

    /// Takes over what the plan says, as the cluster would, without any pod.
    pub(super) fn then(mut self) -> Case {
        self.job.status = Some(self.plan().status);
        self.observed.pods.clear();
        self
    }
}

/// Actions in short: `+Pod 0` creates, `-Pod 0-1` deletes, `~EndpointSlice 2` changes to two endpoints.
pub(super) fn short(plan: &Plan<TrainingJobStatus>) -> Vec<String> {
    let tail = |name: &str| name.rsplit("worker-").next().unwrap().to_owned();
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Create { id, .. } if id.resource == crate::cluster::port::Resource::Pod => {
                format!("+Pod {}", tail(&id.name))
            }
            Action::Create { id, .. } => format!("+{}", id.resource.kind()),
            Action::Apply { id, object } => {
                format!("~{} {}", id.resource.kind(), object["endpoints"].as_array().unwrap().len())
            }
            Action::Scale { id, .. } | Action::Put { id, .. } => format!("!{}", id.resource.kind()),
            Action::Delete { id, .. } => format!("-{} {}", id.resource.kind(), tail(&id.name)),
        })
        .collect()
}

pub(super) fn ready(plan: &Plan<TrainingJobStatus>) -> &str {
    &conditions::find(&plan.status.conditions, READY).unwrap().reason
}

pub(super) fn holds(plan: &Plan<TrainingJobStatus>, type_: &str) -> bool {
    conditions::holds(&plan.status.conditions, type_)
}
