//! The policy that keeps a revision as it was made: its ControllerRevision cannot change by the apiserver's own rules, the
//! template of its Deployment by this one.

use serde_json::{Value, json};

use super::subjects::{is_controlled, is_operator};
use super::{policy, rules_for};
use crate::cluster::port::Resource;
use crate::names;

/// The policy, without its binding.
///
/// A MutatingAdmissionPolicy of the cluster that edits templates does so in every request that updates a Deployment. So
/// the operator and Kubernetes' controllers pass, who change no template by themselves, else such a policy would stop
/// scaling. `kubectl scale` and autoscalers write the subresource `scale`, which has no template.
pub(super) fn revisions_policy() -> Value {
    let model = Resource::ModelDeployment.kind();
    policy(
        "trainyard-revisions",
        json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules_for(&[("apps", &["deployments"])], &["UPDATE"])},
            "matchConditions": [
                // By its owner: labels may be taken off. Other people's Deployments pass by here.
                {"name": "is-a-revision", "expression": is_controlled("oldObject", Some(model))},
                {"name": "is-not-the-operator", "expression": format!("!({})", is_operator())},
                {
                    "name": "is-no-controller",
                    "expression": "!request.userInfo.username.startsWith('system:serviceaccount:kube-system:') && request.userInfo.username != 'system:kube-controller-manager'",
                },
            ],
            "validations": [{
                "expression": "object.spec.template == oldObject.spec.template",
                "messageExpression": format!(
                    "'spec.template: a revision never changes: edit {model} ' + (has(oldObject.metadata.labels) && '{0}' in oldObject.metadata.labels ? oldObject.metadata.labels['{0}'] : '') + ', which makes a new one'",
                    names::LABEL_DEPLOYMENT
                ),
                "message": format!("spec.template: a revision never changes: edit its {model}, which makes a new one"),
            }],
        }),
    )
}
