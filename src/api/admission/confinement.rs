//! The policy that confines the operator to what its code does: RBAC knows neither owners nor labels.
//!
//! Whoever got hold of the operator's token could otherwise change every Service and Deployment of the namespaces that it
//! serves. EndpointSlices have a policy of their own besides, see [`super::endpoint_slices`].

use serde_json::{Value, json};

use super::children::CHILDREN;
use super::subjects::{is_controlled, is_operator, is_unserved_namespace};
use super::{policy, rules_for};
use crate::names;

/// The policy, without its binding.
pub(super) fn confinement_policy() -> Value {
    let mut resources = CHILDREN.to_vec();
    resources.extend([("apps", &["deployments/scale"][..]), ("coordination.k8s.io", &["leases"])]);
    let is = |resources: &str| format!("request.resource.resource in [{resources}]");
    let controlled = format!("variables.states.all(s, {})", is_controlled("s", None));
    // What the subresource shows has no owner, but it has the Deployment's selector, which never changes.
    let scales_a_revision = format!("dyn(oldObject).status.selector.contains('{}=')", names::LABEL_REVISION);
    let finished = "request.operation == 'DELETE' && variables.isFinished";
    let marked = format!(
        "request.operation != 'DELETE' && has(object.metadata.annotations) && '{}' in object.metadata.annotations",
        names::ANNOTATION_PIPELINE_UID
    );
    let validation = |expression: String, message: &str| json!({"expression": expression, "message": message});
    policy(
        "trainyard-operator",
        json!({
            "failurePolicy": "Fail",
            "matchConditions": [{"name": "is-the-operator", "expression": is_operator()}],
            "matchConstraints": {"resourceRules": rules_for(&resources, &["CREATE", "UPDATE", "DELETE"])},
            "variables": [
                // Before and after: nothing of others is taken over, nothing of ours is made to look like theirs.
                {"name": "states", "expression": "[oldObject, object].filter(s, s != null)"},
                {
                    "name": "isFinished",
                    "expression": "has(dyn(oldObject).status) && has(dyn(oldObject).status.conditions) \
                        && dyn(oldObject).status.conditions.exists(c, c.type == 'Finished' && c.status == 'True')",
                },
            ],
            "validations": [
                validation(
                    format!(
                        "{} || (has(request.subResource) && request.subResource == 'scale' ? {scales_a_revision} : {controlled})",
                        is("'trainingjobs', 'modeldeployments', 'pipelineruns', 'leases'")
                    ),
                    "metadata.ownerReferences: the operator writes only what is controlled by an object of trainyard.dev",
                ),
                validation(
                    format!("!({}) || ({controlled}) || ({finished})", is("'trainingjobs'")),
                    "the operator writes only TrainingJobs of runs, and deletes only those and finished ones",
                ),
                validation(
                    format!("!({}) || ({finished})", is("'pipelineruns'")),
                    "the operator deletes only finished PipelineRuns, and writes none",
                ),
                validation(
                    format!("!({}) || ({marked})", is("'modeldeployments'")),
                    &format!("the operator writes only ModelDeployments with the annotation {}, and deletes none", names::ANNOTATION_PIPELINE_UID),
                ),
                validation(
                    format!("!({}) || variables.states.all(s, s.metadata.name == '{}')", is("'leases'"), names::LEASE),
                    &format!("metadata.name: the operator writes only Leases named {}", names::LEASE),
                ),
                validation(
                    format!("{} || !({})", is("'leases'"), is_unserved_namespace()),
                    "metadata.namespace: the operator writes nothing but its Lease in its own namespace and in those of the system",
                ),
            ],
        }),
    )
}
