//! Admission policies for what a CRD's own rules cannot see: fields that the schema does not declare.
//!
//! CEL inside the API server, so no webhook is needed. Everything here is also checked by
//! [`crate::training::validate`] and [`crate::serving::validate`], since an apiserver may lack the policies.
//!
//! The others are about rights, which only the apiserver can decide upon:
//!
//! | module | what it decides |
//! | --- | --- |
//! | [`children`] | what the operator alone may write: children of our objects, and status |
//! | [`confinement`], [`endpoint_slices`] | what the operator may write |
//! | [`leases`] | who may pass for an operator of the whole cluster |
//! | [`revisions`] | that revisions of a ModelDeployment never change |
//! | [`starting`] | who may start what a pipeline starts |
//! | [`unserved`] | in which namespaces there is nothing of ours |

mod children;
mod confinement;
pub mod endpoint_slices;
#[cfg(test)]
mod evaluation;
pub mod leases;
mod revisions;
mod starting;
pub mod subjects;
#[cfg(test)]
mod tests;
mod unserved;

use serde_json::{Value, json};

use super::reserved;

/// The ValidatingAdmissionPolicies with their bindings.
pub fn policies() -> Vec<Value> {
    let jobs = spec_policy("trainyard-training-jobs", "trainingjobs", torch_variables(), training_job_rules());
    let deployments = spec_policy("trainyard-model-deployments", "modeldeployments", json!("[]"), json!([]));
    [
        jobs,
        deployments,
        revisions::revisions_policy(),
        run_policy(),
        starting::pipelines_policy(),
        starting::inline_runs_policy(),
        unserved::unserved_policy(),
        children::children_policy(),
        children::status_policy(),
        confinement::confinement_policy(),
        endpoint_slices::policy(),
        leases::policy(),
    ]
    .into_iter()
    .flat_map(|policy| [policy.clone(), binding(&policy)])
    .collect()
}

/// A ValidatingAdmissionPolicy.
fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// `resourceRules` for these resources of each group.
fn rules_for(resources: &[(&str, &[&str])], operations: &[&str]) -> Value {
    let rule = |(group, resources): &(&str, &[&str])| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources});
    resources.iter().map(rule).collect()
}

/// A policy for the specs of one of our kinds: what is common to all pod templates, and rules of its own. `reserved` is a
/// CEL expression for the variables that the operator sets besides TRAINYARD_*.
fn spec_policy(name: &str, resource: &str, reserved: Value, rules: Value) -> Value {
    let rules = template_rules().as_array().into_iter().chain(rules.as_array()).flatten().cloned().collect::<Vec<_>>();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            // An error while a rule is evaluated refuses the object rather than waving it through.
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["trainyard.dev"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [resource],
            }]},
            // What is stored already may be changed in its metadata and status: a finalizer must be removable whatever
            // the spec says.
            "matchConditions": [{
                "name": "spec-is-new",
                "expression": "oldObject == null || object.spec != oldObject.spec",
            }],
            "variables": [
                {"name": "template", "expression": "object.spec.template"},
                {
                    "name": "containerEnv",
                    "expression": "variables.template.spec.containers.filter(c, size(variables.template.spec.containers) == 1 || (has(variables.template.metadata) && has(variables.template.metadata.annotations) && 'kubectl.kubernetes.io/default-container' in variables.template.metadata.annotations && variables.template.metadata.annotations['kubectl.kubernetes.io/default-container'] == c.name)).map(c, has(c.env) && c.env != null ? c.env.map(e, e.name) : [])",
                },
                {"name": "reserved", "expression": reserved},
                {
                    "name": "keys",
                    "expression": "has(variables.template.metadata) ? (has(variables.template.metadata.labels) ? variables.template.metadata.labels.map(k, k) : []) + (has(variables.template.metadata.annotations) ? variables.template.metadata.annotations.map(k, k) : []) : []",
                },
            ],
            "validations": rules,
        },
    })
}

