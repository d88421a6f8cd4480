//! What `values.schema.json` refuses. A value that means nothing must not pass in silence.

use serde_json::{Value, json};

use crate::tools::{everything, helm, render};

/// What is said of labels that users must not set.
const OURS: &str = "set by the chart alone, so leave this key out";

/// Values, and the words that the refusal must have: where, and what is wrong.
const fn case(values: Value, words: &'static [&'static str]) -> (Value, &'static [&'static str]) {
    (values, words)
}

#[test]
fn wrong_values_are_refused_and_the_key_is_named() {
    let cases = [
        case(json!({"replicaCount": 2}), &["additional properties", "replicaCount"]),
        case(json!({"image": {"tags": "1"}}), &["/image", "additional properties", "tags"]),
        case(json!({"crds": {"install": true}}), &["/crds", "additional properties", "install"]),
        case(json!({"rbac": {"enabled": true}}), &["/rbac", "additional properties", "enabled"]),
        case(json!({"resources": {"limit": {}}}), &["/resources", "additional properties", "limit"]),
        case(json!({"networkPolicy": {"egress": {}}}), &["/networkPolicy", "additional properties", "egress"]),
        case(json!({"imagePullSecrets": ["registry"]}), &["/imagePullSecrets/0", "got string, want object"]),
        case(json!({"replicas": -1}), &["/replicas", "minimum", "-1"]),
        case(json!({"replicas": 3}), &["/replicas", "maximum", "3"]),
        case(json!({"replicas": 1.5}), &["/replicas", "got number, want integer"]),
        case(json!({"replicas": "two"}), &["/replicas", "got string, want integer"]),
        case(json!({"watchNamespaces": "team-a"}), &["/watchNamespaces", "got string, want array"]),
        case(json!({"watchNamespaces": ["team-a", ""]}), &["/watchNamespaces/1", "minLength"]),
        case(json!({"watchNamespaces": ["team-a", "team-a"]}), &["/watchNamespaces", "equal"]),
        case(json!({"watchNamespaces": ["Team_A"]}), &["/watchNamespaces/0", "Team_A", "pattern"]),
        case(json!({"watchNamespaces": ["a,b"]}), &["/watchNamespaces/0", "a,b", "pattern"]),
        case(json!({"watchNamespaces": ["a".repeat(64)]}), &["/watchNamespaces/0", "maxLength"]),
        case(
            json!({"allowServingReleaseNamespace": "team-a"}),
            &["/allowServingReleaseNamespace", "got string, want boolean"],
        ),
        case(json!({"crds": {"enabled": "yes"}}), &["/crds/enabled", "got string, want boolean"]),
        case(
            json!({"admissionPolicies": {"furtherServiceAccounts": ["trainyard"]}}),
            &["/admissionPolicies/furtherServiceAccounts/0", "trainyard", "pattern"],
        ),
        case(json!({"image": {"repository": ""}}), &["/image/repository"]),
        case(json!({"image": {"repository": "a/b:1.0"}}), &["/image/repository", "a/b:1.0", "pattern"]),
        case(json!({"image": {"digest": "sha256:1234"}}), &["/image/digest", "sha256:1234", "pattern"]),
        case(json!({"image": {"tag": "a b"}}), &["/image/tag", "a b", "pattern"]),
        case(json!({"image": {"pullPolicy": "Sometimes"}}), &["/image/pullPolicy", "Always", "Never"]),
        case(json!({"serviceAccount": {"name": "My_Account"}}), &["/serviceAccount/name", "My_Account"]),
        case(json!({"resources": {"limits": {"memory": "512 MB"}}}), &["/resources/limits/memory", "512 MB"]),
        case(json!({"resources": {"requests": {"cpu": -1}}}), &["/resources/requests/cpu", "minimum"]),
        case(json!({"commonLabels": {"a": "no spaces"}}), &["/commonLabels/a", "no spaces", "pattern"]),
        case(json!({"podAnnotations": {"a": 1}}), &["/podAnnotations/a", "got number, want string"]),
        case(json!({"logLevel": ""}), &["/logLevel", "minLength"]),
        case(json!({"logFormat": "xml"}), &["/logFormat", "json", "text"]),
        case(json!({"concurrency": 0}), &["/concurrency", "minimum"]),
        case(json!({"concurrency": 513}), &["/concurrency", "maximum"]),
        case(json!({"serviceAccount": {"create": false}}), &["/serviceAccount/name", "minLength"]),
        case(json!({"listenAddress": "1.2"}), &["/listenAddress", "1.2", "pattern"]),
        case(json!({"listenAddress": "127.0.0.1"}), &["/listenAddress", "'not' failed"]),
        case(json!({"listenAddress": "[::1]"}), &["/listenAddress", "'not' failed"]),
        case(json!({"listenAddress": "::"}), &["/listenAddress", "::", "pattern"]),
        case(json!({"extraArgs": [1]}), &["/extraArgs/0", "got number, want string"]),
        case(json!({"extraEnv": [{"value": "1"}]}), &["/extraEnv/0", "missing property", "name"]),
        case(json!({"networkPolicy": {"apiServerPorts": [0]}}), &["/networkPolicy/apiServerPorts/0", "minimum"]),
        case(json!({"networkPolicy": {"apiServerPorts": []}}), &["/networkPolicy/apiServerPorts", "minItems"]),
        case(
            json!({"networkPolicy": {"apiServerCidrs": ["10.0.0.1"]}}),
            &["/networkPolicy/apiServerCidrs/0", "10.0.0.1"],
        ),
        case(json!({"serviceMonitor": {"interval": "30"}}), &["/serviceMonitor/interval", "30", "pattern"]),
        case(json!({"dashboard": {"namespace": "A"}}), &["/dashboard/namespace", "'A'", "pattern"]),
        case(json!({"extraObjects": [1]}), &["/extraObjects/0", "got number, want string or object"]),
        case(json!({"extraObjects": [{"kind": "ConfigMap"}]}), &["/extraObjects/0", "missing property", "apiVersion"]),
        case(json!({"extraObjects": ["hello"]}), &["extraObjects[0]", "must be objects of Kubernetes", "hello"]),
        case(json!({"extraObjects": ["kind: {{ 1 }}"]}), &["extraObjects[0]", "no apiVersion or no kind", "kind: 1"]),
        case(json!({"image": null}), &["missing property", "image"]),
        case(json!({"image": {"repository": null}}), &["/image", "missing property", "repository"]),
        case(json!({"crds": null}), &["missing property", "crds"]),
        case(json!({"replicas": null}), &["missing property", "replicas"]),
        case(json!({"concurrency": null}), &["missing property", "concurrency"]),
        case(json!({"watchNamespaces": null}), &["missing property", "watchNamespaces"]),
        case(
            json!({"commonLabels": {"app.kubernetes.io/name": "a"}}),
            &["/commonLabels/app.kubernetes.io~1name", OURS],
        ),
        case(
            json!({"podLabels": {"app.kubernetes.io/instance": "a"}}),
            &["/podLabels/app.kubernetes.io~1instance", OURS],
        ),
        case(
            json!({"podLabels": {"app.kubernetes.io/version": "1"}}),
            &["/podLabels/app.kubernetes.io~1version", OURS],
        ),
        case(
            json!({"commonLabels": {"app.kubernetes.io/managed-by": "me"}}),
            &["/commonLabels/app.kubernetes.io~1managed-by", OURS],
        ),
        case(
            json!({"commonLabels": {"app.kubernetes.io/component": "a"}}),
            &["/commonLabels/app.kubernetes.io~1component", OURS],
        ),
        case(json!({"commonLabels": {"helm.sh/chart": "a"}}), &["/commonLabels/helm.sh~1chart", OURS]),
        case(
            json!({"commonLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}),
            &["/commonLabels/rbac.authorization.k8s.io~1aggregate-to-edit", OURS],
        ),
    ];
    let mut wrong = Vec::new();
    for (values, words) in cases {
        match helm(&["template", "trainyard"], &values) {
            Ok(_) => wrong.push(format!("{values}: taken")),
            Err(said) => {
                let missing = words.iter().filter(|word| !said.contains(**word));
                wrong.extend(missing.map(|word| format!("{values}: no {word:?} in: {said}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every key at every level, `global` with anything in it, and the `enabled` of a parent chart's condition.
#[test]
fn all_that_is_documented_is_taken() {
    render(&everything());
    render(&json!({"serviceAccount": {"create": false, "name": "default"}, "listenAddress": "[::]"}));
    render(&json!({
        "serviceMonitor": {"interval": "1d"}, "resources": {"requests": {"memory": "64e6", "cpu": ".5"}, "limits": null},
    }));
    render(
        &json!({"image": {"digest": format!("sha256:{}", "0a".repeat(32))}, "podSecurityContext": {"runAsUser": null}}),
    );
}

/// What differs on purpose: what a parent chart may add, and what may be set to null to have none of it.
const EXCEPTIONS: [&str; 5] = [
    "enabled is not in values.yaml",
    "resources.claims is not in values.yaml",
    "global may be null",
    "resources.requests may be null",
    "resources.limits may be null",
];

/// Each value has an entry in the schema and each entry a default. Helm takes out what is null before it asks the
/// schema, so what is required cannot be null, and no template has to reckon with it.
#[test]
fn values_and_schema_have_the_same_keys() {
    let read = |file: &str| std::fs::read_to_string(crate::tools::chart().join(file)).expect("the file is there");
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).expect("YAML");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let mut wrong = Vec::new();
    compare("", &values, &schema, &mut wrong);
    wrong.retain(|line| !EXCEPTIONS.contains(&line.as_str()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(path: &str, values: &Value, schema: &Value, wrong: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], false, "{path:?} takes unknown keys");
    for (key, known) in properties {
        match values.get(key) {
            Some(value) => compare(&format!("{path}{key}."), value, known, wrong),
            None => wrong.push(format!("{path}{key} is not in values.yaml")),
        }
    }
    let is_required = |key: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
    let nullable = values.as_object().into_iter().flatten().filter(|(key, _)| !is_required(key));
    wrong.extend(nullable.map(|(key, _)| format!("{path}{key} may be null")));
    let unknown = values.as_object().into_iter().flatten().filter(|(key, _)| !properties.contains_key(*key));
    wrong.extend(unknown.map(|(key, _)| format!("{path}{key} is not in the schema")));
}
