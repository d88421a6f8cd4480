//! What Helm says after an installation.

use serde_json::{Value, json};

use crate::tools::{NAMESPACE, RELEASE, chart, helm};

/// The notes of an installation with these values, in one line.
#[track_caller]
fn notes(values: &Value) -> String {
    let arguments = ["install", RELEASE, "--namespace", NAMESPACE, "--dry-run=client", "--output", "json"];
    let release = helm(&arguments, values).unwrap_or_else(|complaint| panic!("{values}: {complaint}"));
    let release: Value = serde_json::from_str(&release).expect("JSON");
    one_line(release["info"]["notes"].as_str().expect("notes"))
}

/// Without line breaks, and the marks of comments beside them.
fn one_line(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "#").collect::<Vec<_>>().join(" ")
}

/// Whoever gives the rights by hand must not find out by trying.
#[test]
fn every_right_that_is_left_to_others_is_named() {
    const ITS_OWN_LEASE: &str = "get and update of the lease named trainyard, and create of leases";
    const RULES: &str = "the rules of the chart's files/operator-rules.yaml";
    let whole = notes(&json!({"rbac": {"create": false}}));
    for words in [
        "ServiceAccount trainyard of namespace trainyard-system",
        "in the whole cluster (a ClusterRole and a ClusterRoleBinding):",
        RULES,
        "list and watch of leases named trainyard",
        "in namespace trainyard-system (a Role and a RoleBinding):",
        ITS_OWN_LEASE,
    ] {
        assert!(whole.contains(words), "no {words:?} in {whole}");
    }
    let namespaced = notes(&json!({"rbac": {"create": false}, "watchNamespaces": ["team-a", "team-b"]}));
    for words in ["in each of the namespaces team-a, team-b (a Role and a RoleBinding):", RULES, ITS_OWN_LEASE] {
        assert!(namespaced.contains(words), "no {words:?} in {namespaced}");
    }
    assert!(!namespaced.contains("list and watch"), "no right in the cluster: {namespaced}");
    assert!(!notes(&json!({})).contains("rbac.create"), "nothing to do");
}

/// Policies of another release would refuse an operator that they do not know.
#[test]
fn the_account_that_policies_of_others_must_know_is_named() {
    const ADD: &str = "add trainyard-system:trainyard to its admissionPolicies.furtherServiceAccounts";
    assert!(notes(&json!({"admissionPolicies": {"enabled": false}})).contains(ADD));
    assert!(!notes(&json!({})).contains("furtherServiceAccounts"));
}

/// The file that the notes point to says what it has not.
#[test]
fn the_rules_name_the_rights_that_others_add_to_them() {
    let rules = std::fs::read_to_string(chart().join("files/operator-rules.yaml")).expect("the file is there");
    let head = one_line(rules.split("- apiGroups").next().unwrap_or_default());
    for words in [
        "for the whole cluster: list and watch of the Leases named trainyard in the whole cluster;",
        "for some namespaces: get and update of the Lease named trainyard and create of Leases",
    ] {
        assert!(head.contains(words), "no {words:?} in {head}");
    }
}
