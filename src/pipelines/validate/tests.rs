mod fields;

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
    let train = |further: Value| {
        let mut spec = json!({"framework": "torch", "template": {"spec": {"containers": [{"name": "c"}]}}});
        json_patch::merge(&mut spec, &further);
        json!({"train": spec})
    };
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
            "spec.steps[0].run.spec.containers[0].args[0]: $(params.x): add the parameter: the pipeline has none",
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
            "spec.steps[0].train.template: missing: add it",
        ),
        (
            json!({"steps": [step("a", train(json!({"node": 2})))]}),
            "spec.steps[0].train.node: there is no such field: rename it to nodes, or remove it",
        ),
        (
            json!({"steps": [step("a", train(json!({"failurePolicy": {"maxRestart": 2}})))]}),
            "spec.steps[0].train.failurePolicy.maxRestart: there is no such field: rename it to maxRestarts",
        ),
        (
            json!({"steps": [step("a", train(json!({"nodes": "2"})))]}),
            "spec.steps[0].train.nodes: \"2\": give a whole number, without quotes",
        ),
        (
            json!({"steps": [step("a", train(json!({"nodes": 2.5})))]}),
            "spec.steps[0].train.nodes: 2.5: give a whole number",
        ),
        (
            json!({"steps": [step("a", train(json!({"nodes": 3_000_000_000_u64})))]}),
            "spec.steps[0].train.nodes: 3000000000: give a whole number",
        ),
        (
            json!({"steps": [step("a", train(json!({"activeDeadline": "1d"})))]}),
            "spec.steps[0].train.activeDeadline: \"1d\": give a time such as 90s, 10m or 24h",
        ),
        (
            json!({"steps": [step("a", train(json!({"framework": "pytorch"})))]}),
            "spec.steps[0].train.framework: \"pytorch\": give one of \"torch\", \"none\"",
        ),
        (
            json!({"steps": [step("a", train(json!({"framework": null, "framwork": "torch"})))]}),
            "spec.steps[0].train.framwork: there is no such field: rename it to framework",
        ),
        (
            json!({"steps": [step("a", train(json!({"suspend": true})))]}),
            "spec.steps[0].train.suspend: true: remove it: the run would wait for ever",
        ),
        (
            json!({"steps": [step("a", train(json!({"processesPerNode": "fast"})))]}),
            "spec.steps[0].train.processesPerNode: ",
        ),
        (
            json!({"steps": [step("a", deploy(json!({"replica": 2, "template": serving["template"]})))]}),
            "spec.steps[0].deploy.spec.replica: there is no such field: rename it to replicas",
        ),
        (
            json!({"steps": [step("a", deploy(json!({"rollout": {"maxSurge": "half"}, "template": serving["template"]})))]}),
            "spec.steps[0].deploy.spec.rollout.maxSurge: \"half\" is neither a number nor such as 25%",
        ),
        (
            json!({"steps": [step("a", json!({"run": {"metadata": {"labels": {"a": 1}}, "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": 1}]}]}}}))]}),
            "spec.steps[0].run.metadata.labels.a: 1: give text, in quotes where YAML takes it for something else; \
             spec.steps[0].run.spec.containers[0].env[0].value: 1: give text",
        ),
        (
            json!({"parameters": [{"name": "uid"}], "steps": [step("a", json!({"run": {"spec": {"containers": [{"name": "c"}], "securityContext": {"runAsUser": "$(params.uid)"}}}}))]}),
            "spec.steps[0].run.spec.securityContext.runAsUser: $(params.uid): give a whole number, without quotes: a reference alone has the type",
        ),
        (
            json!({"parameters": [{"name": "x"}], "steps": [step("a", with_args(&["{{params.x}}"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: {{params.x}}: write $(params.x); to have it as it is, give it as the value of a parameter",
        ),
        (
            json!({"parameters": [{"name": "x"}], "steps": [step("a", with_args(&["echo ${params.x}"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: ${params.x}: write $(params.x)",
        ),
        (
            json!({"steps": [step("a", with_args(&["$(tasks.b.results.c)"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: $(tasks.b.results.c): write $(params.NAME)",
        ),
        (
            json!({"parameters": [{"name": "epochs"}], "steps": [step("a", with_args(&["$(params.epoch)"]))]}),
            "spec.steps[0].run.spec.containers[0].args[0]: $(params.epoch): add the parameter, or name one of epochs",
        ),
        (
            json!({"steps": [step("a", json!({})), step("b", json!({"dependsOn": ["a"], "when": "steps.a.state == 'succeeded'"}))]}),
            "spec.steps[1].when: steps.a.state == 'succeeded': steps.a.state is never 'succeeded': compare it with one of 'Succeeded', 'Failed'",
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
            let pipeline: Value = serde_saphyr::from_str(text).unwrap();
            let pipeline: crate::api::Pipeline = serde_json::from_value(pipeline).unwrap();
            let valid = validate(&pipeline.spec.definition, "spec", None).unwrap();
            assert_eq!((valid.warnings, valid.unknown_fields), (vec![], vec![]));
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_final_step_that_needs_what_may_not_be_there_is_warned_of() {
    let accuracy = json!([{"name": "accuracy", "type": "number"}]);
    let warnings = |when: Option<&str>| {
        let mut tell = with_args(&["accuracy $(steps.train.outputs.accuracy)"]);
        if let Some(when) = when {
            tell["when"] = when.into();
        }
        let definition =
            json!({"steps": [step("train", json!({"outputs": accuracy}))], "finally": [step("tell", tell)]});
        told(&validate(&pipeline(definition), "spec", None).unwrap().warnings)
    };
    assert_eq!(
        warnings(None),
        "spec.finally[0]: it uses outputs of step train, which it has only if that succeeds: add when: \
         steps['train'].state == 'Succeeded', or do without them"
    );
    assert_eq!(warnings(Some("steps.train.state == 'Succeeded'")), "");
}

#[test]
fn what_is_too_long_is_refused_by_its_length() {
    let template = |length: usize| json!({"spec": {"containers": [{"name": "c", "args": ["x".repeat(length)]}]}});
    let with = |template: Value| json!({"parameters": [{"name": "a", "default": "y".repeat(4_096)}], "steps": [{"name": "s", "run": template}]});
    for (definition, expected) in [
        (with(template(300_000)), "spec.steps[0].run: 300050 bytes: make it at most 262144"),
        (
            with(json!({"spec": {"containers": [{"name": "c", "args": ["$(params.a)".repeat(20_000)]}]}})),
            "spec.steps[0].run.spec.containers[0].args[0]: with its values, the text of the step is longer than 1048576",
        ),
        (
            json!({"steps": (0..5).map(|step| json!({"name": format!("s{step}"), "run": template(250_000)})).collect::<Vec<_>>()}),
            "spec: 1250366 bytes: shorten it to at most 1048576",
        ),
        (
            json!({"steps": [{"name": "t", "train": {"framework": "none", "template": template(250_000)}}], "parameters": [{"name": "a", "default": [{"a": 0}]}]}),
            "spec.parameters[0].default: a list: give text",
        ),
    ] {
        let told = problems(definition);
        assert!(told.starts_with(expected), "{}", crate::text::shorten(&told, 300));
    }
}

#[test]
fn a_long_key_above_many_references_costs_no_copies_of_it() {
    // hostile/h3b-paths.py, as large as is read at all.
    let lists = json!([{"k".repeat(120_000): vec!["$(run.name)"; 9_000]}]);
    let definition =
        pipeline(json!({"steps": [{"name": "s", "run": {"spec": {"containers": [{"name": "c"}], "x": lists}}}]}));
    let valid = validate(&definition, "spec", None).unwrap();
    assert_eq!(valid.unknown_fields.len(), 1, "x itself, and nothing below it");
    let lists = json!([{"k".repeat(120_000): vec!["$(run.nam)"; 9_000]}]);
    let definition =
        pipeline(json!({"steps": [{"name": "s", "run": {"spec": {"containers": [{"name": "c"}], "x": lists}}}]}));
    let problems = validate(&definition, "spec", None).unwrap_err();
    assert_eq!(problems.len(), MOST_PROBLEMS);
    assert!(problems.iter().all(|problem| problem.to_string().len() < 1_000));
}
