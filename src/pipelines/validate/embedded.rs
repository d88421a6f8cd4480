//! Checks of what is embedded in a step: every reference leads somewhere, and the object that will be made makes sense.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::api::pipeline_step::Files;
use crate::api::{ModelDeployment, TrainingJob, reserved};
use crate::cluster::problem::{Problem, check_env, check_template_metadata, primary_container};
use crate::cluster::template_edit::check_outline;
use crate::pipelines::build::FILES_VOLUME;
use crate::pipelines::policy::parameters::sample_of;
use crate::pipelines::policy::places::Embedded;
use crate::pipelines::policy::references::Reference;
use crate::pipelines::policy::substitute::{Values, references, substitute};
use crate::pipelines::policy::when::Scope;
use crate::pipelines::validate::{DEFAULT_MOUNT_PATH, Work};
use crate::{names, serving, training};

/// Field of a problem with a spec that cannot even be read.
const UNREADABLE: &str = "spec";

/// Checks the work of the step at `path`, and finds the container that counts.
pub(super) fn check(
    work: &mut Work,
    name: &str,
    path: &str,
    scope: &Scope,
    parameters: &BTreeMap<String, Value>,
    files: Option<&Files>,
    problems: &mut Vec<Problem>,
) {
    let (field, spec, embedded) = match work {
        Work::Run { template, .. } => ("run", template.parse(), Embedded::PodTemplate),
        Work::Train(spec) => ("train", spec.parse(), Embedded::Spec),
        Work::Deploy(deploy) => ("deploy.spec", deploy.spec.parse(), Embedded::Spec),
    };
    let path = format!("{path}.{field}");
    let (mut dynamic, mut values) = (BTreeSet::new(), Values { run: "sample".to_owned(), ..Values::default() });
    let before = problems.len();
    for found in references(&spec, embedded) {
        let field = format!("{path}.{}", found.path);
        match found.what {
            Ok(reference) => {
                if let Err(remedy) = give_sample(&reference, scope, parameters, &mut values) {
                    problems.push(Problem::new(&field, &reference, &remedy));
                }
            }
            Err(text) => {
                let remedy = "write $(params.NAME), $(steps.STEP.outputs.NAME) or $(run.name); to have it as it stands, write $$(...)";
                problems.push(Problem::new(&field, text, remedy));
            }
        }
        dynamic.insert(found.path);
    }
    if problems.len() > before {
        return;
    }
    check_names_are_fixed(work, &path, &dynamic, problems);
    let Ok(filled) = substitute(&spec, embedded, &values) else { return };
    if let Some(files) = files.filter(|_| !matches!(work, Work::Deploy(_))) {
        let template = if embedded == Embedded::PodTemplate { &filled } else { &filled["template"] };
        check_room_for_files(files, &template["spec"], &path, problems);
    }
    let found = match work {
        Work::Run { container, .. } => {
            *container = primary_container(&filled, "", &mut Vec::new());
            check_template(&filled)
        }
        Work::Train(_) => {
            check_object::<TrainingJob>("TrainingJob", name, &filled, |job| training::validate::validate(job).err())
        }
        Work::Deploy(deploy) => {
            check_object::<ModelDeployment>("ModelDeployment", &deploy.name, &filled, |deployment| {
                serving::validate::validate(deployment).err()
            })
        }
    };
    // What is wrong with a sample may be right with the true value; that is checked when the step starts.
    let root = if embedded == Embedded::PodTemplate { "spec.template." } else { "spec." };
    let has_dynamic_fields = embedded == Embedded::Spec && dynamic.iter().any(|path| !path.starts_with("template."));
    let is_fixed = |problem: &Problem| {
        if problem.field == UNREADABLE {
            return !has_dynamic_fields;
        }
        let field = problem.field.strip_prefix(root).unwrap_or(&problem.field);
        !dynamic.iter().any(|dynamic| field.starts_with(dynamic.as_str()) || dynamic.starts_with(field))
    };
    problems.extend(found.into_iter().filter(is_fixed).map(|problem| match embedded {
        Embedded::PodTemplate => problem.moved("spec.template", &path),
        Embedded::Spec => problem.moved("spec", &path),
    }));
}

