//! Pipelines made up at random: steps that depend on one another, what each of them does, and how that ends.

use rand::RngExt;
use serde_json::{Value, json};

use super::Menu;
use crate::names::ANNOTATION_DEFAULT_CONTAINER;
use crate::testing::dice::Dice;
use crate::testing::jobs::fates::{Ends, FATES, Fate};

/// Names of steps; those of `finally` come last. A long one is shortened in the names of pods.
const NAMES: [&str; 10] = [
    "prepare",
    "train",
    "evaluate",
    "compare-with-the-model-that-serves-now",
    "compare-with-the-model-that-served-before",
    "deploy",
    "smoke-test",
    "report",
    "clean-up",
    "notify",
];

/// A step as far as later ones need to know it.
struct Earlier {
    name: &'static str,
    is_final: bool,
    /// Whether it reports a score.
    reports: bool,
    /// What it deploys.
    model: Option<&'static str>,
}

/// What a Pipeline or a run says of its steps.
pub(super) fn random_definition(dice: &mut Dice, menu: &Menu) -> Value {
    let count = dice.random_range(1..=menu.most_steps);
    let finals = &NAMES[8..8 + dice.random_range(0..=2)];
    let (mut steps, mut finally, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    for name in &NAMES[..count] {
        steps.push(random_step(dice, menu, name, false, &mut earlier));
    }
    for name in finals {
        finally.push(random_step(dice, menu, name, true, &mut earlier));
    }
    // In which order they are written makes no difference.
    let first = dice.random_range(0..steps.len());
    steps.rotate_left(first);
    let mut definition = json!({
        "parameters": [
            { "name": "level", "type": "integer", "default": dice.random_range(0..=3) },
            { "name": "env", "default": "dev" },
        ],
        "steps": steps,
        "finally": finally,
    });
    if menu.timers && dice.random_bool(0.25) {
        definition["timeout"] = one_of(dice, &["20s", "1m", "5m", "20m"]).into();
    }
    if dice.random_bool(0.2) {
        definition["files"] = json!({ "size": "1Gi" });
    }
    definition
}

fn random_step(dice: &mut Dice, menu: &Menu, name: &'static str, is_final: bool, earlier: &mut Vec<Earlier>) -> Value {
    let kind = one_of(dice, menu.kinds);
    let model = (kind == "deploy").then(|| one_of(dice, &["model", "other"]));
    let reports = model.is_none() && dice.random_bool(0.5);
    // Steps that deploy one model must come one after the other.
    let may_depend = earlier.iter().filter(|step| step.is_final == is_final);
    let depends_on: Vec<&str> = may_depend
        .filter(|step| dice.random_bool(0.4) || model.is_some() && step.model == model)
        .map(|step| step.name)
        .collect();
    // Of a step of `finally` all others have ended; of the rest, what it depends on itself is known to have.
    let is_known = |step: &&Earlier| depends_on.contains(&step.name) || is_final && !step.is_final;
    let known: Vec<&Earlier> = earlier.iter().filter(is_known).collect();
    let mut step = json!({ "name": name });
    if !depends_on.is_empty() {
        step["dependsOn"] = json!(depends_on);
    }
    if dice.random_bool(0.25) {
        step["when"] = random_when(dice, &known).into();
    }
    match model {
        Some(model) => step["deploy"] = random_deploy(dice, menu, model),
        None => random_work(dice, menu, &mut step, kind, reports, &known),
    }
    earlier.push(Earlier { name, is_final, reports, model });
    step
}

/// Something that comes to an end: a pod or a TrainingJob.
fn random_work(dice: &mut Dice, menu: &Menu, step: &mut Value, kind: &str, reports: bool, known: &[&Earlier]) {
    let source = (dice.random_bool(0.5) && !known.is_empty()).then(|| known[dice.random_range(0..known.len())]);
    let value = match source {
        Some(Earlier { reports: true, name, .. }) => Some(format!("$(steps.{name}.outputs.score)")),
        Some(Earlier { model: Some(_), name, .. }) => Some(format!("$(steps.{name}.outputs.url)")),
        _ => None,
    };
    let retries = [0, 0, 1, 2][dice.random_range(0..4)];
    if reports {
        step["outputs"] = json!([{ "name": "score", "type": "number" }]);
        if dice.random_bool(0.3) {
            step["outputs"].as_array_mut().expect("it was just made").push(json!({ "name": "note" }));
        }
    }
    let restarts = if kind == "train" { dice.random_range(0..=1) } else { 0 };
    let fates = random_fates(dice, (1 + retries) * (1 + restarts), reports, menu);
    let template = template(dice, menu, &fates, value.as_deref());
    limit(dice, menu, step, retries, &fates);
    if kind == "run" {
        step["run"] = template;
        return;
    }
    step["train"] = json!({
        "framework": one_of(dice, &["none", "torch"]),
        "nodes": dice.random_range(1..=2),
        "failurePolicy": { "maxRestarts": restarts },
        "template": template,
    });
    if dice.random_bool(0.3) {
        step["train"]["nodes"] = "$(params.level)".into();
    }
}

/// Retries, and an end for what has none of its own.
fn limit(dice: &mut Dice, menu: &Menu, step: &mut Value, retries: usize, fates: &[Fate]) {
    if retries > 0 {
        step["retries"] = json!({ "limit": retries });
        if dice.random_bool(0.5) {
            step["retries"]["backoff"] = json!({ "initial": one_of(dice, &["0s", "3s", "1m"]) });
        }
    }
    let never_ends = fates.iter().any(|fate| fate.ends == Ends::Never);
    if never_ends || menu.timers && dice.random_bool(0.2) {
        let timeouts = if menu.timers { &["10s", "1m", "15m"][..] } else { &["15m"] };
        step["timeout"] = one_of(dice, timeouts).into();
    }
}

fn random_when(dice: &mut Dice, known: &[&Earlier]) -> String {
    let step = (!known.is_empty()).then(|| known[dice.random_range(0..known.len())]);
    match (dice.random_range(0..4), step) {
        (0, Some(step)) => {
            format!("steps['{}'].state == '{}'", step.name, one_of(dice, &["Succeeded", "Failed"]))
        }
        (1 | 2, Some(Earlier { reports: true, name, .. })) => format!("steps['{name}'].outputs.score >= 0.5"),
        (3, _) => "params.env != 'dev'".to_owned(),
        _ => "params.level >= 2".to_owned(),
    }
}

/// How the attempts of a step end, and what they say.
fn random_fates(dice: &mut Dice, count: usize, reports: bool, menu: &Menu) -> Vec<Fate> {
    let fate = |_| {
        let score = [0.2, 0.5, 0.9][dice.random_range(0..3)];
        let good = if reports {
            json!({ "score": score, "note": "it's $(fine)", "more": [1] }).to_string()
        } else {
            String::new()
        };
        let (ends, says) = match dice.random_range(0..100) {
            0..70 => (Ends::Well, good),
            70..82 => (Ends::Badly, good),
            82..86 => (Ends::Never, good),
            86..89 => (Ends::Evicted, good),
            89..92 => (Ends::Well, json!({ "note": "nothing else" }).to_string()),
            92..96 => (Ends::Well, json!({ "score": "high", "note": "" }).to_string()),
            _ => (Ends::Well, "done".to_owned()),
        };
        let ends = if menu.fails { ends } else { Ends::Well };
        Fate { ends, says }
    };
    (0..count).map(fate).collect()
}

fn template(dice: &mut Dice, menu: &Menu, fates: &[Fate], value: Option<&str>) -> Value {
    let mut main =
        json!({ "name": "main", "image": "example/work:1", "args": ["--level=$(params.level)", "$(run.name)"] });
    if let Some(value) = value {
        main["args"].as_array_mut().expect("it was just made").push(value.into());
    }
    let mut containers = vec![main];
    let mut annotations = json!({ FATES: json!(fates).to_string() });
    if menu.sidecars && dice.random_bool(0.15) {
        containers.insert(dice.random_range(0..=1), json!({ "name": "logs", "image": "example/logs:1" }));
        annotations[ANNOTATION_DEFAULT_CONTAINER] = "main".into();
    }
    json!({ "metadata": { "annotations": annotations }, "spec": { "containers": containers } })
}

fn one_of(dice: &mut Dice, words: &[&'static str]) -> &'static str {
    words[dice.random_range(0..words.len())]
}

fn random_deploy(dice: &mut Dice, menu: &Menu, model: &str) -> Value {
    let images = ["example/good:1", "example/good:$(params.level)", "example/crashes:2", "example/unpullable:3"];
    let image = images[if menu.fails { dice.random_range(0..images.len()) } else { 0 }];
    let container = json!({ "name": "server", "image": image, "ports": [{ "containerPort": 8080 }] });
    let mut spec = json!({
        "template": { "spec": { "containers": [container] } },
        "rollout": { "progressDeadline": "2m" },
    });
    if dice.random_bool(0.5) {
        spec["replicas"] = dice.random_range(1..=2).into();
    }
    let mut deploy = json!({ "name": model, "spec": spec });
    if dice.random_bool(0.5) {
        deploy["adopt"] = true.into();
    }
    deploy
}
