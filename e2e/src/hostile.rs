//! What a tenant with rights in one namespace may put into the cluster to hurt the operator.
//!
//! Each input once stopped, blinded or filled the operator. Admission may refuse one; what it takes, the operator has to bear.

use anyhow::{Context, Result};
use http::{Request, header};
use kube::Client;
use serde_json::{Value, json};

/// On every object that test programs, whose types are Kubernetes' own, cannot read.
pub const UNREADABLE: &str = "e2e.trainyard.dev/unreadable";

/// Beyond what common types for times can hold.
const LATE: &str = "9999-12-31T23:59:59Z";

/// Deeper than JSON parsers go that recurse; kubectl and the apiserver take it.
const LEVELS: usize = 150;

/// An attack.
pub struct Input {
    /// What it is, in words.
    pub what: &'static str,
    /// Its objects, to be created in one namespace.
    pub objects: Vec<Value>,
}

fn input(what: &'static str, objects: impl IntoIterator<Item = Value>) -> Input {
    Input { what, objects: objects.into_iter().collect() }
}

/// All of them, small ones first.
pub fn inputs() -> Vec<Input> {
    vec![
        input("managedFields of the year 9999", ours().map(|(kind, spec)| late(object(kind, "late", spec)))),
        input("objects within objects", [deep(job("deep", container())), deep(deployment("deep", container()))]),
        input("a Lease of the year 9999", [lease()]),
        input("children that cannot be read", unreadable_children()),
        input("a default that is referred to 110,000 times", [laughs("laughs", 4096, 110_000)]),
        input("a long default that is referred to 60,000 times", [laughs("long-laughs", 600_000, 60_000)]),
        input("a long path to 60,000 references", [long_path()]),
        input("a template of 150,000 objects for 128 pods", [fat_job("trees", "x", json!(small_objects()))]),
        input("400,000 arguments for 128 pods", [fat_job("arguments", "args", json!(vec![""; 400_000]))]),
        input("40,000 variables for 128 pods", [fat_job("variables", "env", json!(variables()))]),
        input("defaults that are no scalars", (0..6).map(resident_pipeline)),
        input("arguments that are no scalars", (0..4).map(resident_run)),
        input("patterns that take long to compile", (0..2).map(patterns)),
        input("inline runs that are invalid", (0..20).map(invalid_run)),
        input("deployments of many words", [words(250_000, "a"), words(30_000, "a")]),
        input("fat pods with our labels", (0..40).map(fat_pod)),
        input("fat revisions of StatefulSets with our labels", (0..40).map(fat_stateful_set)),
    ]
}

/// The second edition of the deployments of many words: every word is another.
pub fn edited_words() -> Vec<Value> {
    vec![words(250_000, "b"), words(30_000, "b")]
}

/// Creates (POST), changes (PATCH, a merge) or deletes (DELETE) one of these objects, without reading the answer, which may be as
/// odd as the object.
///
/// # Errors
/// What the apiserver answered, if it refused.
pub async fn write(client: &Client, namespace: &str, method: &str, object: &Value) -> Result<()> {
    let collection = collection(object, namespace);
    let path = match method {
        "POST" => collection,
        _ => format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default()),
    };
    let body = if method == "DELETE" { json!({"gracePeriodSeconds": 0}) } else { object.clone() };
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(&path).header(header::CONTENT_TYPE, media);
    let request = request.body(body.to_string().into_bytes()).context("making a request")?;
    client.request_text(request).await.map(drop).with_context(|| format!("{method} {path}"))
}

fn collection(object: &Value, namespace: &str) -> String {
    let group = match object["apiVersion"].as_str().unwrap_or_default() {
        "v1" => "/api/v1".to_owned(),
        version => format!("/apis/{version}"),
    };
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    format!("{group}/namespaces/{namespace}/{kind}s")
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    let version = match kind {
        "Pod" => "v1",
        "Deployment" | "StatefulSet" => "apps/v1",
        "Lease" => "coordination.k8s.io/v1",
        _ => "trainyard.dev/v1alpha1",
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn container() -> Value {
    json!({"name": "c", "image": "example/hostile:1"})
}

fn job(name: &str, container: Value) -> Value {
    object("TrainingJob", name, json!({"framework": "none", "template": {"spec": {"containers": [container]}}}))
}

fn deployment(name: &str, mut container: Value) -> Value {
    container["ports"] = json!([{"containerPort": 8080}]);
    object("ModelDeployment", name, json!({"template": {"spec": {"containers": [container]}}}))
}

fn step() -> Value {
    json!({"name": "s", "run": {"spec": {"containers": [container()]}}})
}

/// A valid spec of each kind of ours.
fn ours() -> impl Iterator<Item = (&'static str, Value)> {
    let spec = |mut object: Value| object["spec"].take();
    [
        ("TrainingJob", spec(job("", container()))),
        ("ModelDeployment", spec(deployment("", container()))),
        ("Pipeline", json!({"steps": [step()]})),
        ("PipelineRun", json!({"pipelineRef": {"name": "none-such"}})),
    ]
    .into_iter()
}

/// The object, said to have been changed at a time that few types can hold. The apiserver keeps what a client
/// says of other managers.
fn late(mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{
        "manager": "m", "operation": "Update", "apiVersion": object["apiVersion"], "time": LATE,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}},
    }]);
    object
}