fn torch_variables() -> Value {
    format!("object.spec.framework == 'torch' ? {} : []", cel_list(&reserved::TORCH)).into()
}

fn template_rules() -> Value {
    json!([
        {
            "expression": "variables.containerEnv.all(names, names.all(n, !(n in variables.reserved) && !n.startsWith('TRAINYARD_')))",
            "messageExpression": "'spec.template.spec.containers[].env: ' + variables.containerEnv.map(names, names.filter(n, n in variables.reserved || n.startsWith('TRAINYARD_')).join(', ')).join('') + ': remove it: the operator sets it itself'",
        },
        {
            "expression": "!has(variables.template.metadata) || !has(variables.template.metadata.namespace)",
            "messageExpression": "'spec.template.metadata.namespace: ' + string(variables.template.metadata.namespace) + ': remove it: pods run in the namespace of their owner, never in another'",
        },
        {
            "expression": "!has(variables.template.metadata) || variables.template.metadata.all(k, k in ['labels', 'annotations', 'creationTimestamp', 'namespace'])",
            "message": "spec.template.metadata: only labels and annotations may be set: remove the other fields",
        },
        {
            "expression": "variables.keys.all(k, !k.startsWith('trainyard.dev/'))",
            "messageExpression": "'spec.template.metadata: ' + variables.keys.filter(k, k.startsWith('trainyard.dev/')).join(', ') + ': remove it: the operator sets labels and annotations of trainyard.dev/'",
        },
    ])
}

/// What pods are made from may be changed while the job is suspended, and while it has never had a pod: the operator has
/// looked (a fresh job may have pods before its first status), and found nothing started.
const MAY_CHANGE: &str = "(oldObject.spec.?suspend.orValue(false) || (oldObject.?status.?observedGeneration.orValue(-1) > 0 && !oldObject.?status.?startTime.hasValue()))";
/// The job is over.
const FINISHED: &str = "oldObject.?status.?finishTime.hasValue()";

fn training_job_rules() -> Value {
    // The comparison comes last, since a template may be long. These are not rules of the CRD: it does not declare the template's
    // fields, and comparing a number or text exceeds the cost that the apiserver allows there.
    let rules = ["template", "processesPerNode"].map(|field| {
        let unchanged = format!("object.spec.?{field} == oldObject.spec.?{field}");
        [
            json!({
                "expression": format!("oldObject == null || {FINISHED} || {MAY_CHANGE} || {unchanged}"),
                "message": format!("spec.{field} can be changed only while the job is suspended: set suspend: true first"),
            }),
            json!({
                "expression": format!("oldObject == null || !{FINISHED} || {unchanged}"),
                "message": format!("spec.{field} of a finished job cannot be changed, since it does not run again: delete it and create it again (kubectl replace --force), or create a job of another name"),
            }),
        ]
    });
    rules.into_iter().flatten().collect()
}

/// What a run runs is fixed. Not rules of the CRD: comparing whole specs exceeds the cost that the apiserver allows there.
fn run_policy() -> Value {
    let fixed = |field: &str, remedy: &str| {
        json!({
            "expression": format!("has(object.spec.{field}) == has(oldObject.spec.{field}) && (!has(object.spec.{field}) || object.spec.{field} == oldObject.spec.{field})"),
            "message": format!("spec.{field} of a run never changes: {remedy}"),
        })
    };
    let another = "create another run";
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "trainyard-pipeline-runs"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["trainyard.dev"],
                "apiVersions": ["*"],
                "operations": ["UPDATE"],
                "resources": ["pipelineruns"],
            }]},
            "validations": [fixed("pipelineRef", another), fixed("pipeline", another), fixed("arguments", another)],
        },
    })
}

fn binding(policy: &Value) -> Value {
    let policy = &policy["metadata"]["name"];
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": policy},
        "spec": {"policyName": policy, "validationActions": ["Deny"]},
    })
}

fn cel_list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", "))
}
