//! The policy that confines the operator to its own EndpointSlices.
//!
//! Whoever writes EndpointSlices can send the traffic of any Service elsewhere, and RBAC knows no labels. So the
//! apiserver itself sees to it that the operator writes slices of TrainingJobs only, and only for Services that are called
//! as theirs are: by the job's name and five letters. Whether the five are those of the job's UID, CEL cannot tell; so the
//! slice must also be named as the operator names it, and have no ports: such a slice answers to host names, and nothing is
//! forwarded to it. Nobody else is affected: the policy looks at requests of the operator's user alone.

use serde_json::{Value, json};

use super::subjects::is_operator;
use crate::cluster::port::Resource;
use crate::names::{self, AddressFamily};

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
                "expression": is_operator(),
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

fn rules() -> [Rule; 5] {
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
    let names = AddressFamily::ALL.map(|family| format!("{} + '-{}'", label(service), family.suffix()));
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
        Rule {
            expression: format!("{} && s.metadata.name in [{}]", has_label(service), names.join(", ")),
            message: format!(
                "metadata.name: the operator names its slices by the label {service} and the address family"
            ),
        },
        Rule {
            // A list that is not there may be null.
            expression: "!has(s.ports) || dyn(s.ports) == null || size(s.ports) == 0".into(),
            message: "ports: the operator's slices have none".into(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::evaluation::{Verdict, judge, request};
    use super::super::subjects::OPERATOR_USER;
    use super::*;
    use crate::training::build::service::build_slice;
    use crate::training::validate::validate;

    /// The rules that refuse a request of the operator, counted from 0.
    fn refusing(old: &Value, new: &Value) -> Vec<usize> {
        match judge(&policy(), &request(OPERATOR_USER, "endpointslices", old, new)) {
            Verdict::Refused(refusals) => refusals.into_iter().map(|refusal| refusal.rule).collect(),
            Verdict::Allowed => Vec::new(),
            Verdict::Skipped => panic!("the policy looks away"),
        }
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
                assert_eq!(refusing(old, new), Vec::<usize>::new(), "{name}: {slice}");
            }
        }
    }

    #[test]
    fn slices_of_others_are_neither_made_nor_taken_over_nor_removed() {
        let owner = "/metadata/ownerReferences/0";
        let service = |name: &str| with("/metadata/labels/kubernetes.io~1service-name", json!(name));
        let named = |name: &str| with("/metadata/name", json!(name));
        let with_ports = |ports: Value| {
            let mut slice = own("digits");
            slice["ports"] = ports;
            slice
        };
        let cases: [(Value, &[usize]); 14] = [
            (with("/metadata/labels", json!({})), &[0, 2, 3]),
            (with("/metadata/labels/endpointslice.kubernetes.io~1managed-by", json!("else")), &[0]),
            (with("/metadata/ownerReferences", json!([])), &[1, 2]),
            (with(&format!("{owner}/controller"), json!(false)), &[1, 2]),
            (with(&format!("{owner}/kind"), json!("Service")), &[1, 2]),
            (with(&format!("{owner}/apiVersion"), json!("example.com/v1")), &[1, 2]),
            (with(&format!("{owner}/name"), json!("faces")), &[2]),
            (service("database"), &[2, 3]),
            (service("digits-database"), &[2, 3]),
            (service("digits-redis-2"), &[2, 3]),
            // Called as a Service of the job's might be; only the name of the slice gives it away.
            (service("digits-redis"), &[3]),
            (named("digits-redis-ipv4"), &[3]),
            (named("anything"), &[3]),
            (with_ports(json!([{"name": "6379-6379", "port": 6379}])), &[4]),
        ];
        for (other, expected) in cases {
            let own = own("digits");
            for (old, new) in [(&Value::Null, &other), (&other, &own), (&own, &other), (&other, &Value::Null)] {
                assert_eq!(refusing(old, new), expected, "{old} becomes {new}");
            }
        }
        assert_eq!(refusing(&Value::Null, &with_ports(Value::Null)), Vec::<usize>::new());
    }

    #[test]
    fn it_looks_at_requests_of_the_operator_only() {
        let other = json!({"metadata": {"name": "theirs"}});
        let request = request("system:serviceaccount:team-a:trainyard", "endpointslices", &Value::Null, &other);
        assert_eq!(judge(&policy(), &request), Verdict::Skipped);
    }
}
