//! Checks of single fields. Admission makes most of them too; an apiserver may lack the schema.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::MOST_PROBLEMS;
use crate::api::Duration;
use crate::api::pipeline_step::{MAX_OUTPUTS, Output, Step};
use crate::cluster::problem::Problem;
use crate::pipelines::policy::graph::Graph;

/// Clocks and caches need a moment.
const SHORTEST_TIMEOUT: SignedDuration = SignedDuration::from_secs(1);

pub(super) fn check_time(field: &str, time: Option<Duration>, problems: &mut Vec<Problem>) {
    if let Some(time) = time.filter(|time| time.is_negative() || time.signed() < SHORTEST_TIMEOUT) {
        let value = if time.is_negative() { "a negative time" } else { "less than 1s" };
        problems.push(Problem::new(field, value, "set a time of at least 1s, such as 90s, 10m or 24h"));
    }
}

/// Names of steps become parts of pods' names, and are unique in `steps` and `finally` together.
pub(super) fn check_names(steps: &[Step], finally: &[Step], path: &str, problems: &mut Vec<Problem>) {
    let all = [("steps", steps), ("finally", finally)];
    for (field, steps) in all {
        for (index, step) in steps.iter().enumerate() {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let name = &step.name;
            let fits = (1..=63).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(inner)
                && !name.ends_with('-');
            if !fits {
                let remedy = "rename it: a letter first, then at most 62 of a-z, 0-9 and '-', not ending in '-'";
                problems.push(Problem::new(&format!("{path}.{field}[{index}].name"), name, remedy));
            }
        }
    }
    let names: BTreeSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    for (index, step) in finally.iter().enumerate().filter(|(_, step)| names.contains(step.name.as_str())) {
        let remedy = "rename it: one of steps has this name";
        problems.push(Problem::new(&format!("{path}.finally[{index}].name"), &step.name, remedy));
    }
}

/// Names that stand in references.
pub(super) fn check_value_name(field: &str, name: &str, problems: &mut Vec<Problem>) {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(inner);
    if !fits {
        let remedy = "rename it: a letter first, then at most 62 letters, digits, '-' and '_'";
        problems.push(Problem::new(field, name, remedy));
    }
}

pub(super) fn check_outputs(outputs: &[Output], path: &str, problems: &mut Vec<Problem>) {
    if outputs.len() > MAX_OUTPUTS {
        let remedy = format!("declare at most {MAX_OUTPUTS}, and write what is large to a file");
        problems.push(Problem::new(&format!("{path}.outputs"), format!("{} of them", outputs.len()), &remedy));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, output) in outputs.iter().enumerate() {
        let field = format!("{path}.outputs[{index}].name");
        check_value_name(&field, &output.name, problems);
        if !names.insert(&output.name) {
            problems.push(Problem::new(&field, &output.name, "declare each output once"));
        }
    }
}

pub(super) fn check_deploy(step: &Step, path: &str, problems: &mut Vec<Problem>) {
    if !step.outputs.is_empty() {
        let remedy = "remove it: a deploy step reports url and revision";
        problems.push(Problem::new(&format!("{path}.outputs"), format!("{} of them", step.outputs.len()), remedy));
    }
    if step.retries.is_some() {
        let remedy =
            "remove it: a rollout that fails is not tried again; its progressDeadline says how long it may take";
        problems.push(Problem::new(&format!("{path}.retries"), "set", remedy));
    }
}

/// Steps that deploy the same model come one after the other.
pub(super) fn check_models(steps: &[Step], graph: &Graph, path: &str, problems: &mut Vec<Problem>) {
    let mut deploying: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(deploy) = &step.deploy else { continue };
        let others = deploying.entry(&deploy.name).or_default();
        let is_ordered = |other: usize| graph.earlier[index].contains(other) || graph.earlier[other].contains(index);
        for other in others.iter().filter(|other| !is_ordered(**other)) {
            if problems.len() >= MOST_PROBLEMS {
                return;
            }
            let remedy = format!("name one in dependsOn of the other: step {} deploys it too", steps[*other].name);
            problems.push(Problem::new(&format!("{path}[{index}].deploy.name"), &deploy.name, &remedy));
        }
        others.push(index);
    }
}
