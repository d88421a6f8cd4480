//! What is rendered for which values.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::tools::{Rendered, everything, helm, render, render_as};

/// What `helm lint` and the tidiness of what is rendered are checked with.
fn value_files() -> Vec<Value> {
    let namespaced = json!({"watchNamespaces": ["team-a", "team-b"], "replicas": 2});
    let bare = json!({
        "replicas": 0, "crds": {"enabled": false}, "admissionPolicies": {"enabled": false},
        "rbac": {"create": false, "aggregate": false}, "serviceAccount": {"create": false, "name": "given"},
        "networkPolicy": {"enabled": false}, "apiPriority": {"enabled": false}, "podDisruptionBudget": {"enabled": false},
    });
    vec![json!({}), everything(), namespaced, bare]
}

#[test]
fn lint_has_nothing_to_say() {
    for values in value_files() {
        if let Err(complaint) = helm(&["lint", "--strict"], &values) {
            panic!("{values}: {complaint}");
        }
    }
}

/// Argo CD and others compare what is rendered with what the apiserver stores: what it drops or fills in differs forever.
#[test]
fn nothing_empty_is_rendered() {
    for values in value_files() {
        for (id, object) in &render(&values).0 {
            assert!(object.get("status").is_none(), "{id:?} has a status");
            let mut found = Vec::new();
            empties("", object, &mut found);
            assert!(found.is_empty(), "{id:?}: {found:?}");
        }
    }
}

fn empties(path: &str, value: &Value, found: &mut Vec<String>) {
    let is_empty = match value {
        Value::Null => true,
        // The core group's name.
        Value::String(text) => text.is_empty() && !path.contains(".apiGroups"),
        Value::Array(items) => {
            items.iter().for_each(|item| empties(&format!("{path}[]"), item, found));
            items.is_empty()
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| empties(&format!("{path}.{key}"), field, found));
            // How a CRD says that there is a status.
            fields.is_empty() && !path.ends_with(".subresources.status")
        }
        Value::Bool(_) | Value::Number(_) => false,
    };
    if is_empty {
        found.push(path.to_owned());
    }
}

#[test]
fn every_object_says_whose_it_is() {
    let rendered = render(&everything());
    for (id, object) in
        rendered.0.iter().filter(|((kind, _, name), _)| kind != "ConfigMap" || name == "trainyard-dashboard")
    {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "trainyard", "{id:?}");
        assert_eq!(labels["app.kubernetes.io/instance"], "trainyard", "{id:?}");
        assert_eq!(labels["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"), "{id:?}");
        assert_eq!(labels["cost-centre"], "17", "{id:?}");
    }
}

#[test]
fn the_defaults_are_what_the_documents_say() {
    let rendered = render(&json!({}));
    let deployment = rendered.one("Deployment", "trainyard");
    assert_eq!(deployment["spec"]["replicas"], 1);
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    assert_eq!(deployment["spec"]["strategy"], strategy, "the next one waits while this one works");
    assert_eq!(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    let container = rendered.container();
    assert_eq!(container["image"], concat!("localhost/trainyard/trainyard:", env!("CARGO_PKG_VERSION")));
    let (probes, metrics) = ("--probe-listen=0.0.0.0:8081", "--metrics-listen=0.0.0.0:8080");
    let arguments = ["run", probes, metrics, "--log-format=json", "--log=info", "--concurrency=32"];
    assert_eq!(container["args"], json!(arguments));
    assert_eq!(
        container["resources"],
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}})
    );
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "probes"}), "{probe}");
    }
    for crd in rendered.of("CustomResourceDefinition") {
        assert_eq!(crd["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
    }
    assert_eq!(rendered.of("CustomResourceDefinition").count(), 4);
    // Each with its binding.
    let policies = trainyard::api::admission::policies().len() / 2;
    assert_eq!(rendered.of("ValidatingAdmissionPolicy").count(), policies);
    assert_eq!(rendered.of("ValidatingAdmissionPolicyBinding").count(), policies);
    let lease = rendered.one("Lease", "trainyard");
    assert_eq!(lease["metadata"]["namespace"], "trainyard-system");
    assert_eq!(lease["metadata"]["labels"]["trainyard.dev/scope"], "cluster");
    assert!(lease.get("spec").is_none(), "the operator's to fill in");
    for kind in ["PodDisruptionBudget", "ServiceMonitor", "PrometheusRule", "ConfigMap"] {
        assert_eq!(rendered.of(kind).count(), 0, "{kind}");
    }
    let ingress = &rendered.one("NetworkPolicy", "trainyard")["spec"];
    assert_eq!(ingress["policyTypes"], json!(["Ingress"]));
    assert_eq!(ingress["ingress"], json!([{"ports": [{"port": "metrics", "protocol": "TCP"}]}]));
}

/// Leases of all namespaces are only looked at, and only that of its own is written.
#[test]
fn the_whole_clusters_operator_writes_its_own_lease_only() {
    let rendered = render(&json!({}));
    let of_leases = |role: &Value| -> Vec<Value> {
        let rules = role["rules"].as_array().into_iter().flatten();
        rules.filter(|rule| rule["resources"] == json!(["leases"])).cloned().collect()
    };
    let leases = |verbs: Value, names: Option<Value>| {
        let mut rule = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs});
        if let Some(names) = names {
            rule["resourceNames"] = names;
        }
        rule
    };
    let named = || Some(json!(["trainyard"]));
    assert_eq!(of_leases(rendered.one("ClusterRole", "trainyard")), [leases(json!(["list", "watch"]), named())]);
    let role = rendered.one("Role", "trainyard-lease");
    assert_eq!(role["metadata"]["namespace"], "trainyard-system");
    assert_eq!(of_leases(role), [leases(json!(["get", "update"]), named()), leases(json!(["create"]), None)]);
}

