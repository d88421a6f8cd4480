//! The policy that confines the operator to its own EndpointSlices.
//!
//! Whoever writes EndpointSlices can send the traffic of any Service elsewhere, and RBAC knows no labels. So the
//! apiserver itself sees to it that the operator writes slices of TrainingJobs only, and only for Services that are called
//! as theirs are: by the job's name and five letters. Whether the five are those of the job's UID, CEL cannot tell. Nobody
//! else is affected: the policy looks at requests of the operator's user alone.

use serde_json::{Value, json};

use crate::cluster::port::Resource;
use crate::names;

/// Whom the policy confines: the ServiceAccount of an installation with the usual names. The chart puts its own in
/// this one's place.
pub const DEFAULT_USER: &str = "system:serviceaccount:trainyard-system:trainyard";

/// What must hold of a slice `s`, and what the operator is told otherwise.
struct Rule {
    expression: String,
    message: String,
}

/// The ValidatingAdmissionPolicy, without its binding.
pub(super) fn policy() -> Value {
    // Both states: a slice of others can neither be taken over, nor one of ours be made to look like theirs.
    let validations = rules().map(|Rule { expression, message }| {
        json!({"expression": format!("variables.slices.all(s, {expression})"), "message": message})
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "trainyard-endpoint-slices"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConditions": [{
                "name": "is-the-operator",
                "expression": format!("request.userInfo.username in ['{DEFAULT_USER}']"),
            }],
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["discovery.k8s.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE", "DELETE"],
                "resources": ["endpointslices"],
            }]},
            "variables": [{"name": "slices", "expression": "[oldObject, object].filter(s, s != null)"}],
            "validations": validations,
        },
    })
}

fn rules() -> [Rule; 3] {
    let label = |key: &str| format!("s.metadata.labels['{key}']");
    let has_label = |key: &str| format!("has(s.metadata.labels) && '{key}' in s.metadata.labels");
    let (manager, service) = (names::LABEL_SLICE_MANAGER, names::LABEL_SLICE_SERVICE);
    let owner = |condition: &str| {
        format!("has(s.metadata.ownerReferences) && s.metadata.ownerReferences.exists(o, {condition})")
    };
    let job = format!(
        "o.kind == '{}' && o.apiVersion.startsWith('{}/') && has(o.controller) && o.controller",
        Resource::TrainingJob.kind(),
        names::GROUP,
    );
    // As `names::service` makes it of the job's name.
    let stem = format!("(size(o.name) > {} ? o.name.substring(0, {}) : o.name) + '-'", names::STEM, names::STEM_KEPT,);
    let own = format!(
        "{}.startsWith({stem}) && {}.matches('-[a-z2-7]{{{}}}$')",
        label(service),
        label(service),
        names::INCARNATION,
    );
    [
        Rule {
            expression: format!("{} && {} == '{}'", has_label(manager), label(manager), names::SLICE_MANAGER),
            message: format!(
                "metadata.labels: the operator writes only slices with {manager}: {}",
                names::SLICE_MANAGER
            ),
        },
        Rule {
            expression: owner(&job),
            message: "metadata.ownerReferences: the operator writes only slices whose controller is a TrainingJob"
                .into(),
        },
        Rule {
            expression: format!("{} && {}", has_label(service), owner(&format!("{job} && {own}"))),
            message: format!(
                "metadata.labels: {service} must name a Service that is called as the slice's own TrainingJob's is"
            ),
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cel::extractors::This;
    use cel::{Context, Program, Value as CelValue};

    use super::*;
    use crate::training::build::service::build_slice;
    use crate::training::validate::validate;

    /// Whether each rule holds of a request, in the order of [`rules`].
    fn judge(old: &Value, new: &Value) -> Vec<bool> {
        let policy = policy();
        let mut context = Context::default();
        // Of Kubernetes' CEL, and not of the language itself.
        let declared =
            context.add_function("substring", |This(text): This<Arc<String>>, from: i64, to: i64| -> String {
                let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
                text.chars().skip(from).take(to - from).collect()
            });
        declared.unwrap();
        context.add_variable("oldObject", old).unwrap();
        context.add_variable("object", new).unwrap();
        let evaluate = |context: &Context, expression: &Value| {
            Program::compile(expression.as_str().unwrap()).unwrap().execute(context).unwrap()
        };
        let slices = evaluate(&context, &policy["spec"]["variables"][0]["expression"]);
        context.add_variable_from_value("variables", std::collections::HashMap::from([("slices", slices)]));
        let rules = policy["spec"]["validations"].as_array().unwrap();
        rules.iter().map(|rule| evaluate(&context, &rule["expression"]) == CelValue::Bool(true)).collect()
    }

    /// The slice that the operator makes for a job of that name.
    fn own(job: &str) -> Value {
        let job = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob",
            "metadata": {"name": job, "namespace": "ml", "uid": "0b7d"},
            "spec": {"framework": "none", "nodes": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }));
        build_slice(&validate(&job.unwrap()).unwrap(), names::AddressFamily::V4, &[])
    }

    fn with(path: &str, value: Value) -> Value {
        let mut slice = own("digits");
        *slice.pointer_mut(path).unwrap() = value;
        slice
    }

    #[test]
    fn what_the_operator_writes_is_allowed_whatever_the_jobs_name() {
        for name in [
            "digits",
            "a-name-that-has-30-characters0",
            "a-name-that-is-so-long-that-those-of-its-children-are-shorter",
        ] {
            let slice = own(name);
            for (old, new) in [(&Value::Null, &slice), (&slice, &slice), (&slice, &Value::Null)] {
                assert_eq!(judge(old, new), [true, true, true], "{name}: {slice}");
            }
        }
    }

    #[test]
    fn slices_of_others_are_neither_made_nor_taken_over_nor_removed() {
        let owner = "/metadata/ownerReferences/0";
        let service = |name: &str| with("/metadata/labels/kubernetes.io~1service-name", json!(name));
        let cases = [
            (with("/metadata/labels", json!({})), [false, true, false]),
            (with("/metadata/labels/endpointslice.kubernetes.io~1managed-by", json!("else")), [false, true, true]),
            (with("/metadata/ownerReferences", json!([])), [true, false, false]),
            (with(&format!("{owner}/controller"), json!(false)), [true, false, false]),
            (with(&format!("{owner}/kind"), json!("Service")), [true, false, false]),
            (with(&format!("{owner}/apiVersion"), json!("example.com/v1")), [true, false, false]),
            (with(&format!("{owner}/name"), json!("faces")), [true, true, false]),
            (service("database"), [true, true, false]),
            (service("digits-database"), [true, true, false]),
            (service("digits-redis-2"), [true, true, false]),
        ];
        for (other, expected) in cases {
            let own = own("digits");
            for (old, new) in [(&Value::Null, &other), (&other, &own), (&own, &other), (&other, &Value::Null)] {
                assert_eq!(judge(old, new), expected, "{old} becomes {new}");
            }
        }
    }

    #[test]
    fn it_looks_at_requests_of_the_operator_only() {
        let condition = &policy()["spec"]["matchConditions"][0]["expression"];
        assert_eq!(*condition, format!("request.userInfo.username in ['{DEFAULT_USER}']"));
    }
}
