//! Admission policies for what a CRD's own rules cannot see: fields that the schema does not declare.
//!
//! CEL inside the API server, so no webhook is needed. Everything here is also checked by
//! [`crate::training::validate`], since an apiserver may lack the policies.

use serde_json::{Value, json};

use super::reserved;

/// The ValidatingAdmissionPolicies with their bindings.
pub fn policies() -> Vec<Value> {
    vec![policy("trainyard-training-jobs", training_job_rules()), binding("trainyard-training-jobs")]
}

fn policy(name: &str, validations: Value) -> Value {
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
                "resources": ["trainingjobs"],
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
                {
                    "name": "reserved",
                    "expression": format!("object.spec.framework == 'torch' ? {} : []", cel_list(&reserved::TORCH)),
                },
                {
                    "name": "keys",
                    "expression": "has(variables.template.metadata) ? (has(variables.template.metadata.labels) ? variables.template.metadata.labels.map(k, k) : []) + (has(variables.template.metadata.annotations) ? variables.template.metadata.annotations.map(k, k) : []) : []",
                },
            ],
            "validations": validations,
        },
    })
}

fn training_job_rules() -> Value {
    json!([
        {
            "expression": "variables.containerEnv.all(names, names.all(n, !(n in variables.reserved) && !n.startsWith('TRAINYARD_')))",
            "messageExpression": "'spec.template.spec.containers[].env: ' + variables.containerEnv.map(names, names.filter(n, n in variables.reserved || n.startsWith('TRAINYARD_')).join(', ')).join('') + ': remove it: the operator sets it for every attempt'",
        },
        {
            "expression": "!has(variables.template.metadata) || !has(variables.template.metadata.namespace)",
            "messageExpression": "'spec.template.metadata.namespace: ' + string(variables.template.metadata.namespace) + ': remove it: pods run in the namespace of their job, never in another'",
        },
        {
            "expression": "!has(variables.template.metadata) || variables.template.metadata.all(k, k in ['labels', 'annotations', 'creationTimestamp', 'namespace'])",
            "message": "spec.template.metadata: only labels and annotations may be set: remove the other fields",
        },
        {
            "expression": "variables.keys.all(k, !k.startsWith('trainyard.dev/'))",
            "message": "spec.template.metadata: labels and annotations of trainyard.dev/ are the operator's: remove them",
        },
        {
            "expression": "oldObject == null || object.spec.template == oldObject.spec.template || (has(oldObject.spec.suspend) && oldObject.spec.suspend)",
            "message": "spec.template can be changed only while the job is suspended: set suspend: true first",
        },
        {
            // Not a rule of the CRD: comparing a number or text exceeds the cost that the apiserver allows there.
            "expression": "oldObject == null || object.spec.?processesPerNode == oldObject.spec.?processesPerNode || (has(oldObject.spec.suspend) && oldObject.spec.suspend)",
            "message": "spec.processesPerNode can be changed only while the job is suspended: set suspend: true first",
        },
    ])
}

fn binding(policy: &str) -> Value {
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