/// The object with a field of its pods' spec so deep that managedFields, which mirror it, are as deep.
fn deep(mut object: Value) -> Value {
    object["spec"]["template"]["spec"]["x"] = (1..LEVELS).fold(json!({}), |inner, _| json!({"a": inner}));
    object
}

fn lease() -> Value {
    let mut lease = object(
        "Lease",
        "trainyard",
        json!({"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": "9999-12-31T23:59:59.000000Z"}),
    );
    lease["metadata"]["labels"] = json!({"trainyard.dev/scope": "namespace"});
    lease
}

/// A pod that no node ever gets.
fn pod(name: &str) -> Value {
    let gates = json!([{"name": "example.com/never"}]);
    object("Pod", name, json!({"schedulingGates": gates, "containers": [container()]}))
}

fn unreadable_children() -> [Value; 2] {
    let mut pod = late(pod("unreadable"));
    pod["metadata"]["labels"] = json!({"trainyard.dev/job": "x", "trainyard.dev/run": "x", (UNREADABLE): "yes"});
    let labels = json!({"a": "b"});
    let template =
        json!({"metadata": {"labels": labels, "creationTimestamp": LATE}, "spec": {"containers": [container()]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    let mut deployment = object("Deployment", "unreadable", spec);
    deployment["metadata"]["labels"] = json!({"trainyard.dev/deployment": "x", (UNREADABLE): "yes"});
    [pod, deployment]
}

fn laughs(name: &str, length: usize, references: usize) -> Value {
    let mut step = step();
    step["run"]["spec"]["containers"][0]["args"] = json!(["$(params.a)".repeat(references)]);
    let parameters = json!([{"name": "a", "default": "x".repeat(length)}]);
    object("Pipeline", name, json!({"parameters": parameters, "steps": [step]}))
}

fn long_path() -> Value {
    let mut step = step();
    step["run"]["spec"]["x"] = json!([{("k".repeat(700_000)): "$(run.name)".repeat(60_000)}]);
    object("Pipeline", "paths", json!({"steps": [step]}))
}

/// 1.2 MB as text, a hundred times that as a tree.
fn small_objects() -> Vec<Value> {
    vec![json!({"a": 0}); 150_000]
}

fn variables() -> Vec<Value> {
    (0..40_000).map(|number| json!({"name": format!("A{number}"), "value": ""})).collect()
}

/// A job of 128 pods with a field in the container, or, where Kubernetes knows no such field, in the pod.
fn fat_job(name: &str, field: &str, value: Value) -> Value {
    let mut job = job(name, container());
    job["spec"]["nodes"] = json!(128);
    let pod = &mut job["spec"]["template"]["spec"];
    let place = if field == "x" { pod } else { &mut pod["containers"][0] };
    place[field] = value;
    job
}

fn resident_pipeline(number: usize) -> Value {
    let parameters = json!([{"name": "a", "default": small_objects()}]);
    object("Pipeline", &format!("resident-{number}"), json!({"parameters": parameters, "steps": [step()]}))
}

fn resident_run(number: usize) -> Value {
    let arguments = json!([{"name": "a", "value": small_objects()}]);
    let spec = json!({"pipelineRef": {"name": "none-such"}, "arguments": arguments});
    object("PipelineRun", &format!("resident-{number}"), spec)
}

fn patterns(number: usize) -> Value {
    let when = [r"''.matches(r'\w{999}')"; 40].join("||");
    let steps: Vec<Value> = (0..500)
        .map(|step| {
            json!({
                "name": format!("s{step}"), "when": when, "run": {"spec": {"containers": [container()]}},
            })
        })
        .collect();
    object("Pipeline", &format!("patterns-{number}"), json!({"steps": steps}))
}

fn invalid_run(number: usize) -> Value {
    let mut step = step();
    step["dependsOn"] = json!(["nobody"]);
    object("PipelineRun", &format!("invalid-{number}"), json!({"pipeline": {"steps": [step]}}))
}

fn words(number: usize, word: &str) -> Value {
    let mut container = container();
    container["args"] = json!(vec![word; number]);
    deployment(&format!("words-{number}"), container)
}

/// Without pods: its controller puts the labels and the template into a ControllerRevision all the same.
fn fat_stateful_set(number: usize) -> Value {
    let labels = json!({"trainyard.dev/deployment": "x", "trainyard.dev/run": "x", "app": "fat"});
    let container = json!({"name": "c", "image": "example/hostile:1", "args": ["z".repeat(1_200_000)]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let selector = json!({"matchLabels": {"app": "fat"}});
    object(
        "StatefulSet",
        &format!("fat-{number}"),
        json!({"replicas": 0, "serviceName": "", "selector": selector, "template": template}),
    )
}

fn fat_pod(number: usize) -> Value {
    let mut pod = pod(&format!("fat-{number}"));
    pod["metadata"]["labels"] = json!({"trainyard.dev/job": "x", "trainyard.dev/run": "x", (UNREADABLE): "yes"});
    pod["spec"]["containers"][0]["args"] = json!(["y".repeat(1_300_000)]);
    pod
}
