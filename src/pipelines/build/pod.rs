//! The pod of one attempt of a step.

use serde_json::{Value, json};

use super::Attempt;
use crate::cluster::build::merged;

/// Builds the pod, as the user's template edited in place: fields that we do not know travel untouched. `template` has its
/// values already; `container` is the one whose end is the step's.
pub fn build_pod(attempt: Attempt, template: &Value, container: &str) -> Value {
    let mut metadata = attempt.metadata();
    metadata["labels"] = merged(&template["metadata"]["labels"], &metadata["labels"]);
    if template["metadata"]["annotations"].is_object() {
        metadata["annotations"] = template["metadata"]["annotations"].clone();
    }
    let mut spec = template["spec"].clone();
    spec["restartPolicy"] = "Never".into();
    let containers = spec["containers"].as_array_mut().into_iter().flatten();
    for container in containers.filter(|candidate| candidate["name"].as_str() == Some(container)) {
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        let mut variables = vec![
            variable("TRAINYARD_RUN", attempt.run.name),
            variable("TRAINYARD_STEP", attempt.step),
            variable("TRAINYARD_ATTEMPT", &attempt.number.to_string()),
        ];
        variables.extend(container["env"].as_array().into_iter().flatten().cloned());
        container["env"] = variables.into();
        // With the log's end as termination message a failure explains itself even if the program wrote none.
        if container.get("terminationMessagePolicy").is_none() {
            container["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
        }
    }
    attempt.mount_files(&mut spec);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}
