//! The pod of one attempt of a step.

use serde_json::{Value, json};

use super::Attempt;
use crate::api::FailureLogs;
use crate::cluster::build::merged;
use crate::cluster::template_edit::{containers_named, explain_failures, prepend_env, set};

/// Builds the pod, as the user's template edited in place: fields that we do not know travel untouched. `template` has its
/// values already; `container` is the one whose end is the step's, and `logs` says whether its log may be quoted.
pub fn build_pod(attempt: Attempt, template: &Value, container: &str, logs: FailureLogs) -> Value {
    let mut metadata = attempt.metadata();
    let labels = merged(&template["metadata"]["labels"], &metadata["labels"]);
    set(&mut metadata, "labels", labels);
    let annotations = merged(&template["metadata"]["annotations"], &metadata["annotations"]);
    set(&mut metadata, "annotations", annotations);
    let mut spec = template["spec"].clone();
    set(&mut spec, "restartPolicy", "Never");
    for container in containers_named(&mut spec, container) {
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        let variables = vec![
            variable("TRAINYARD_RUN", attempt.run.name),
            variable("TRAINYARD_STEP", attempt.step),
            variable("TRAINYARD_ATTEMPT", &attempt.number.to_string()),
        ];
        prepend_env(container, variables);
    }
    if logs == FailureLogs::Tail {
        explain_failures(&mut spec, container);
    }
    attempt.mount_files(&mut spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}