/// Checks that the run's files can be mounted in the containers of a pod's spec.
fn check_room_for_files(files: &Files, spec: &Value, path: &str, problems: &mut Vec<Problem>) {
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    if items(&spec["volumes"]).iter().any(|volume| volume["name"] == FILES_VOLUME) {
        let remedy = "rename it: the run's files are mounted under that name";
        problems.push(Problem::new(path, format!("volume {FILES_VOLUME}"), remedy));
    }
    let mount_path = files.mount_path.as_deref().unwrap_or(DEFAULT_MOUNT_PATH).trim_end_matches('/');
    for container in ["initContainers", "containers"].iter().flat_map(|list| items(&spec[*list])) {
        let mounts = items(&container["volumeMounts"]);
        let mut places = mounts.iter().filter_map(|mount| mount["mountPath"].as_str());
        if places.any(|place| place.trim_end_matches('/') == mount_path) {
            let remedy = "remove it, or set files.mountPath: the run's files are mounted there";
            problems.push(Problem::new(path, format!("a mount at {mount_path}"), remedy));
        }
    }
}

/// What names the container whose end is the step's, and how long a job is kept, is not left to values or to the user: the run
/// has to find both.
fn check_names_are_fixed(work: &Work, path: &str, dynamic: &BTreeSet<String>, problems: &mut Vec<Problem>) {
    let names_container = |path: &&String| {
        path.ends_with(names::ANNOTATION_DEFAULT_CONTAINER)
            || (path.starts_with("spec.containers[") && path.ends_with("].name"))
    };
    match work {
        Work::Run { .. } => {
            for dynamic in dynamic.iter().filter(names_container) {
                let remedy = "write the name out: the container whose end is the step's must be known";
                problems.push(Problem::new(&format!("{path}.{dynamic}"), "a reference", remedy));
            }
        }
        Work::Train(spec) => {
            if let Some(time) = spec.parse().get("deleteAfterFinished") {
                let remedy = "remove it: the job belongs to the run, which needs its end and deletes it with itself";
                problems.push(Problem::new(&format!("{path}.deleteAfterFinished"), time, remedy));
            }
        }
        Work::Deploy(_) => {}
    }
}

/// Looks a reference up, and gives it a value to check the spec with.
fn give_sample(
    reference: &Reference,
    scope: &Scope,
    parameters: &BTreeMap<String, Value>,
    values: &mut Values,
) -> Result<(), String> {
    match reference {
        Reference::Parameter(name) => {
            let value = parameters.get(name).ok_or("add the parameter, or name one that the pipeline has")?;
            values.parameters.insert(name.clone(), value.clone());
        }
        Reference::Output { step, output } => {
            let missing = || format!("name {step} in dependsOn, or correct it: no such step has ended by then");
            let outputs = scope.step(step).ok_or_else(missing)?;
            let undeclared = || format!("declare the output in step {step}, or name one that it declares");
            let type_ = outputs.get(output).ok_or_else(undeclared)?;
            values.outputs.entry(step.clone()).or_default().insert(output.clone(), sample_of(*type_));
        }
        Reference::RunName => {}
    }
    Ok(())
}

/// Checks the template of a pod that runs to its end. Its problems are named as below `spec.template`.
pub(in crate::pipelines) fn check_template(template: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_outline(template, &mut problems);
    if !problems.is_empty() {
        return problems;
    }
    if !template["spec"].is_object() {
        problems.push(Problem::new("spec.template.spec", "missing", "add the pod's spec, with its containers"));
        return problems;
    }
    check_template_metadata(&template["metadata"], "run", &mut problems);
    let container = primary_container(template, "does the step's work", &mut problems);
    if let Some(value) = template["spec"].get("restartPolicy").filter(|value| value.as_str() != Some("Never")) {
        let remedy = "remove it, or set Never: use retries, which start a fresh pod";
        problems.push(Problem::new("spec.template.spec.restartPolicy", value, remedy));
    }
    let containers = template["spec"]["containers"].as_array().into_iter().flatten().enumerate();
    for (index, candidate) in containers.filter(|(_, candidate)| candidate["name"].as_str() == Some(&container)) {
        check_env(candidate, index, &|name| name.starts_with(reserved::OWN_PREFIX), "every step", &mut problems);
    }
    problems
}

/// Checks the object of one of our kinds that will be made from a spec.
pub(in crate::pipelines) fn check_object<K: kube::Resource + serde::de::DeserializeOwned>(
    kind: &str,
    name: &str,
    spec: &Value,
    validate: impl Fn(&K) -> Option<Vec<Problem>>,
) -> Vec<Problem> {
    let object = json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "sample", "uid": "sample"},
        "spec": spec,
    });
    match serde_json::from_value::<K>(object) {
        Ok(object) => validate(&object).unwrap_or_default(),
        Err(error) => {
            vec![Problem::new(UNREADABLE, error, &format!("correct it: it has to be the spec of a {kind}"))]
        }
    }
}
