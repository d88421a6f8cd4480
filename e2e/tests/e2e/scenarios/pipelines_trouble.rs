//! Pipelines and runs that make no sense, and what stands in their way.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::manifest::{Run, Serving, Steps, run_step, with};
use crate::objects::{MODEL_DEPLOYMENTS, PIPELINES, RUNS, holds, message, name, text};
use crate::space::Space;

/// What is wrong, the pipeline, and what is said of it.
fn bad_pipelines() -> Vec<(&'static str, Steps, &'static str)> {
    let step = |name: &str, depends_on: &[&str]| run_step(name, depends_on, &[]);
    let when = |text: &str| with(step("a", &[]), "when", text.into());
    let one = |step: Value| Steps::new("any", &[step]);
    let outputs = json!([{"name": "n", "type": "integer"}]);
    let refers = |text: &str| {
        let mut step = step("b", &[]);
        step["run"]["spec"]["containers"][0]["args"] = json!([text]);
        Steps::new("any", &[with(run_step("a", &[], &[]), "outputs", outputs.clone()), step])
    };
    let with_field = |name: &str, value: Value| {
        let mut step = step("a", &[]);
        step["run"]["spec"]["containers"][0][name] = value;
        one(step)
    };
    let train = json!({"framework": "none", "node": 2, "template": step("a", &[])["run"]});
    vec![
        (
            "misspelt",
            with_field("imagee", "i".into()),
            "spec.steps[0].run.spec.containers[0].imagee: there is no such field: rename it to image",
        ),
        (
            "misspelt-train",
            one(json!({"name": "a", "train": train})),
            "spec.steps[0].train.node: there is no such field: rename it to nodes",
        ),
        ("wrong-field-type", with_field("tty", "yes".into()), "containers[0].tty: \"yes\": give true or false"),
        ("pattern", one(when(r"'a'.matches(r'\w{999}')")), "regular expressions are not allowed"),
        (
            "cycle",
            Steps::new("any", &[step("a", &["c"]), step("b", &["a"]), step("c", &["b"])]),
            "spec.steps: a -> c -> b -> a (each depends on the next): remove one",
        ),
        ("unknown", one(step("a", &["b"])), "spec.steps[0].dependsOn: b: name a step of this pipeline"),
        ("twice", Steps::new("any", &[step("a", &[]), step("a", &[])]), "spec.steps: two steps are named a: give each"),
        ("no-cel", one(when("1 >")), "spec.steps[0].when: 1 >: write a CEL expression"),
        ("wrong-type", one(when("'a' > 1")), "spec.steps[0].when: 'a' > 1: its types do not fit"),
        ("no-bool", one(when("1 + 1")), "spec.steps[0].when: 1 + 1: write an expression that is true or false"),
        ("loop", one(when("[1].all(x, x > 0)")), "spec.steps[0].when: [1].all(x, x > 0): loops"),
        ("no-step", one(when("steps.b.outputs.n > 0")), "steps.b: no such step has ended by then"),
        ("too-early", refers("$(steps.a.outputs.n)"), "args[0]: $(steps.a.outputs.n): name a in dependsOn"),
        ("no-parameter", refers("$(params.x)"), "args[0]: $(params.x): add the parameter"),
        (
            "default",
            one(step("a", &[])).set("spec.parameters", json!([{"name": "p", "type": "integer", "default": "x"}])),
            "spec.parameters[0].default: \"x\": give a whole number",
        ),
    ]
}

pub(crate) async fn bad_pipelines_are_told_with_field_and_remedy(space: Space) -> Result<()> {
    for (what, pipeline, words) in bad_pipelines() {
        space.submit(&pipeline.set("metadata.name", what)).await?;
        let pipeline = space.until(PIPELINES, what, "it is told", |pipeline| holds(pipeline, "Stalled")).await?;
        ensure!(message(&pipeline).contains(words), "{what}: {} instead of {words}", message(&pipeline));
    }
    // A field that is newer than the operator's own copy of the pod's fields is the cluster's to know.
    let mut newer = run_step("a", &[], &[]);
    newer["run"]["spec"]["hostnameOverride"] = "a".into();
    space.submit(&Steps::new("newer", &[newer])).await?;
    space.until(PIPELINES, "newer", "it can be run", |pipeline| holds(pipeline, "Ready")).await?;
    // What the schema says already, in the apiserver's words.
    let many: Vec<Value> = (0..501).map(|number| run_step(&format!("s{number}"), &[], &[])).collect();
    let two = with(run_step("a", &[], &[]), "train", json!({"framework": "none"}));
    let refused = [
        (Steps::new("many", &many), "must have at most 500 items"),
        (Steps::new("two", &[two]), "give exactly one of run, train and deploy"),
        (Steps::new("none", &[]), "should have at least 1 items"),
        (
            Steps::new("list", &[run_step("a", &[], &[])])
                .set("spec.parameters", json!([{"name": "p", "default": [{"a": 0}]}])),
            "must have at most 0 items",
        ),
    ];
    for (pipeline, words) in refused {
        let said = space.kubectl_with(&["create", "-f", "-"], &pipeline.value().to_string()).await?;
        ensure!(!said.ok && said.err.contains(words), "{}: {said:?}", pipeline.name());
    }
    Ok(())
}

