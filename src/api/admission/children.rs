//! The policies that leave to the operator what it alone writes: children of our objects, and the status of our kinds.
//!
//! The operator tells its children by their controller reference. Whoever could make a pod with such a reference could
//! end a job, or have results of their own taken for a step's, with no other right than `create pods`.

use serde_json::{Value, json};

use super::subjects::{controllers, is_controlled, is_garbage_collector, is_operator, may_bypass};
use super::{policy, rules_for};
use crate::names::RESERVED_PREFIX;

/// What the operator makes, by group and resource. It reads no child of another kind.
pub(super) const CHILDREN: [(&str, &[&str]); 5] = [
    ("", &["pods", "services", "persistentvolumeclaims"]),
    ("apps", &["deployments", "controllerrevisions"]),
    ("policy", &["poddisruptionbudgets"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("trainyard.dev", &["trainingjobs", "modeldeployments", "pipelines", "pipelineruns"]),
];

const CHILDREN_POLICY: &str = "trainyard-children";
const STATUS_POLICY: &str = "trainyard-status";

/// Children of our objects are made by the operator, and stay children.
pub(super) fn children_policy() -> Value {
    let condition = |name: &str, expression: String| json!({"name": name, "expression": expression});
    let labels =
        |object: &str| format!("{object} != null && has({object}.metadata.labels) ? {object}.metadata.labels : {{}}");
    let bypass = may_bypass(CHILDREN_POLICY);
    let same_labels = format!(
        "variables.oldLabels.all(k, !k.startsWith('{RESERVED_PREFIX}') || (k in variables.labels && variables.labels[k] == variables.oldLabels[k])) \
         && variables.labels.all(k, !k.startsWith('{RESERVED_PREFIX}') || k in variables.oldLabels)"
    );
    policy(
        CHILDREN_POLICY,
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules_for(&CHILDREN, &["CREATE", "UPDATE"])},
            // Nearly every request of a cluster ends here.
            "matchConditions": [
                condition("is-a-child", format!("({}) || (oldObject != null && {})", is_controlled("object", None), is_controlled("oldObject", None))),
                condition("is-not-the-operator", format!("!({})", is_operator())),
                condition("is-not-the-garbage-collector", format!("!({})", is_garbage_collector())),
            ],
            "variables": [
                {"name": "controllers", "expression": controllers("object")},
                {"name": "oldControllers", "expression": format!("oldObject == null ? [] : ({})", controllers("oldObject"))},
                {"name": "labels", "expression": labels("object")},
                {"name": "oldLabels", "expression": labels("oldObject")},
            ],
            "validations": [
                {
                    "expression": format!("variables.controllers == variables.oldControllers || {bypass}"),
                    "message": "metadata.ownerReferences: only the operator adds or removes a controller that is an object of \
                        trainyard.dev: leave out controller: true. Where an operator is refused, name its ServiceAccount in the \
                        chart's admissionPolicies.furtherServiceAccounts",
                },
                {
                    "expression": format!("oldObject == null || ({same_labels}) || {bypass}"),
                    "message": format!(
                        "metadata.labels: labels of {RESERVED_PREFIX} on what the operator has made are set by the operator alone: leave them as they are"
                    ),
                },
            ],
        }),
    )
}

/// The status of our kinds is written by the operator.
pub(super) fn status_policy() -> Value {
    let resources = ["trainingjobs/status", "modeldeployments/status", "pipelines/status", "pipelineruns/status"];
    policy(
        STATUS_POLICY,
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules_for(&[("trainyard.dev", &resources)], &["CREATE", "UPDATE"])},
            "matchConditions": [{"name": "is-not-the-operator", "expression": format!("!({})", is_operator())}],
            "validations": [{
                "expression": may_bypass(STATUS_POLICY),
                "message": "status: only the operator writes it. Where an operator is refused, name its ServiceAccount in the chart's \
                    admissionPolicies.furtherServiceAccounts",
            }],
        }),
    )
}