/// Kubernetes' own roles view, edit and admin gain our kinds, and none of them gains a right to write status.
#[test]
fn users_roles_are_aggregated() {
    let rendered = render(&json!({}));
    let crds: BTreeSet<String> = rendered
        .of("CustomResourceDefinition")
        .map(|crd| crd["spec"]["names"]["plural"].as_str().unwrap_or_default().to_owned())
        .collect();
    for (role, writes) in [("view", false), ("edit", true), ("admin", true)] {
        let object = rendered.one("ClusterRole", &format!("trainyard-{role}"));
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        assert_eq!(object["metadata"]["labels"][&label], "true");
        let allows = |verb: &str, resource: &str| {
            let mut rules = object["rules"].as_array().into_iter().flatten();
            let has = |list: &Value, item: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == item));
            rules.any(|rule| has(&rule["verbs"], verb) && has(&rule["resources"], resource))
        };
        for kind in &crds {
            let status = format!("{kind}/status");
            for verb in ["get", "list", "watch"] {
                assert!(allows(verb, kind) && allows(verb, &status), "{role}: {verb} {kind}");
            }
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                assert_eq!(allows(verb, kind), writes, "{role}: {verb} {kind}");
                assert!(!allows(verb, &status), "{role}: {verb} {status}");
            }
        }
        assert_eq!(allows("patch", "modeldeployments/scale"), writes, "kubectl scale, and autoscalers");
    }
}

#[test]
fn values_reach_what_they_are_about() {
    let rendered = render(&everything());
    let pod = &rendered.one("Deployment", "trainyard")["spec"]["template"];
    let container = rendered.container();
    assert_eq!(container["image"], "registry.example.com:5000/ml/trainyard:1.2.3");
    assert_eq!(
        container["args"],
        json!([
            "run",
            "--probe-listen=[::]:8081",
            "--metrics-listen=[::]:8080",
            "--log-format=text",
            "--log=trainyard=debug,kube=info",
            "--concurrency=8",
            "--lease-name=trainyard"
        ])
    );
    assert_eq!(container["env"][1], json!({"name": "RUST_BACKTRACE", "value": "1"}));
    assert_eq!(pod["spec"]["serviceAccountName"], "operator");
    assert_eq!(pod["spec"]["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["spec"]["topologySpreadConstraints"][0]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(pod["metadata"]["labels"]["team"], "platform");
    for binding in ["ClusterRoleBinding", "RoleBinding"].into_iter().flat_map(|kind| rendered.of(kind)) {
        assert_eq!(binding["subjects"][0]["name"], "operator");
    }
    let budget = rendered.one("PodDisruptionBudget", "trainyard");
    assert_eq!(budget["spec"]["maxUnavailable"], 1, "a drain must not wait for ever");
    let egress = &rendered.one("NetworkPolicy", "trainyard")["spec"]["egress"];
    assert_eq!(egress[1]["to"][1]["ipBlock"]["cidr"], "fd00::1/128");
    assert!(
        rendered.of("CustomResourceDefinition").all(|crd| crd["metadata"].get("annotations").is_none()),
        "keep: false"
    );
    assert_eq!(rendered.one("ConfigMap", "trainyard-dashboard")["metadata"]["namespace"], "monitoring");
    assert_eq!(rendered.one("ConfigMap", "first")["data"]["a"], "{{ untouched }}");
    assert_eq!(rendered.one("ConfigMap", "trainyard-second")["data"]["a"], "b");
}

/// The policies know the ServiceAccount of this release and those that are named, and nobody else's; and the namespaces of these.
#[test]
fn the_policies_know_the_operators_that_are_installed() {
    let (operators, unserved) = ("request.userInfo.username in ['system:serviceaccount:", "request.namespace in [");
    let all = |rendered: &Rendered, begin: &str| -> BTreeSet<String> {
        let policies: Vec<_> = rendered.of("ValidatingAdmissionPolicy").collect();
        let text = serde_json::to_string(&policies).expect("JSON");
        let found = text.split(begin).skip(1).map(|rest| rest.split(']').next().unwrap_or_default().to_owned());
        found.filter(|found| !found.contains("garbage-collector")).collect()
    };
    let system = "'kube-system', 'kube-public', 'kube-node-lease'";
    let usual = render(&json!({}));
    assert_eq!(all(&usual, operators), ["trainyard-system:trainyard'".to_owned()].into());
    assert_eq!(all(&usual, unserved), [format!("{system}, 'trainyard-system'")].into());
    let further = json!({"admissionPolicies": {"furtherServiceAccounts": ["team-c:trainyard", "team-c:other"]}});
    let other = render_as("ml", "ops", &further);
    let accounts = "ops:ml-trainyard', 'system:serviceaccount:team-c:trainyard', 'system:serviceaccount:team-c:other'";
    assert_eq!(all(&other, operators), [accounts.to_owned()].into());
    assert_eq!(all(&other, unserved), [format!("{system}, 'ops', 'team-c'")].into());
    let own = render_as("ml", "ops", &json!({"watchNamespaces": ["ops"], "allowServingReleaseNamespace": true}));
    assert_eq!(all(&own, unserved), [system.to_owned()].into(), "it is served");
}

/// A digest says more than a tag.
#[test]
fn a_digest_wins_over_the_tag() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let rendered = render(&json!({"image": {"repository": "example.com/t", "tag": "1", "digest": digest}}));
    assert_eq!(rendered.container()["image"], format!("example.com/t@{digest}"));
}
