//! `config/kustomize`: kustomize follows references in our kinds' templates.

use std::collections::BTreeMap;
use std::fs;

use e2e::operator::source_tree;
use serde_json::{Value, json};

use crate::tools::{Rendered, kustomize};

const FILE: &str = "config/kustomize/references.yaml";

/// Where the specs of pods are in each of our kinds.
fn pod_specs() -> Vec<(&'static str, String)> {
    let templates = ["TrainingJob", "ModelDeployment"].map(|kind| (kind, "spec/template/spec".to_owned()));
    let in_steps = steps().into_iter().flat_map(|(kind, step)| {
        ["run/spec", "train/template/spec", "deploy/spec/template/spec"].map(|place| (kind, format!("{step}/{place}")))
    });
    templates.into_iter().chain(in_steps).collect()
}

/// Where steps are.
fn steps() -> Vec<(&'static str, String)> {
    let lists = |(kind, definition): (&'static str, String)| {
        ["steps", "finally"].map(|list| (kind, format!("{definition}/{list}")))
    };
    definitions().into_iter().flat_map(lists).collect()
}

/// Where definitions of pipelines are.
fn definitions() -> [(&'static str, String); 2] {
    [("Pipeline", "spec".to_owned()), ("PipelineRun", "spec/pipeline".to_owned())]
}

/// The paths below each place.
fn below(places: Vec<(&'static str, String)>, paths: &[&str]) -> Vec<(&'static str, String)> {
    let all = |(kind, place): (&'static str, String)| paths.iter().map(move |path| (kind, format!("{place}/{path}")));
    places.into_iter().flat_map(all).collect()
}

/// Paths within a container of either kind, and those within the pod's spec.
fn in_pods(container: &[&str], pod: &[&str]) -> Vec<(&'static str, String)> {
    let containers = ["initContainers", "containers"];
    let paths: Vec<String> =
        containers.iter().flat_map(|list| container.iter().map(move |path| format!("{list}/{path}"))).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).chain(pod.iter().copied()).collect();
    below(pod_specs(), &paths)
}

/// `fieldSpecs` of our kinds.
fn fields(places: Vec<(&'static str, String)>) -> Value {
    let field = |(kind, path): (&str, String)| json!({"group": "trainyard.dev", "kind": kind, "path": path});
    places.into_iter().map(field).collect()
}

/// kustomize's transformer configuration.
fn configuration() -> Value {
    let reference =
        |kind: &str, version: &str, places| json!({"kind": kind, "version": version, "fieldSpecs": fields(places)});
    let ours = |kind: &str, fields: Value| json!({"kind": kind, "group": "trainyard.dev", "fieldSpecs": fields});
    let claims =
        [in_pods(&[], &["volumes/persistentVolumeClaim/claimName"]), below(definitions().into(), &["files/claim"])];
    let mut models = fields(below(steps(), &["deploy/name"]));
    let scaled = json!({"kind": "HorizontalPodAutoscaler", "path": "spec/scaleTargetRef/name"});
    models.as_array_mut().expect("a list").push(scaled);
    json!({
        "nameReference": [
            reference("ConfigMap", "v1", in_pods(
                &["env/valueFrom/configMapKeyRef/name", "envFrom/configMapRef/name"],
                &["volumes/configMap/name", "volumes/projected/sources/configMap/name"],
            )),
            reference("Secret", "v1", in_pods(
                &["env/valueFrom/secretKeyRef/name", "envFrom/secretRef/name"],
                &["imagePullSecrets/name", "volumes/secret/secretName", "volumes/projected/sources/secret/name", "volumes/csi/nodePublishSecretRef/name"],
            )),
            reference("ServiceAccount", "v1", in_pods(&[], &["serviceAccountName"])),
            reference("PersistentVolumeClaim", "v1", claims.concat()),
            reference("PriorityClass", "v1", in_pods(&[], &["priorityClassName"])),
            ours("Pipeline", fields(vec![("PipelineRun", "spec/pipelineRef/name".to_owned())])),
            ours("ModelDeployment", models),
        ],
        "varReference": fields(in_pods(&["command", "args", "env/value"], &[])),
    })
}

#[test]
fn the_configuration_has_every_place_of_a_template() {
    let generated = trainyard::manifests::yaml(&[configuration()]).expect("JSON can be written as YAML");
    let path = source_tree().join(FILE);
    if std::env::var_os("TRAINYARD_UPDATE").is_some() {
        fs::write(&path, &generated).expect("the file can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{FILE} is not what this test makes: see the head of main.rs");
}

/// Every value of a key, wherever it is.
fn values_of<'a>(object: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match object {
        Value::Array(items) => items.iter().for_each(|item| values_of(item, key, found)),
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|value| values_of(value, key, found));
        }
        _ => {}
    }
}

