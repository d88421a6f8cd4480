//! A run under test, taken from step to step, and plans in short.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::super::decide;
use crate::api::conditions::{READY, find};
use crate::api::pipeline_run::StepState;
use crate::api::{PipelineRun, PipelineRunStatus};
use crate::cluster::container::{ContainerFacts, ContainerState, Ended};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::pod::{Phase, PodFacts};
use crate::cluster::workload::RevisionFacts;
use crate::names;
use crate::pipelines::runs::facts::{JobFacts, ServingFacts};
use crate::pipelines::runs::observe::{Memory, Observed};

const UID: &str = "0b7d";

pub(super) fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).unwrap()
}

/// A step that runs a pod, with further fields.
pub(super) fn step(name: &str, further: Value) -> Value {
    let mut step = json!({"name": name});
    if ["train", "deploy"].iter().all(|work| further.get(work).is_none()) {
        step["run"] = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    }
    json_patch::merge(&mut step, &further);
    step
}

/// A run with its children; each step of a test changes what is there and asks again.
pub(super) struct Case {
    pub(super) run: PipelineRun,
    pub(super) observed: Observed,
    pub(super) memory: Memory,
    pub(super) now: Timestamp,
}

impl Case {
    /// A run of this pipeline that has not been looked at.
    pub(super) fn new(pipeline: Value) -> Case {
        let run = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "PipelineRun",
            "metadata": {"name": "r", "namespace": "ns", "uid": UID, "resourceVersion": "1", "generation": 1},
            "spec": {"pipeline": pipeline},
            "status": {"observedGeneration": -1},
        }));
        Case { run: run.unwrap(), observed: Observed::default(), memory: Memory::default(), now: seconds(0) }
    }

    /// A run of the Pipeline of that name that has not been looked at.
    pub(super) fn of_pipeline(name: &str) -> Case {
        let mut case = Case::new(json!({"steps": []}));
        case.run.spec.pipeline = None;
        case.run.spec.pipeline_ref = serde_json::from_value(json!({"name": name})).unwrap();
        case
    }

    /// A run of this pipeline that has started.
    pub(super) fn started(pipeline: Value) -> Case {
        Case::new(pipeline).start()
    }

    /// The same run once it has started.
    pub(super) fn start(self) -> Case {
        let mut case = self;
        let plan = case.decide();
        let Some(Action::Create { object, id, .. }) = plan.actions.first() else { panic!("no record: {plan:?}") };
        case.observed.record = Some(Arc::new(RevisionFacts {
            meta: ChildMeta { name: id.name.clone(), uid: "record".into(), ..ChildMeta::default() },
            data: object.object()["data"].to_string().into(),
            ..RevisionFacts::default()
        }));
        let plan = case.decide();
        case.publish(&plan);
        case
    }

    /// A run of this pipeline that an earlier release has begun: its first step runs, and its record is as that release wrote
    /// it. Parameter x is "v".
    pub(super) fn begun(pipeline: Value) -> Case {
        let mut case = Case::new(json!({"steps": []}));
        let first = pipeline["steps"][0]["name"].as_str().unwrap_or_default();
        let step = json!({
            "state": "Running", "attempts": 1, "startTime": Time(case.now),
            "child": names::step_child("r", UID, first, 1), "launch": case.memory.secret.on_record(&names::step_child("r", UID, first, 1)),
        });
        let status = json!({
            "observedGeneration": 1, "startTime": Time(case.now), "parameters": {"x": "v"}, "steps": {first: step},
        });
        case.run.status = Some(serde_json::from_value(status).unwrap());
        let data = json!({"pipeline": {"hash": "abcdefghij"}, "parameters": {"x": "v"}, "spec": pipeline});
        case.observed.record = Some(Arc::new(RevisionFacts {
            meta: ChildMeta { name: names::family("r", UID), uid: "record".into(), ..ChildMeta::default() },
            data: data.to_string().into(),
            ..RevisionFacts::default()
        }));
        case
    }

    pub(super) fn decide(&mut self) -> Plan<PipelineRunStatus> {
        self.memory.catch_up(self.run.status.as_ref(), &self.observed, self.now);
        decide(&self.run, &self.observed, &self.memory, self.now)
    }

    pub(super) fn publish(&mut self, plan: &Plan<PipelineRunStatus>) {
        self.run.status = Some(plan.status.clone());
    }

    /// Decides, carries out and publishes; answers the actions in short.
    pub(super) fn go(&mut self) -> String {
        let plan = self.decide();
        self.publish(&plan);
        short(&plan)
    }

    /// The pod of a step's attempt in this phase; with an exit code its container has ended.
    pub(super) fn pod(&mut self, step: &str, attempt: u32, phase: Phase, exit: Option<(i32, &str)>) {
        let name = names::step_child("r", UID, step, attempt);
        let state = match exit {
            Some((exit_code, message)) => ContainerState::Ended(Ended {
                exit_code,
                message: Some(message.to_owned()),
                finished_at: Some(Time(self.now)),
                ..Ended::default()
            }),
            None => ContainerState::Running,
        };
        let pod = PodFacts {
            meta: ChildMeta {
                namespace: "ns".into(),
                uid: format!("uid-{name}"),
                name: name.clone(),
                ..ChildMeta::default()
            },
            launch_token: self.memory.secret.token(&name),
            phase,
            grace: SignedDuration::from_secs(30),
            containers: vec![ContainerFacts { name: "c".into(), state, ..ContainerFacts::default() }],
            ..PodFacts::default()
        };
        self.observed.pods.retain(|pod| pod.meta.name != name);
        self.observed.pods.push(Arc::new(pod));
        self.observed.pods.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    }

    pub(super) fn succeeds(&mut self, step: &str, message: &str) {
        self.pod(step, 1, Phase::Succeeded, Some((0, message)));
    }

    pub(super) fn fails(&mut self, step: &str, attempt: u32) {
        self.pod(step, attempt, Phase::Failed, Some((3, "boom")));
    }

    pub(super) fn job(&mut self, step: &str, facts: JobFacts) {
        let name = names::step_child("r", UID, step, 1);
        let launch_token = self.memory.secret.token(&name);
        let meta = ChildMeta { namespace: "ns".into(), uid: format!("uid-{name}"), name, ..ChildMeta::default() };
        self.observed.jobs = vec![Arc::new(JobFacts { meta, launch_token, ..facts })];
    }

    pub(super) fn deployment(&mut self, name: &str, facts: ServingFacts) {
        let meta = ChildMeta { namespace: "ns".into(), name: name.into(), ..ChildMeta::default() };
        let step = if facts.step.is_empty() { "d".to_owned() } else { facts.step };
        self.observed.deployments = vec![Arc::new(ServingFacts { meta, step, ..facts })];
    }

    /// The states of all steps that do not wait, and attempts after the first: `a Succeeded, b Running 2`.
    pub(super) fn steps(&self) -> String {
        let steps = self.run.status.iter().flat_map(|status| &status.steps);
        let told = steps.map(|(name, step)| match step.attempts {
            Some(attempts) if attempts > 1 => format!("{name} {} {attempts}", step.state.as_str()),
            _ => format!("{name} {}", step.state.as_str()),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn state(&self) -> &str {
        let conditions = self.run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        find(conditions, READY).map(|ready| ready.reason.as_str()).unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        self.run.status.as_ref().and_then(|status| status.message.as_deref()).unwrap_or_default()
    }

    pub(super) fn step_message(&self, name: &str) -> &str {
        self.run.status.as_ref().and_then(|status| status.steps[name].message.as_deref()).unwrap_or_default()
    }

    pub(super) fn is_in(&self, name: &str, state: StepState) -> bool {
        self.run.status.as_ref().is_some_and(|status| status.steps.get(name).is_some_and(|step| step.state == state))
    }
}

/// A plan's actions in short: `+Pod a-1` creates, `-Pod a-1` deletes, `~TrainingJob a-1` changes, `!ModelDeployment m` puts.
pub(super) fn short(plan: &Plan<PipelineRunStatus>) -> String {
    let family = format!("{}-", names::family("r", UID));
    let told = plan.actions.iter().map(|action| {
        let sign = match action {
            Action::Create { .. } => '+',
            Action::Apply { .. } | Action::Scale { .. } => '~',
            Action::Put { .. } => '!',
            Action::Delete { .. } => '-',
        };
        let id = action.id();
        format!("{sign}{} {}", id.resource.kind(), id.name.strip_prefix(&family).unwrap_or(&id.name))
    });
    told.collect::<Vec<_>>().join(", ")
}
