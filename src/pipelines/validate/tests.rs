use serde_json::{Value, json};

use super::*;
use crate::cluster::problem::told;

fn pipeline(definition: Value) -> PipelineDefinition {
    serde_json::from_value(definition).unwrap()
}

/// A step that runs a pod, with further fields.
fn step(name: &str, further: Value) -> Value {
    let mut step = json!({"name": name});
    if ["run", "train", "deploy"].iter().all(|work| further.get(work).is_none()) {
        step["run"] = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    }
    json_patch::merge(&mut step, &further);
    step
}

fn with_args(args: &[&str]) -> Value {
    json!({"run": {"spec": {"containers": [{"name": "c", "image": "i", "args": args}]}}})
}

fn problems(definition: Value) -> String {
    validate(&pipeline(definition), "spec", None).err().map(|problems| told(&problems)).unwrap_or_default()
}

#[test]
fn steps_come_in_order_with_their_defaults() {
    let valid = validate(
        &pipeline(json!({
            "files": {"size": "1Gi"},
            "steps": [
                step("b", json!({"dependsOn": ["a"], "retries": {"limit": 2}, "timeout": "90s"})),
                step("a", json!({})),
            ],
            "finally": [step("z", json!({"when": "steps.b.state == 'Failed'"}))],
        })),
        "spec",
        None,
    )
    .unwrap();
    let names: Vec<(&str, bool)> = valid.steps.iter().map(|step| (step.name.as_str(), step.is_final)).collect();
    assert_eq!(names, [("a", false), ("b", false), ("z", true)]);
    let retried = &valid.steps[1];
    assert_eq!((retried.retries, retried.backoff, retried.max_backoff), (2, DEFAULT_BACKOFF, DEFAULT_MAX_BACKOFF));
    assert_eq!(retried.timeout, Some(SignedDuration::from_secs(90)));
    let files = valid.files.unwrap();
    assert_eq!(files.mount_path, "/mnt/files");
    assert!(matches!(files.claim, Claim::Made { access_modes, .. } if access_modes == ["ReadWriteOnce"]));
}

