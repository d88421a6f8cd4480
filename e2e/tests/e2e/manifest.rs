//! TrainingJobs as a user would write them, for fake nodes and for real ones.

use serde_json::{Value, json};

/// A manifest, built up field by field.
#[derive(Clone)]
pub(crate) struct Job(Value);

impl Job {
    /// One pod, no framework; it runs for half a second and succeeds.
    pub(crate) fn new(name: &str) -> Self {
        Job(json!({
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

    /// How long its pods run on fake nodes; `never` for pods that do not end.
    pub(crate) fn runs_for(self, time: &str) -> Self {
        self.fake("run-for", time)
    }

    /// Restarts come after a moment instead of a second.
    pub(crate) fn restarting_soon(self) -> Self {
        self.set("spec.failurePolicy.backoff.initial", "100ms")
    }

    pub(crate) fn value(&self) -> &Value {
        &self.0
    }

    pub(crate) fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }
}

impl From<Value> for Job {
    fn from(manifest: Value) -> Self {
        Job(manifest)
    }
}

/// The whole annotation by which fake nodes are told something.
pub(crate) fn fake_annotation(key: &str) -> String {
    format!("fake.trainyard.dev/{key}")
}
