//! `config/` installs what the chart's defaults do, without Helm.

use std::fs;

use e2e::operator::source_tree;
use serde_json::{Value, json};

use crate::tools::{Rendered, kustomize, render};

/// What only Helm reads or writes.
const HELM_LABELS: [&str; 2] = ["app.kubernetes.io/managed-by", "helm.sh/chart"];
const HELM_ANNOTATION: &str = "helm.sh/resource-policy";
/// The files that are made from the chart, in the order in which people read them.
const FILES: [&str; 6] =
    ["rbac.yaml", "aggregated-roles.yaml", "policies.yaml", "priority.yaml", "lease.yaml", "operator.yaml"];

/// The chart's objects as somebody without Helm has them.
fn without_helm(rendered: Rendered) -> Rendered {
    let mut objects = rendered.0;
    for object in objects.values_mut() {
        let metadata = &mut object["metadata"];
        if let Some(labels) = metadata["labels"].as_object_mut() {
            labels.retain(|label, _| !HELM_LABELS.contains(&label.as_str()));
        }
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { continue };
        annotations.remove(HELM_ANNOTATION);
        if annotations.is_empty() {
            metadata.as_object_mut().map(|metadata| metadata.remove("annotations"));
        }
    }
    Rendered(objects)
}

/// The file that an object is in; none for the CRDs, which have a folder of their own.
fn file(object: &Value) -> Option<&'static str> {
    let aggregated = object["metadata"]["name"] != "trainyard";
    Some(match object["kind"].as_str().unwrap_or_default() {
        "CustomResourceDefinition" => return None,
        "ClusterRole" if aggregated => "aggregated-roles.yaml",
        "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => "rbac.yaml",
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => "policies.yaml",
        "FlowSchema" => "priority.yaml",
        "Lease" => "lease.yaml",
        "Deployment" | "Service" | "NetworkPolicy" => "operator.yaml",
        other => panic!("no file for a {other}"),
    })
}

/// ServiceAccounts before what binds them, policies before their bindings: as a person would apply them.
fn order(object: &Value) -> usize {
    const KINDS: [&str; 9] = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ValidatingAdmissionPolicy",
        "Deployment",
        "Service",
        "NetworkPolicy",
    ];
    KINDS.iter().position(|kind| object["kind"] == *kind).unwrap_or(KINDS.len())
}

#[test]
fn the_files_of_the_base_are_made_from_the_chart() {
    let rendered = without_helm(render(&json!({})));
    for name in FILES {
        let mut objects: Vec<Value> =
            rendered.0.values().filter(|object| file(object) == Some(name)).cloned().collect();
        objects.sort_by_key(order);
        let generated = trainyard::manifests::yaml(&objects).expect("JSON can be written as YAML");
        let path = source_tree().join("config/base").join(name);
        if std::env::var_os("TRAINYARD_UPDATE").is_some() {
            fs::write(&path, &generated).expect("the manifest can be written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "{} is not what the chart renders: see the head of main.rs", path.display());
    }
}

/// Fails with the first object that differs.
#[track_caller]
fn assert_equal(kustomized: &Rendered, charted: &Rendered) {
    let ids = |rendered: &Rendered| rendered.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(kustomized), ids(charted), "the same objects");
    for (id, object) in &kustomized.0 {
        assert_eq!(object, &charted.0[id], "{id:?}: as kustomize has it, and as the chart has it");
    }
}

/// Takes the Namespace out, which is the one object that Helm leaves to `--create-namespace`.
fn without_namespace(mut rendered: Rendered) -> Rendered {
    let id = ("Namespace".to_owned(), String::new(), "trainyard-system".to_owned());
    let namespace = rendered.0.remove(&id).expect("the namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    rendered
}

#[test]
fn the_base_is_what_the_chart_installs() {
    assert_equal(&without_namespace(kustomize("config/base")), &without_helm(render(&json!({}))));
}

/// Without its resource definitions, which would take every object of a user with them.
#[test]
fn what_the_readme_deletes_is_what_the_base_installs() {
    let readme = fs::read_to_string(source_tree().join("README.md")).expect("the README");
    let (_, after) = readme.split_once("`kubectl delete clusterroles").expect("how it is removed");
    let (kinds, _) = after.split_once(" -l app.kubernetes.io/instance=trainyard`").expect("by their label");
    let plurals: Vec<String> = format!("clusterroles{kinds}").split(',').map(str::to_owned).collect();
    let plural = |object: &Value| {
        let singular = object["kind"].as_str().expect("a kind").to_lowercase();
        singular.strip_suffix('y').map_or(format!("{singular}s"), |stem| format!("{stem}ies"))
    };
    for ((kind, namespace, name), object) in &without_namespace(kustomize("config/base")).0 {
        let goes = namespace == "trainyard-system" || plurals.contains(&plural(object));
        assert_eq!(goes, kind != "CustomResourceDefinition", "{kind} {name}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "trainyard", "{kind} {name}");
    }
}

#[test]
fn the_overlay_for_a_namespace_is_what_the_chart_installs() {
    let charted = without_helm(render(&json!({"watchNamespaces": ["team-a"]})));
    assert_equal(&without_namespace(kustomize("config/namespaced")), &charted);
}
