//! Whatever the schemas admit as a pipeline: checking it, putting values into it and building what its steps run as neither
//! panics nor exceeds its bounds.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::problem::Problem;
use crate::pipelines::build::job::build_job;
use crate::pipelines::build::pod::build_pod;
use crate::pipelines::build::{Attempt, Maker};
use crate::pipelines::policy::places::{Embedded, each_string};
use crate::pipelines::policy::substitute::{MOST_TEXT, Values, substitute};
use crate::testing::any_json::any_json;

/// Longest problem: a path, a value and a remedy, each of them bounded.
const LONGEST_PROBLEM: usize = 8_192;

/// Names of fields: some that templates have, so that odd values come to where they are read, and some that none has.
const NAMES: [&str; 32] = [
    "metadata",
    "labels",
    "annotations",
    "kubectl.kubernetes.io/default-container",
    "namespace",
    "spec",
    "containers",
    "initContainers",
    "name",
    "image",
    "imagee",
    "env",
    "value",
    "command",
    "args",
    "volumes",
    "volumeMounts",
    "mountPath",
    "ports",
    "containerPort",
    "resources",
    "restartPolicy",
    "lifecycle",
    "securityContext",
    "runAsUser",
    "template",
    "framework",
    "nodes",
    "replicas",
    "rollout",
    "suspend",
    "x",
];

fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("$(params.p)".to_owned()),
        Just("$(steps.a.outputs.o)".to_owned()),
        Just("$(params.".to_owned()),
        Just("$$(run.name)".to_owned()),
        Just("${params.p}".to_owned()),
        Just("{{".to_owned()),
        Just("c".to_owned()),
        Just("torch".to_owned()),
        Just("é".repeat(300)),
        ".{0,3}",
    ];
    (prop::collection::vec(fragment, 0..4), prop_oneof![9 => Just(1_usize), 1 => Just(3_000)])
        .prop_map(|(fragments, times)| fragments.concat().repeat(times))
}

fn odd() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        30 => prop::sample::select(&NAMES[..]).prop_map(str::to_owned),
        1 => Just("k".repeat(5_000)),
        1 => text(),
    ];
    any_json(7, text(), name.boxed())
}

/// A template with the fields that make it pass the first checks, most of the time.
fn template() -> impl Strategy<Value = Value> {
    let object = |extra: Value| if extra.is_object() { extra } else { json!({"spec": extra}) };
    let plain = json!({"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}});
    (odd(), odd(), 0..4).prop_map(move |(spec, container, shape)| {
        let mut template = plain.clone();
        match shape {
            0 => template = object(spec),
            1 => json_patch::merge(&mut template["spec"], &object(spec)),
            2 => json_patch::merge(&mut template["spec"]["containers"][0], &object(container)),
            _ => template["spec"]["containers"] = json!([{"name": "c"}, container]),
        }
        template
    })
}

fn definition() -> impl Strategy<Value = Value> {
    let works = (template(), template(), template(), odd(), odd());
    (works, odd(), any::<bool>(), text()).prop_map(|((run, train, deploy, job, serving), default, files, when)| {
        let spec = |base: Value, further: Value, template: Value| {
            let mut spec = base;
            if further.is_object() {
                json_patch::merge(&mut spec, &further);
            }
            spec["template"] = template;
            spec
        };
        let mut definition = json!({
            "parameters": [{"name": "p", "default": default, "enum": [default]}],
            "steps": [
                {"name": "a", "outputs": [{"name": "o"}], "run": run},
                {"name": "b", "dependsOn": ["a"], "train": spec(json!({"framework": "none"}), job, train)},
                {"name": "c", "dependsOn": ["b"], "deploy": {"name": "m", "spec": spec(json!({}), serving, deploy)}},
            ],
            "finally": [{"name": "z", "when": format!("params.p == '{when}'"), "run": run}],
        });
        if files {
            definition["files"] = json!({"claim": "c"});
        }
        definition
    })
}

fn check_bounds(problems: &[Problem]) {
    assert!(!problems.is_empty() && problems.len() <= MOST_PROBLEMS, "{} problems", problems.len());
    for problem in problems {
        assert!(problem.to_string().len() <= LONGEST_PROBLEM, "{}", problem.to_string().len());
    }
}

/// Builds what each step runs as, as far as its values fit.
fn build(valid: &ValidPipeline, values: &Values) {
    let run = Maker { name: "r", namespace: "ns", uid: "0b7d" };
    for step in &valid.steps {
        let (spec, embedded) = match &step.work {
            Work::Run { template, .. } => (template.parse(), Embedded::PodTemplate),
            Work::Train(spec) => (spec.parse(), Embedded::TrainingJob),
            Work::Deploy(deploy) => (deploy.spec.parse(), Embedded::ModelDeployment),
        };
        let Ok(filled) = substitute(&spec, embedded, values) else { continue };
        let mut length = 0;
        let counted = each_string(&filled, embedded, &mut |_, _, text| {
            length += text.len();
            Ok::<_, ()>(())
        });
        assert!(counted.is_ok() && length <= MOST_TEXT, "{length}");
        let attempt = Attempt { run, pipeline: valid, step: &step.name, number: 1, token: "token" };
        match &step.work {
            Work::Run { container, .. } => _ = build_pod(attempt, &filled, container, FailureLogs::Tail),
            Work::Train(_) => _ = build_job(attempt, filled),
            Work::Deploy(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_pipeline_makes_it_panic_or_exceed_its_bounds(definition in definition()) {
        let Ok(definition) = serde_json::from_value::<PipelineDefinition>(definition) else { return Ok(()) };
        match validate(&definition, "spec", None) {
            Err(problems) => check_bounds(&problems),
            Ok(valid) => {
                prop_assert!(valid.unknown_fields.len() <= MOST_PROBLEMS);
                let text = |text: &str| Value::from(text);
                let outputs = BTreeMap::from([("a".to_owned(), BTreeMap::from([("o".to_owned(), text("o"))]))]);
                for value in [text("$(RANK)"), text(&"$".repeat(4_096))] {
                    let parameters = BTreeMap::from([("p".to_owned(), value)]);
                    build(&valid, &Values { run: "r".to_owned(), parameters, outputs: outputs.clone() });
                }
            }
        }
    }
}
