//! The policy that refuses our kinds where no operator serves them.
//!
//! Whoever may create a TrainingJob in a namespace can run pods there under any ServiceAccount of it. In `kube-system` and
//! in the operator's own namespace that would be more than any right on our kinds is meant to give.

use serde_json::{Value, json};

use super::subjects::is_unserved_namespace;
use super::{policy, rules_for};

/// The policy, without its binding.
pub(super) fn unserved_policy() -> Value {
    let kinds = ["trainingjobs", "modeldeployments", "pipelines", "pipelineruns"];
    policy(
        "trainyard-namespaces",
        json!({
            "failurePolicy": "Fail",
            // What is there already can be edited and deleted.
            "matchConstraints": {"resourceRules": rules_for(&[("trainyard.dev", &kinds)], &["CREATE"])},
            "validations": [{
                "expression": format!("!({})", is_unserved_namespace()),
                "messageExpression": "'metadata.namespace: no operator serves namespace ' + request.namespace + ', which belongs to the system: use another namespace'",
                "message": "metadata.namespace: no operator serves this namespace, which belongs to the system: use another namespace",
            }],
        }),
    )
}