#[test]
fn each_problem_names_field_value_and_remedy() {
    let accuracy = json!([{"name": "accuracy", "type": "number"}]);
    let deploy = |spec: Value| json!({"deploy": {"name": "m", "spec": spec}});
    let serving = json!({"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}});
    let cases = [
        (json!({"steps": []}), "spec.steps: []: give at least one step"),
        (
            json!({"steps": (0..501).map(|index| step(&format!("s{index}"), json!({}))).collect::<Vec<_>>()}),
            "spec.steps: 501 of them: give at most 500",
        ),
        (json!({"steps": [step("A", json!({}))]}), "spec.steps[0].name: A: rename it"),
        (
            json!({"steps": [step("a", json!({})), step("a", json!({}))]}),
            "spec.steps: two steps are named a: give each",
        ),
        (
            json!({"steps": [step("a", json!({}))], "finally": [step("a", json!({}))]}),
            "spec.finally[0].name: a: rename it: one of steps has this name",
        ),
        (json!({"steps": [step("a", json!({"dependsOn": ["b"]}))]}), "spec.steps[0].dependsOn: b: name a step"),
        (
            json!({"steps": [step("a", json!({"dependsOn": ["b"]})), step("b", json!({"dependsOn": ["a"]}))]}),
            "spec.steps: a -> b -> a (each depends on the next): remove one",
        ),
        (
            json!({"steps": [step("a", json!({}))], "finally": [step("z", json!({"dependsOn": ["a"]}))]}),
            "spec.finally[0].dependsOn: a: name a step of finally",
        ),
        (json!({"steps": [{"name": "a"}]}), "spec.steps[0]: nothing to do: give exactly one of run, train and deploy"),
        (
            json!({"steps": [step("a", json!({"run": {"spec": {}}, "train": {}}))]}),
            "spec.steps[0]: run and train: give exactly one",
        ),
        (json!({"steps": [step("a", json!({"timeout": "0s"}))]}), "spec.steps[0].timeout: less than 1s: set"),
        (json!({"timeout": "-1s", "steps": [step("a", json!({}))]}), "spec.timeout: a negative time: set"),
        (json!({"steps": [step("a", json!({"retries": {"limit": -1}}))]}), "spec.steps[0].retries.limit: -1: set"),
        (
            json!({"steps": [step("a", json!({"outputs": [{"name": "x"}, {"name": "x"}]}))]}),
            "spec.steps[0].outputs[1].name: x: declare each output once",
        ),
        (json!({"steps": [step("a", json!({"outputs": [{"name": "1x"}]}))]}), "spec.steps[0].outputs[0].name: 1x: "),
        (json!({"steps": [step("a", json!({"when": "1 + 1"}))]}), "spec.steps[0].when: 1 + 1: write an expression"),
        (
            json!({"steps": [step("a", json!({"outputs": accuracy})), step("b", json!({"when": "steps.a.outputs.accuracy > 0.5"}))]}),
            "spec.steps[1].when: steps.a.outputs.accuracy > 0.5: steps.a: no such step has ended by then",
        ),
        (
            json!({"steps": [step("a", json!({"outputs": accuracy})), step("b", with_args(&["$(steps.a.outputs.accuracy)"]))]}),
            "spec.steps[1].run.spec.containers[0].args[0]: $(steps.a.outputs.accuracy): name a in dependsOn",
        ),
        (
            json!({"steps": [step("a", with_args(&["$(params.x)"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: $(params.x): add the parameter",
        ),
        (
            json!({"steps": [step("a", with_args(&["$(steps.a.accuracy)"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: $(steps.a.accuracy): write $(params.NAME)",
        ),
        (
            json!({"steps": [step("a", json!({"run": {"metadata": {"namespace": "x"}, "spec": {"containers": [{"name": "c"}]}}}))]}),
            "spec.steps[0].run.metadata.namespace: \"x\": remove it",
        ),
        (
            json!({"steps": [step("a", json!({"run": {"spec": {"containers": [{"name": "c"}, {"name": "d"}]}}}))]}),
            "spec.steps[0].run.metadata.annotations[kubectl.kubernetes.io/default-container]: missing",
        ),
        (
            json!({"steps": [step("a", json!({"train": {"framework": "none", "nodes": 0, "template": {"spec": {"containers": [{"name": "c"}]}}}}))]}),
            "spec.steps[0].train.nodes: 0: set a number",
        ),
        (
            json!({"steps": [step("a", json!({"train": {"framework": "none"}}))]}),
            "spec.steps[0].train: missing field `template`",
        ),
        (
            json!({"steps": [step("a", deploy(json!({"replicas": -1, "template": serving["template"]})))]}),
            "spec.steps[0].deploy.spec.replicas: -1: set",
        ),
        (
            json!({"steps": [step("a", json!({"deploy": {"name": "m", "spec": serving}, "retries": {"limit": 1}}))]}),
            "spec.steps[0].retries: set: remove it",
        ),
        (
            json!({"steps": [step("a", deploy(serving.clone())), step("b", deploy(serving.clone()))]}),
            "spec.steps[1].deploy.name: m: name one in dependsOn of the other: step a deploys it too",
        ),
        (json!({"files": {}, "steps": [step("a", json!({}))]}), "spec.files: neither claim nor size: give either"),
        (
            json!({"files": {"size": "1Gi", "mountPath": "files"}, "steps": [step("a", json!({}))]}),
            "spec.files.mountPath: files: give an absolute path",
        ),
        (
            json!({"files": {"claim": "c"}, "steps": [step("a", json!({"run": {"spec": {"containers": [
                {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/mnt/files/"}]},
            ]}}}))]}),
            "spec.steps[0].run: a mount at /mnt/files: remove it, or set files.mountPath",
        ),
        (
            json!({"files": {"size": "0Gi"}, "steps": [step("a", json!({}))]}),
            "spec.files.size: 0Gi: give a size above 0",
        ),
        (
            json!({"files": {"size": "1Gi", "accessModes": ["Often"]}, "steps": [step("a", json!({}))]}),
            "spec.files.accessModes: Often: give one of ReadWriteOnce",
        ),
        (
            json!({"parameters": [{"name": "n"}], "steps": [step("a", json!({"run": {"spec": {"containers": [{"name": "$(params.n)"}]}}}))]}),
            "spec.steps[0].run.spec.containers[0].name: a reference: write the name out",
        ),
        (
            json!({"steps": [step("a", json!({"train": {
                "framework": "none", "deleteAfterFinished": "1h", "template": {"spec": {"containers": [{"name": "c"}]}},
            }}))]}),
            "spec.steps[0].train.deleteAfterFinished: \"1h\": remove it",
        ),
        (
            json!({"parameters": [{"name": "x", "type": "integer", "default": "1"}], "steps": [step("a", json!({}))]}),
            "spec.parameters[0].default: \"1\": give a whole number",
        ),
    ];
    for (definition, expected) in cases {
        let told = problems(definition.clone());
        assert!(told.starts_with(expected), "{told}\ninstead of {expected}");
    }
}

#[test]
fn what_depends_on_values_is_checked_when_they_are_known() {
    let definition = json!({
        "parameters": [{"name": "uri"}, {"name": "limit"}, {"name": "nodes", "type": "integer"}],
        "steps": [
            step("train", json!({"train": {
                "framework": "none", "nodes": "$(params.nodes)", "activeDeadline": "$(params.limit)", "template": {"spec": {"containers": [{"name": "c"}]}},
            }})),
            step("deploy", json!({"deploy": {"name": "m", "spec": {
                "model": {"uri": "$(params.uri)"},
                "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}},
            }}})),
        ],
    });
    assert_eq!(problems(definition), "", "a sample of text is no URI, and nothing is said of it");
}

#[test]
fn a_deploy_step_reports_where_the_model_answers() {
    let definition = json!({"steps": [
        step("deploy", json!({"deploy": {"name": "m", "spec": {
            "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}},
        }}})),
        step("ask", {
            let mut ask = with_args(&["$(steps.deploy.outputs.url)"]);
            ask["dependsOn"] = json!(["deploy"]);
            ask["when"] = "steps.deploy.outputs.revision > 1".into();
            ask
        }),
    ]});
    assert_eq!(problems(definition), "");
}

#[test]
fn what_documents_and_samples_show_makes_sense() {
    let readme = include_str!("../../../README.md");
    let shown = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let samples = ["pipeline.yaml", "digits-pipeline.yaml"].map(|file| {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples").join(file))
            .unwrap()
    });
    let mut seen = 0;
    for text in shown.chain(samples.iter().flat_map(|text| text.split("\n---\n"))) {
        if text.contains("kind: Pipeline\n") {
            let pipeline: crate::api::Pipeline = serde_saphyr::from_str(text).unwrap();
            assert_eq!(validate(&pipeline.spec.definition, "spec", None).err(), None);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}