pub(crate) async fn bad_runs_are_told_with_field_and_remedy(space: Space) -> Result<()> {
    let parameters =
        json!([{"name": "n", "type": "integer", "minimum": 1, "maximum": 5}, {"name": "t", "default": "x"}]);
    space.submit(&Steps::new("good", &[run_step("a", &[], &[])]).set("spec.parameters", parameters)).await?;
    space.submit(&Steps::new("bad", &[run_step("a", &["a"], &[])])).await?;
    let of = |name: &str| Run::of(name, "good");
    let cases = [
        (of("missing"), "spec.arguments: n is missing: add an argument: a whole number"),
        (of("range").argument("n", 9), "spec.arguments[0].value: 9: give at most 5 (parameter n)"),
        (of("type").argument("n", "1"), "spec.arguments[0].value: \"1\": give a whole number"),
        (of("unknown").argument("n", 1).argument("m", 1), "spec.arguments[1].name: m: remove it, or name one of"),
        (Run::of("of-bad", "bad"), "Pipeline bad: spec.steps: a -> a (each depends on the next)"),
        (Run::new("own", &[run_step("a", &["b"], &[])]), "spec.pipeline.steps[0].dependsOn: b: name a step"),
    ];
    for (run, words) in cases {
        space.submit(&run).await?;
        let run = space.until(RUNS, run.name(), "it is told", |run| holds(run, "Stalled")).await?;
        ensure!(message(&run).contains(words), "{}: {} instead of {words}", name(&run), message(&run));
        ensure!(run["status"]["startTime"].is_null(), "nothing of it has run: {}", run["status"]);
    }
    let both = of("both").set("spec.pipeline", json!({"steps": [run_step("a", &[], &[])]}));
    let said = space.kubectl_with(&["create", "-f", "-"], &both.value().to_string()).await?;
    ensure!(!said.ok && said.err.contains("give one of pipelineRef"), "{said:?}");
    Ok(())
}

pub(crate) async fn outputs_must_be_as_declared(space: Space) -> Result<()> {
    let long = format!(r#"{{"n": "{}"}}"#, "x".repeat(1_100));
    let cases = [
        ("missing", "{}", "outputs.n: missing: write it"),
        ("no-json", "done", "outputs: the termination message is not one JSON object"),
        ("wrong-type", r#"{"n": 1}"#, "outputs.n: 1: report text"),
        ("too-large", &long, "outputs.n: 1102 bytes: report at most 1024"),
    ];
    for (what, reported, _) in cases {
        let step = run_step("a", &[], &[("termination-message", reported)]);
        space.submit(&Run::new(what, &[with(step, "outputs", json!([{"name": "n"}]))])).await?;
    }
    for (what, _, words) in cases {
        let run = space.until_run(what, "Failed").await?;
        let told = text(&run, "/status/steps/a/message");
        ensure!(told.starts_with(words), "{what}: {told}");
    }
    Ok(())
}

pub(crate) async fn a_deployment_of_somebody_else_is_left_alone(space: Space) -> Result<()> {
    space.submit(&Serving::new("theirs", 1)).await?;
    let before = space.until_serving("theirs").await?;
    let step = |adopt: bool, replicas: u32| {
        let spec = Serving::new("theirs", replicas).value()["spec"].clone();
        json!({"name": "deploy", "deploy": {"name": "theirs", "adopt": adopt, "spec": spec}})
    };
    space.submit(&Run::new("intruder", &[step(false, 1)])).await?;
    let run = space.until_run("intruder", "Failed").await?;
    let words = "deploy.name: theirs: this ModelDeployment was not made by this pipeline and is left untouched: set \
                 deploy.adopt: true";
    ensure!(message(&run).contains(words), "{}", message(&run));
    let after = space.objects.get(MODEL_DEPLOYMENTS, "theirs").await?;
    ensure!(before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"], "{}", after["metadata"]);

    space.submit(&Run::new("adopter", &[step(true, 1)])).await?;
    space.until_run("adopter", "Succeeded").await?;
    // A field that somebody else has set otherwise is not taken from them.
    space.submit(&Run::new("greedy", &[step(true, 3)])).await?;
    let run = space.until_run("greedy", "Failed").await?;
    ensure!(message(&run).contains("conflict") && message(&run).contains(".spec.replicas"), "{}", message(&run));
    Ok(())
}
