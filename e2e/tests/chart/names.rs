//! Names that YAML takes for numbers, and labels that are given in several places.

use serde_json::{Value, json};

use crate::tools::{Rendered, everything, render, render_as};

/// Everything that is optional, with these names for what a user may name.
fn named(account: &str, class: &str, namespace: &str, watched: Value) -> Value {
    let mut values = everything();
    values["serviceAccount"]["name"] = account.into();
    values["priorityClassName"] = class.into();
    values["dashboard"]["namespace"] = namespace.into();
    values["watchNamespaces"] = watched;
    values
}

/// Paths of all numbers and booleans, which a name must never become.
fn numbers(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Number(_) | Value::Bool(_) => found.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| numbers(&format!("{path}[]"), item, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| numbers(&format!("{path}.{key}"), field, found)),
        Value::Null | Value::String(_) => {}
    }
}

/// Sorted, as names decide the order of the objects.
fn all_numbers(rendered: &Rendered) -> Vec<String> {
    let mut found = Vec::new();
    rendered.0.iter().for_each(|((kind, _, _), object)| numbers(kind, object, &mut found));
    found.sort();
    found
}

#[test]
fn names_of_digits_stay_texts() {
    for (letters, digits) in [(json!(["team-a"]), json!(["1000"])), (json!([]), json!([]))] {
        let usual = render_as("abc", "ops", &named("operator", "high", "monitoring", letters));
        let rendered = render_as("123", "2024", &named("5", "100", "1e3", digits));
        assert_eq!(all_numbers(&rendered), all_numbers(&usual));
        assert_eq!(rendered.one("Deployment", "trainyard-123")["metadata"]["namespace"], "2024");
        assert_eq!(rendered.one("ServiceAccount", "5")["metadata"]["labels"]["app.kubernetes.io/instance"], "123");
    }
}

/// A Service's name is a DNS label that begins with a letter; a release's need not be.
#[test]
fn every_name_of_a_release_makes_a_name_of_a_service() {
    let longest = "a".repeat(53);
    for (release, service) in [
        ("trainyard", "trainyard"),
        ("ml", "ml-trainyard"),
        ("trainyard-eu", "trainyard-eu"),
        ("ml.ops", "ml-ops-trainyard"),
        ("2024-ml", "trainyard-2024-ml"),
        ("2024-trainyard", "trainyard-2024-trainyard"),
        (&longest, &format!("{longest}-trainyard")),
    ] {
        let rendered = render_as(release, "ops", &json!({}));
        let labels = &rendered.one("Service", service)["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], release);
    }
}

/// The parser refuses an object that has a key twice, so rendering alone shows that nothing has.
#[test]
fn labels_and_annotations_that_are_given_twice_are_printed_once() {
    let rendered = render(&json!({
        "commonLabels": {
            "team": "common", "tier": "common", "release": "common", "grafana_dashboard": "common",
        },
        "podLabels": {"team": "pod"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "another"},
        "serviceMonitor": {"enabled": true, "labels": {"release": "monitor"}},
        "prometheusRule": {"enabled": true, "labels": {"release": "rule"}},
        "dashboard": {"enabled": true},
        "watchNamespaces": ["team-a"],
    }));
    let label = |kind: &str, name: &str, label: &str| rendered.one(kind, name)["metadata"]["labels"][label].clone();
    assert_eq!(label("Deployment", "trainyard", "team"), "common");
    assert_eq!(label("ServiceMonitor", "trainyard", "release"), "monitor");
    assert_eq!(label("ServiceMonitor", "trainyard", "team"), "common");
    assert_eq!(label("PrometheusRule", "trainyard", "release"), "rule");
    assert_eq!(label("ConfigMap", "trainyard-dashboard", "grafana_dashboard"), "1");
    assert_eq!(label("Lease", "trainyard", "trainyard.dev/scope"), "namespace");
    let pod = &rendered.one("Deployment", "trainyard")["spec"]["template"]["metadata"];
    let labels = json!({
        "app.kubernetes.io/name": "trainyard", "app.kubernetes.io/instance": "trainyard",
        "app.kubernetes.io/component": "operator",
        "team": "pod", "tier": "common", "release": "common", "grafana_dashboard": "common",
    });
    assert_eq!(pod["labels"], labels, "and none that changes with the version, which would restart the pods");
    assert_eq!(pod["annotations"], json!({"kubectl.kubernetes.io/default-container": "another"}));
}

/// A text may be several objects, or none where its condition does not hold; Helm must not read its numbers anew.
#[test]
fn further_objects_may_be_texts() {
    let several = "---\n# the first\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n--- # and another\n\
                   apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {release: '{{ .Release.Name }}'}\n";
    let none = "{{- if .Values.watchNamespaces }}\nno: object\n{{- end }}\n";
    let user = "apiVersion: example.com/v1\nkind: Example\nmetadata: {name: c}\nspec: {runAsUser: 1000660000}\n";
    let rendered = render(&json!({"extraObjects": [several, none, user]}));
    assert_eq!(rendered.of("ConfigMap").count(), 2);
    assert_eq!(rendered.one("ConfigMap", "b")["data"]["release"], "trainyard");
    assert_eq!(rendered.one("Example", "c")["spec"]["runAsUser"], 1_000_660_000);
}
