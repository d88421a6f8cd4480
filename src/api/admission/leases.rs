//! The policy that keeps tenants from standing in the operator's way.
//!
//! An operator of the whole cluster that meets another's Lease does nothing (`crate::cluster::lease`), and Kubernetes' own role
//! `edit` may write Leases. So a Lease of our name that speaks for the whole cluster is refused to whoever cannot watch such
//! Leases in the whole cluster, as operators of the whole cluster can and administrators. One that claims a namespace may be
//! written by whoever may write Leases there: it moves nothing but that namespace.

use serde_json::{Value, json};

use crate::names;

/// The ValidatingAdmissionPolicy, without its binding.
pub(super) fn policy() -> Value {
    let (scope, namespace) = (names::LABEL_SCOPE, names::SCOPE_NAMESPACE);
    let claims_a_namespace =
        format!("has(object.metadata.labels) && object.metadata.labels[?'{scope}'].orValue('') == '{namespace}'");
    let serves_the_cluster = format!(
        "authorizer.group('coordination.k8s.io').resource('leases').name('{}').check('watch').allowed()",
        names::LEASE
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "trainyard-leases"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["coordination.k8s.io"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["leases"],
                // Every node renews a Lease of its own all the time: none of them comes by here.
                "resourceNames": [names::LEASE],
            }]},
            "validations": [{
                "expression": format!("({claims_a_namespace}) || {serves_the_cluster}"),
                "message": format!(
                    "metadata.labels: a Lease {} without {scope}: {namespace} speaks for an operator of the whole cluster: only \
                     who may watch these Leases in the whole cluster may write it",
                    names::LEASE
                ),
            }],
        },
    })
}
