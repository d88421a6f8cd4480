//! Objects of our kinds as a user would write them, for fake nodes and for real ones.

use std::marker::PhantomData;

use serde_json::{Value, json};

use crate::objects::{JOBS, Kind, MODEL_DEPLOYMENTS, PIPELINES, RUNS};

/// A manifest of one kind, built up field by field.
#[derive(Clone)]
pub(crate) struct Manifest<K>(Value, PhantomData<K>);

/// A TrainingJob.
pub(crate) type Job = Manifest<TrainingJob>;
/// A ModelDeployment.
pub(crate) type Serving = Manifest<ModelDeployment>;

/// A Pipeline.
pub(crate) type Steps = Manifest<Pipeline>;
/// A PipelineRun.
pub(crate) type Run = Manifest<PipelineRun>;

/// What a manifest is of.
pub(crate) trait OfKind {
    /// Where such objects are.
    const KIND: Kind;
}

#[derive(Clone)]
pub(crate) enum TrainingJob {}

#[derive(Clone)]
pub(crate) enum ModelDeployment {}

#[derive(Clone)]
pub(crate) enum Pipeline {}

#[derive(Clone)]
pub(crate) enum PipelineRun {}

impl OfKind for Pipeline {
    const KIND: Kind = PIPELINES;
}

impl OfKind for PipelineRun {
    const KIND: Kind = RUNS;
}

impl OfKind for TrainingJob {
    const KIND: Kind = JOBS;
}

impl OfKind for ModelDeployment {
    const KIND: Kind = MODEL_DEPLOYMENTS;
}

impl Manifest<TrainingJob> {
    /// One pod, no framework; it runs for half a second and succeeds.
    pub(crate) fn new(name: &str) -> Self {
        Self::from(json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": {
                "framework": "none",
                "template": {"spec": {"containers": [{"name": "trainer", "image": "example/digits:1"}]}},
            },
        }))
    }

    /// So many pods of PyTorch.
    pub(crate) fn torch(name: &str, nodes: u32) -> Self {
        Job::new(name).set("spec.framework", "torch").set("spec.nodes", nodes)
    }

    /// How long its pods run on fake nodes; `never` for pods that do not end.
    pub(crate) fn runs_for(self, time: &str) -> Self {
        self.fake("run-for", time)
    }

    /// Restarts come after a moment instead of a second.
    pub(crate) fn restarting_soon(self) -> Self {
        self.set("spec.failurePolicy.backoff.initial", "100ms")
    }
}

impl Manifest<ModelDeployment> {
    /// Pods that serve on port 8080, and count when they have been ready for a second.
    pub(crate) fn new(name: &str, replicas: u32) -> Self {
        let container = json!({"name": "server", "image": "example/server:1", "ports": [{"containerPort": 8080}]});
        Self::from(json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "rollout": {"minReadySeconds": 1},
                "template": {"spec": {"containers": [container]}},
            },
        }))
    }
}

impl Manifest<Pipeline> {
    /// A pipeline of these steps.
    pub(crate) fn new(name: &str, steps: &[Value]) -> Self {
        Self::from(json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "Pipeline",
            "metadata": {"name": name},
            "spec": {"steps": steps},
        }))
    }
}

impl Manifest<PipelineRun> {
    /// A run of the pipeline of that name.
    pub(crate) fn of(name: &str, pipeline: &str) -> Self {
        Self::from(json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "PipelineRun",
            "metadata": {"name": name},
            "spec": {"pipelineRef": {"name": pipeline}},
        }))
    }

    /// A run that brings these steps.
    pub(crate) fn new(name: &str, steps: &[Value]) -> Self {
        Self::from(json!({
            "apiVersion": "trainyard.dev/v1alpha1",
            "kind": "PipelineRun",
            "metadata": {"name": name},
            "spec": {"pipeline": {"steps": steps}},
        }))
    }

    /// With this argument.
    pub(crate) fn argument(mut self, name: &str, value: impl Into<Value>) -> Self {
        let argument = json!({"name": name, "value": value.into()});
        match &mut self.0["spec"]["arguments"] {
            Value::Array(arguments) => arguments.push(argument),
            absent => *absent = json!([argument]),
        }
        self
    }
}

/// A step that runs a pod, on fake nodes for half a second, with these annotations of e2e/kwok/pods.yaml.
pub(crate) fn run_step(name: &str, depends_on: &[&str], fake: &[(&str, &str)]) -> Value {
    let annotations: Value = fake.iter().map(|(key, value)| (fake_annotation(key), Value::from(*value))).collect();
    json!({
        "name": name,
        "dependsOn": depends_on,
        "run": {
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "example/step:1"}]},
        },
    })
}

/// The step with a further field.
pub(crate) fn with(mut step: Value, field: &str, value: Value) -> Value {
    step[field] = value;
    step
}

impl<K> Manifest<K> {
    /// Sets a field by its path, `spec.template.spec.containers.0.image`, and makes what is above it.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let place = path.split('.').fold(&mut self.0, |place, step| match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[step],
        });
        *place = value.into();
        self
    }

    /// Its pods run this instead of what the image says.
    pub(crate) fn command(self, words: &[&str]) -> Self {
        self.set("spec.template.spec.containers.0.command", words)
    }

    /// Its pods run a line of shell, and need not be asked twice to end.
    pub(crate) fn shell(self, line: &str) -> Self {
        self.command(&["sh", "-ec", line]).set("spec.template.spec.terminationGracePeriodSeconds", 1)
    }

    /// Its pods pass Pod Security `restricted`.
    pub(crate) fn restricted(self) -> Self {
        let container = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        let pod = json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
        self.set("spec.template.spec.securityContext", pod)
            .set("spec.template.spec.containers.0.securityContext", container)
    }

    /// Annotates its pods.
    pub(crate) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["template"]["metadata"]["annotations"][key] = value.into();
        self
    }

    /// Steers its pods on fake nodes: an annotation of e2e/kwok/pods.yaml.
    pub(crate) fn fake(self, key: &str, value: &str) -> Self {
        self.annotated(&fake_annotation(key), value)
    }

    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }
}

impl<K> From<Value> for Manifest<K> {
    fn from(manifest: Value) -> Self {
        Manifest(manifest, PhantomData)
    }
}

/// The whole annotation by which fake nodes are told something.
pub(crate) fn fake_annotation(key: &str) -> String {
    format!("fake.trainyard.dev/{key}")
}
