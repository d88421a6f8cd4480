//! An installation for some namespaces, without rights in the cluster.

use serde_json::{Value, json};

use crate::tools::{chart, helm, render, render_as};

/// What a second installation leaves to the first, or to an administrator.
fn without_what_belongs_to_the_cluster(namespaces: &[&str]) -> Value {
    json!({
        "watchNamespaces": namespaces,
        "crds": {"enabled": false},
        "admissionPolicies": {"enabled": false},
        "rbac": {"aggregate": false},
    })
}

/// So whoever is admin of these namespaces alone can install it.
#[test]
fn nothing_in_the_cluster_is_needed() {
    let rendered = render(&without_what_belongs_to_the_cluster(&["team-a", "team-b"]));
    assert_eq!(rendered.cluster_scoped(), []);
}

#[test]
fn what_belongs_to_the_cluster_is_made_when_asked_for_and_gives_the_operator_no_rights() {
    let rendered = render(&json!({"watchNamespaces": ["team-a"]}));
    for (kind, name) in rendered.cluster_scoped() {
        let for_everybody = match kind {
            "CustomResourceDefinition" | "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => true,
            "ClusterRole" => ["trainyard-view", "trainyard-edit", "trainyard-admin"].contains(&name),
            _ => false,
        };
        assert!(for_everybody, "{kind} {name}");
    }
}

#[test]
fn each_namespace_has_role_binding_and_lease() {
    let whole = render(&json!({}));
    let rendered = render(&json!({"watchNamespaces": ["team-a", "team-b"]}));
    for namespace in ["team-a", "team-b"] {
        let get = |kind: &str| {
            let id = (kind.to_owned(), namespace.to_owned(), "trainyard".to_owned());
            rendered.0.get(&id).unwrap_or_else(|| panic!("no {id:?}"))
        };
        assert_eq!(get("Lease")["metadata"]["labels"]["trainyard.dev/scope"], "namespace");
        let account = json!([{"kind": "ServiceAccount", "name": "trainyard", "namespace": "trainyard-system"}]);
        assert_eq!(get("RoleBinding")["subjects"], account);
        // The very rules of the whole cluster, and those for the lease that the latter has in a Role of its own.
        let rules = |role: &Value| -> Vec<Value> {
            let rules = role["rules"].as_array().into_iter().flatten();
            rules.filter(|rule| rule["resources"] != json!(["leases"])).cloned().collect()
        };
        assert_eq!(rules(get("Role")), rules(whole.one("ClusterRole", "trainyard")));
        let leases: Vec<_> =
            get("Role")["rules"].as_array().into_iter().flatten().skip(rules(get("Role")).len()).collect();
        let its_own: Vec<_> = whole.one("Role", "trainyard-lease")["rules"].as_array().into_iter().flatten().collect();
        assert_eq!(leases, its_own);
    }
    assert!(
        rendered.container()["args"].as_array().is_some_and(|all| all.contains(&json!("--namespaces=team-a,team-b")))
    );
    assert_eq!(rendered.of("Role").count(), 2, "none in its own namespace");
}

/// Whoever may edit there could have a token of the operator's ServiceAccount.
#[test]
fn a_release_does_not_serve_its_own_namespace_unless_it_is_allowed_to() {
    let release = |values: &Value| helm(&["template", "trainyard", "--namespace", "team-a"], values);
    let mut values = without_what_belongs_to_the_cluster(&["team-b", "team-a"]);
    let refusal = release(&values).expect_err("it is refused");
    for words in [
        "watchNamespaces: team-a is the namespace of this release",
        "--namespace trainyard-team-a --create-namespace",
        "allowServingReleaseNamespace: true",
    ] {
        assert!(refusal.contains(words), "no {words:?} in {refusal}");
    }
    assert!(release(&without_what_belongs_to_the_cluster(&["team-b"])).is_ok());
    values["allowServingReleaseNamespace"] = json!(true);
    assert!(release(&values).is_ok());
}

/// What the README installs for a team is taken, and names the ServiceAccount that the policies must know.
#[test]
fn what_the_readme_installs_for_a_team_has_a_namespace_of_its_own() {
    let readme = std::fs::read_to_string(chart().join("README.md")).expect("the README");
    for words in [
        "helm install trainyard-team-a charts/trainyard --namespace trainyard-team-a --create-namespace",
        "admissionPolicies.furtherServiceAccounts={trainyard-team-a:trainyard-team-a}",
    ] {
        assert!(readme.contains(words), "no {words:?}");
    }
    let rendered = render_as("trainyard-team-a", "trainyard-team-a", &without_what_belongs_to_the_cluster(&["team-a"]));
    let account = rendered.one("ServiceAccount", "trainyard-team-a");
    assert_eq!(account["metadata"]["namespace"], "trainyard-team-a");
}

/// Helm refuses a release that has an object of another one's.
#[test]
fn releases_share_an_object_only_if_they_want_the_same_namespace() {
    let shared = |first: &Value, second: &Value, release: &str, namespace: &str| -> Vec<String> {
        let (first, second) = (render(first), render_as(release, namespace, second));
        let names = first.0.keys().filter(|id| second.0.contains_key(*id));
        names.map(|(kind, namespace, name)| format!("{kind} {namespace}/{name}")).collect()
    };
    let alone = without_what_belongs_to_the_cluster;
    assert_eq!(shared(&alone(&["team-a"]), &alone(&["team-b"]), "trainyard", "trainyard-team-b"), Vec::<String>::new());
    assert_eq!(shared(&alone(&["team-a"]), &alone(&["team-b"]), "second", "trainyard-system"), Vec::<String>::new());
    assert_eq!(shared(&json!({}), &alone(&["team-b"]), "trainyard", "trainyard-team-b"), Vec::<String>::new());
    let twice = shared(&alone(&["team-a"]), &alone(&["team-a", "team-b"]), "second", "elsewhere");
    assert_eq!(twice, ["Lease team-a/trainyard", "Role team-a/trainyard", "RoleBinding team-a/trainyard"]);
    let two_for_all = shared(&json!({}), &json!({}), "second", "elsewhere");
    assert!(two_for_all.contains(&"ClusterRole /trainyard".to_owned()), "{two_for_all:?}");
}
