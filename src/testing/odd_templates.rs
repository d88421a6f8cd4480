//! Pod templates of any JSON: each is either reported with its field, or becomes a pod with all that the operator adds.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::any_json::any_json;
use crate::api::{FailureLogs, ModelDeployment, PipelineDefinition, TrainingJob};
use crate::pipelines::build::{Attempt, Maker};
use crate::pipelines::validate::Work;
use crate::{pipelines, serving, training};

/// Names of fields that the operator looks at, so that odd values come to stand where they could hurt.
const FIELDS: [&str; 20] = [
    "metadata",
    "labels",
    "annotations",
    "spec",
    "containers",
    "initContainers",
    "volumes",
    "name",
    "env",
    "volumeMounts",
    "mountPath",
    "ports",
    "containerPort",
    "lifecycle",
    "preStop",
    "resources",
    "limits",
    "nvidia.com/gpu",
    "hostNetwork",
    "terminationGracePeriodSeconds",
];

fn odd() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z$().]{0,6}", Just("main".to_owned())];
    any_json(5, text, prop::sample::select(&FIELDS[..]).prop_map(str::to_owned))
}

fn sound() -> Value {
    let port = json!({"containerPort": 8080});
    json!({
        "metadata": {"labels": {"team": "vision"}, "annotations": {"kubectl.kubernetes.io/default-container": "main"}},
        "spec": {
            "hostNetwork": true,
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{"name": "fetch", "env": [{"name": "A", "value": "1"}], "volumeMounts": [{"mountPath": "/v"}]}],
            "containers": [
                {
                    "name": "main", "image": "i", "ports": [port], "env": [{"name": "B", "value": "2"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}], "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                    "resources": {"limits": {"nvidia.com/gpu": 1}}, "readinessProbe": {"tcpSocket": {"port": 8080}},
                },
                {"name": "proxy", "image": "p"},
            ],
        },
    })
}

/// Paths of all parts of a tree, as JSON pointers.
fn parts(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| parts(inner, &format!("{path}/{}", name.replace('/', "~1")), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| parts(inner, &format!("{path}/{index}"), found));
        }
        _ => {}
    }
}

/// A sound template in which one or two parts are something else.
fn nearly_sound() -> impl Strategy<Value = Value> {
    prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..3).prop_map(|changes| {
        let mut template = sound();
        for (at, value) in changes {
            let mut found = Vec::new();
            parts(&template, "", &mut found);
            if let Some(part) = template.pointer_mut(&found[at.index(found.len())]) {
                *part = value;
            }
        }
        template
    })
}

fn template() -> impl Strategy<Value = Value> {
    prop_oneof![4 => nearly_sound(), 1 => odd()]
}

fn object<K: serde::de::DeserializeOwned>(kind: &str, spec: Value) -> Option<K> {
    let metadata = json!({"name": "digits", "namespace": "ml", "uid": "0b7d"});
    let object = json!({"apiVersion": "trainyard.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    serde_json::from_value(object).ok()
}

/// Whether a container of a pod has that variable.
fn has_variable(spec: &Value, variable: &str) -> bool {
    let containers = spec["containers"].as_array().into_iter().flatten();
    containers.flat_map(|each| each["env"].as_array().into_iter().flatten()).any(|each| each["name"] == variable)
}

proptest! {
    #[test]
    fn a_job_is_reported_or_has_its_pods(template in template(), size in prop::option::of(Just("1Gi"))) {
        let spec = json!({"framework": "torch", "nodes": 2, "processesPerNode": "auto", "sharedMemory": size, "template": template});
        let Some(job) = object::<TrainingJob>("TrainingJob", spec) else { return Ok(()) };
        let Ok(valid) = training::validate::validate(&job) else { return Ok(()) };
        let pod = training::build::pod::build_pod(&valid, &valid.template.parse(), 1, 1);
        prop_assert_eq!(&pod["spec"]["restartPolicy"], "Never");
        prop_assert!(has_variable(&pod["spec"], "RANK"), "{}", pod);
    }

    #[test]
    fn a_deployment_is_reported_or_has_its_pods(template in template(), model in prop::option::of(Just(json!({"uri": "pvc://m/1"})))) {
        let Some(deployment) = object::<ModelDeployment>("ModelDeployment", json!({"model": model, "template": template})) else {
            return Ok(());
        };
        let Ok(valid) = serving::validate::validate(&deployment) else { return Ok(()) };
        let built = serving::build::revision::build_deployment(&valid, 1, &valid.content, 1);
        prop_assert!(has_variable(&built["spec"]["template"]["spec"], "TRAINYARD_REVISION"), "{}", built);
        serving::build::service::build_service(&valid, serving::build::service::ports(&valid.content, "http"));
        // What was recorded is read again, and a record of anything at all is no danger.
        let read = serving::content::Content::of_revision(&valid.content.data().to_string());
        prop_assert_eq!(read.as_ref(), Some(&valid.content));
    }

    #[test]
    fn a_record_of_any_json_is_read_without_harm(data in odd()) {
        serving::content::Content::of_revision(&data.to_string());
    }

    #[test]
    fn steps_are_reported_or_have_their_objects(template in template()) {
        let steps = json!([
            {"name": "run", "run": template},
            {"name": "train", "train": {"framework": "none", "template": template}},
            {"name": "deploy", "deploy": {"name": "digits", "spec": {"template": template}}},
        ]);
        for step in steps.as_array().into_iter().flatten() {
            let definition = json!({"files": {"size": "1Gi"}, "steps": [step]});
            let Ok(definition) = serde_json::from_value::<PipelineDefinition>(definition) else { continue };
            let Ok(valid) = pipelines::validate::validate(&definition, "spec", None) else { continue };
            let run = Maker { name: "digits-7", namespace: "ml", uid: "0b7d" };
            let attempt = Attempt { run, pipeline: &valid, step: "a", number: 1, token: "token" };
            match &valid.steps[0].work {
                Work::Run { template, container } => {
                    let template = template.parse();
                    let pod = pipelines::build::pod::build_pod(attempt, &template, container, FailureLogs::Tail);
                    prop_assert!(has_variable(&pod["spec"], "TRAINYARD_STEP"), "{}", pod);
                    prop_assert!(pod["spec"]["volumes"].is_array(), "{}", pod);
                }
                Work::Train(spec) => {
                    let job = pipelines::build::job::build_job(attempt, spec.parse());
                    prop_assert!(job["spec"]["template"]["spec"]["volumes"].is_array(), "{}", job);
                }
                Work::Deploy(_) => {}
            }
        }
    }
}
