//! A deployment under test, built up step by step, and plans in short.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::conditions::{READY, find};
use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::container::{ContainerFacts, ContainerState, Ended};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::pod::PodFacts;
use crate::cluster::port::Resource;
use crate::cluster::workload::{BudgetFacts, DeploymentFacts, RevisionFacts, RouteFacts};
use crate::names;
use crate::serving::build::service;
use crate::serving::caches::ServingPod;
use crate::serving::content::Content;
use crate::serving::decide::decide;
use crate::serving::observe::{Memory, Observed};
use crate::serving::validate::validate;

pub(super) const UID: &str = "0b7d";

pub(super) fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).unwrap()
}

/// A deployment with its children; each step of a test changes what is there and asks again.
pub(super) struct Case {
    pub(super) deployment: ModelDeployment,
    pub(super) observed: Observed,
    pub(super) memory: Memory,
    pub(super) now: Timestamp,
}

fn spec(image: &str, further: Value) -> Value {
    let container = json!({"name": "c", "image": image, "ports": [{"containerPort": 8080}]});
    let mut spec = json!({"replicas": 2, "template": {"spec": {"containers": [container]}}});
    json_patch::merge(&mut spec, &further);
    spec
}

fn meta(name: &str) -> ChildMeta {
    let (uid, resource_version) = (format!("uid-{name}"), "5".to_owned());
    ChildMeta { namespace: "ns".into(), name: name.into(), uid, resource_version, owner: None }
}

impl Case {
    /// A deployment whose template has this image.
    pub(super) fn new(image: &str, further: Value) -> Case {
        let deployment = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "d", "namespace": "ns", "uid": UID, "resourceVersion": "1", "generation": 1},
            "spec": spec(image, further),
            "status": {"observedGeneration": 1},
        }))
        .unwrap();
        Case { deployment, observed: Observed::default(), memory: Memory::default(), now: seconds(0) }
    }

    /// A revision with this image, and its Deployment with these numbers of pods wanted and serving.
    pub(super) fn revision(self, number: i64, image: &str, wanted: i32, available: i32) -> Case {
        let mut case = self.record(number, image);
        let revision = case.observed.revisions.last().unwrap();
        let (meta, hash) = (revision.meta.clone(), revision.hash.clone());
        let facts = DeploymentFacts {
            meta,
            revision: number,
            hash,
            wanted,
            ready: available,
            available,
            min_ready: 10,
            replicas: wanted,
            settled: true,
            ..DeploymentFacts::default()
        };
        case.observed.deployments.push(Arc::new(facts));
        case
    }

    /// The Deployment of a revision, otherwise.
    pub(super) fn facts(mut self, number: i64, change: impl FnOnce(&mut DeploymentFacts)) -> Case {
        let child = self.observed.deployments.iter_mut().find(|child| child.revision == number);
        change(Arc::make_mut(child.expect("it is there")));
        self
    }

    /// A revision's record alone.
    pub(super) fn record(mut self, number: i64, image: &str) -> Case {
        let content = Content::of_spec(&serde_json::from_value(spec(image, json!({}))).unwrap()).unwrap();
        self.observed.revisions.push(Arc::new(RevisionFacts {
            meta: meta(&names::revision("d", UID, number)),
            number,
            hash: content.hash().to_owned(),
            data: content.data().to_string().into(),
            ..RevisionFacts::default()
        }));
        self
    }

    /// The Service and the budget as they should be.
    pub(super) fn with_route(mut self) -> Case {
        let content = validate(&self.deployment).unwrap().content;
        let ports = service::ports(&content, &service::target([&content]).unwrap());
        let selector = json!(service_selector()).as_object().cloned().unwrap();
        let selector = selector.into_iter().map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect();
        let route = RouteFacts { meta: meta("d"), selector, ports };
        let family = names::family("d", UID);
        self.observed.route = Some(Arc::new(route));
        self.observed.budget = Some(Arc::new(BudgetFacts { meta: meta(&family), max_unavailable: "1".into() }));
        self
    }

    /// A pod of a revision, in this state, with this last end.
    pub(super) fn pod(mut self, revision: i64, state: ContainerState, last_end: Option<Ended>) -> Case {
        let last_end = last_end.map(Box::new);
        let container = ContainerFacts { name: "c".into(), state, last_end, ..ContainerFacts::default() };
        let (node, containers) = (Some("n".to_owned()), vec![container]);
        let pod = PodFacts { meta: meta("p"), revision, node, containers, ..PodFacts::default() };
        self.observed.pods.push(Arc::new(ServingPod(pod)));
        self
    }

    pub(super) fn status(mut self, change: impl FnOnce(&mut ModelDeploymentStatus)) -> Case {
        change(self.deployment.status.get_or_insert_default());
        self
    }

    /// The status with this stable revision.
    pub(super) fn stable(self, number: i64) -> Case {
        self.status(|status| {
            status.stable_revision = Some(number);
            status.revision = Some(number);
        })
    }

    pub(super) fn at(mut self, now: Timestamp) -> Case {
        self.now = now;
        self
    }

    pub(super) fn decide(&self) -> Plan<ModelDeploymentStatus> {
        decide(&self.deployment, &self.observed, &self.memory, self.now)
    }
}

fn service_selector() -> Value {
    crate::serving::build::selector("d", UID)
}

/// A plan's actions in short: `+` creates, `-` deletes, `=` changes; a Deployment with its number of pods.
pub(super) fn short(plan: &Plan<ModelDeploymentStatus>) -> String {
    let word = |resource| match resource {
        Resource::ControllerRevision => "record",
        Resource::Deployment => "pods",
        Resource::Service => "route",
        Resource::PodDisruptionBudget => "budget",
        _ => "?",
    };
    let name = |action: &Action| {
        let number = action.id().name.rsplit('-').next().unwrap_or_default().to_owned();
        let number = if number.parse::<i64>().is_ok() { number } else { String::new() };
        format!("{}{number}", word(action.id().resource))
    };
    let replicas = |object: &Value| match object["spec"]["replicas"].as_i64() {
        Some(replicas) => format!(":{replicas}"),
        None => String::new(),
    };
    let told = plan.actions.iter().map(|action| match action {
        Action::Create { object, .. } => format!("+{}{}", name(action), replicas(&object.object())),
        Action::Apply { object, .. } => format!("={}{}", name(action), replicas(object)),
        Action::Scale { replicas, .. } => format!("={}:{replicas}", name(action)),
        Action::Put { .. } => format!("!{}", name(action)),
        Action::Delete { .. } => format!("-{}", name(action)),
    });
    told.collect::<Vec<_>>().join(" ")
}

/// The state that a plan's status tells.
pub(super) fn state(plan: &Plan<ModelDeploymentStatus>) -> &str {
    find(&plan.status.conditions, READY).map(|ready| ready.reason.as_str()).unwrap_or_default()
}
