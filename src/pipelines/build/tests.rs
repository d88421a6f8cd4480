use serde_json::{Value, json};

use super::*;
use crate::api::FailureLogs;
use crate::pipelines::validate::validate;

#[track_caller]
fn assert_snapshot(name: &str, object: &Value) {
    insta::with_settings!({omit_expression => true}, { insta::assert_yaml_snapshot!(name, object) });
}

const RUN: Maker = Maker { name: "digits-7", namespace: "ml", uid: "0b7d" };

fn pipeline(files: Value) -> ValidPipeline {
    let step = json!({"name": "a", "run": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let definition = serde_json::from_value(json!({"files": files, "steps": [step]})).unwrap();
    validate(&definition, "spec", None).unwrap()
}

#[test]
fn a_pod_is_the_template_with_what_the_step_needs() {
    let pipeline = pipeline(json!({"claim": "digits", "mountPath": "/data"}));
    let attempt = Attempt { run: RUN, pipeline: &pipeline, step: "prepare", number: 2, token: "tok3n" };
    let template = json!({
        "metadata": {"labels": {"team": "vision"}, "annotations": {"note": "n"}},
        "spec": {
            "aFieldOfTomorrow": {"kept": true},
            "initContainers": [{"name": "init", "image": "i"}],
            "containers": [
                {"name": "main", "image": "m", "env": [{"name": "A", "value": "$(TRAINYARD_RUN)"}], "terminationMessagePolicy": "File"},
                {"name": "sidecar", "image": "s"},
            ],
        },
    });
    assert_snapshot("pod", &pod::build_pod(attempt, &template, "main", FailureLogs::Tail));
    let silent = pod::build_pod(attempt, &template, "main", FailureLogs::None);
    assert_eq!(silent["spec"]["initContainers"][0]["terminationMessagePolicy"], Value::Null);
}

#[test]
fn a_job_is_the_spec_with_the_files() {
    let pipeline = pipeline(json!({"size": "10Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}));
    let attempt = Attempt { run: RUN, pipeline: &pipeline, step: "a-step-with-a-long-name", number: 1, token: "tok3n" };
    let spec =
        json!({"framework": "torch", "nodes": 2, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    assert_snapshot("job", &job::build_job(attempt, spec.clone()));
    // A pipeline that was recorded before the value had its name.
    let mut old = spec;
    set(&mut old, "failureLogs", "Off");
    assert_eq!(job::build_job(attempt, old)["spec"]["failureLogs"], "None");
    assert_snapshot("claim", &claim::build_claim(RUN, pipeline.files.as_ref().unwrap()).unwrap());
}

#[test]
fn a_deployment_belongs_to_nobody_and_says_who_deployed_it() {
    let spec = json!({"replicas": 2, "failureLogs": "Off"});
    assert_snapshot("deployment", &deployment::build_deployment(RUN, "deploy", "digits", "pipeline-uid", spec));
}

#[test]
fn a_record_says_what_is_run() {
    let definition: crate::api::PipelineDefinition = serde_json::from_value(json!({
        "parameters": [{"name": "epochs", "type": "integer"}],
        "steps": [{"name": "a", "run": {"spec": {"containers": [{"name": "c", "aFieldOfTomorrow": 1}]}}}],
    }))
    .unwrap();
    let pipeline = crate::api::pipeline_run::PipelineIdentity {
        name: Some("digits".into()),
        uid: Some("pipeline-uid".into()),
        generation: Some(3),
        hash: record::hash(&definition),
    };
    let parameters = [("epochs".to_owned(), json!(20))].into();
    let started_by = Some("kubectl-create".into());
    let record = record::Record { pipeline, started_by, parameters, spec: definition };
    let object = record::build_record(RUN, &record);
    assert_eq!(serde_json::from_value::<record::Record>(object["data"].clone()).unwrap(), record);
    assert_snapshot("record", &object);
}
