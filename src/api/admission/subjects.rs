//! Who sends a request, and whose an object is: the pieces of CEL that several policies share.

use crate::names;

/// The operator's user in an installation with the usual names. The chart puts its own, and those of further
/// installations, in the place of this text with its quotes.
pub const OPERATOR_USER: &str = "system:serviceaccount:trainyard-system:trainyard";
/// The namespace of [`OPERATOR_USER`], which the chart replaces likewise.
pub const OPERATOR_NAMESPACE: &str = "trainyard-system";
/// Who removes ownerReferences when an owner is deleted and its children are to stay (`--cascade=orphan`): the garbage
/// collector, under the name that it has when the controller manager uses one account for each controller, or one for all.
const GARBAGE_COLLECTORS: [&str; 2] =
    ["system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"];

/// CEL: whether the operator sends the request.
pub(super) fn is_operator() -> String {
    format!("request.userInfo.username in ['{OPERATOR_USER}']")
}

/// CEL: whether the garbage collector sends the request.
pub(super) fn is_garbage_collector() -> String {
    format!("request.userInfo.username in {}", super::cel_list(&GARBAGE_COLLECTORS))
}

/// CEL: whether the request concerns a namespace that no operator serves, see [`crate::cluster::territory`].
pub(super) fn is_unserved_namespace() -> String {
    let [first, second, third] = names::SYSTEM_NAMESPACES;
    format!("request.namespace in {}", super::cel_list(&[first, second, third, OPERATOR_NAMESPACE]))
}

/// CEL: whether the controller of `object` is an object of ours of any kind, or of that kind.
pub(super) fn is_controlled(object: &str, kind: Option<&str>) -> String {
    let kind = kind.map(|kind| format!(" && r.kind == '{kind}'")).unwrap_or_default();
    format!(
        "has({object}.metadata.ownerReferences) && {object}.metadata.ownerReferences.exists(r, {IS_OUR_CONTROLLER}{kind})"
    )
}

/// CEL: UIDs of the controllers of `object` that are objects of ours; the apiserver sees to it that there is one at most.
pub(super) fn controllers(object: &str) -> String {
    format!(
        "has({object}.metadata.ownerReferences) ? {object}.metadata.ownerReferences.filter(r, {IS_OUR_CONTROLLER}).map(r, r.uid) : []"
    )
}

const IS_OUR_CONTROLLER: &str = "r.apiVersion.startsWith('trainyard.dev/') && has(r.controller) && r.controller";

/// CEL: whether whoever sends the request may do what the policy of that name refuses: they have the verb `bypass` on the
/// policy. Administrators of the cluster have it, as they have every verb; a tool that restores backups can be given it.
pub(super) fn may_bypass(policy: &str) -> String {
    format!(
        "authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicies').name('{policy}').check('bypass').allowed()"
    )
}