/// Names of the objects of a kind as the overlay has made them, by what they were called.
fn renamed(rendered: &Rendered) -> BTreeMap<&'static str, String> {
    let one = |kind: &str, was: &str| {
        let mut names = rendered.of(kind).filter_map(|object| object["metadata"]["name"].as_str());
        let begin = format!("dev-{was}");
        names.find(|name| name.starts_with(&begin)).unwrap_or_else(|| panic!("no {kind} {was}")).to_owned()
    };
    [
        ("settings", one("ConfigMap", "settings")),
        ("token", one("Secret", "token")),
        ("robot", one("ServiceAccount", "robot")),
        ("data", one("PersistentVolumeClaim", "data")),
        ("urgent", one("PriorityClass", "urgent")),
        ("daily", one("Pipeline", "daily")),
        ("digits", one("ModelDeployment", "digits")),
    ]
    .into()
}

/// An overlay with a prefix, generated ConfigMap and Secret, another image and a var, over all our kinds.
#[test]
fn an_overlay_with_a_prefix_fits_together() {
    let rendered = kustomize("e2e/tests/chart/overlay");
    let names = renamed(&rendered);
    assert!(
        names["settings"].len() > "dev-settings-".len() && names["token"].len() > "dev-token-".len(),
        "hashes: {names:?}"
    );
    let ours = ["TrainingJob", "ModelDeployment", "Pipeline", "PipelineRun"];
    let mut counts = BTreeMap::new();
    for object in ours.iter().flat_map(|kind| rendered.of(kind)) {
        for (reference, key, was) in [
            ("configMapRef", "name", "settings"),
            ("configMapKeyRef", "name", "settings"),
            ("configMap", "name", "settings"),
            ("secretRef", "name", "token"),
            ("secret", "secretName", "token"),
            ("persistentVolumeClaim", "claimName", "data"),
            ("files", "claim", "data"),
            ("pipelineRef", "name", "daily"),
            ("deploy", "name", "digits"),
        ] {
            let mut holders = Vec::new();
            objects_at(object, reference, &mut holders);
            for holder in holders {
                assert_eq!(holder[key], names[was].as_str(), "{reference} in {object}");
                *counts.entry(reference).or_insert(0) += 1;
            }
        }
        for (key, was) in [
            ("serviceAccountName", names["robot"].as_str()),
            ("priorityClassName", &names["urgent"]),
            ("image", "registry.example.com/train:2.0"),
        ] {
            let mut found = Vec::new();
            values_of(object, key, &mut found);
            assert!(found.iter().all(|value| *value == was), "{key} in {object}");
            *counts.entry(key).or_insert(0) += found.len();
        }
        let text = object.to_string();
        assert!(!text.contains("$(BATCH)"), "a var that was not replaced in {text}");
    }
    // A template in each of TrainingJob and ModelDeployment, three steps and one of `finally` in Pipeline and PipelineRun.
    for place in ["configMapRef", "image", "serviceAccountName"] {
        assert_eq!(counts[place], 10, "{place}");
    }
    assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    assert_eq!(rendered.one("HorizontalPodAutoscaler", "dev-digits")["spec"]["scaleTargetRef"]["name"], "dev-digits");
}

/// The objects at a key, wherever it is.
fn objects_at<'a>(object: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match object {
        Value::Array(items) => items.iter().for_each(|item| objects_at(item, key, found)),
        Value::Object(map) => {
            found.extend(map.get(key).filter(|value| value.is_object()));
            map.values().for_each(|value| objects_at(value, key, found));
        }
        _ => {}
    }
}
