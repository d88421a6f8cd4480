//! Checks of what is embedded in a step: every reference leads somewhere, and the object that will be made makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::fields::{Finding, UnknownField, compare, meant, unknown, wanted};
use super::{DEFAULT_MOUNT_PATH, Findings, MOST_PROBLEMS, Work};
use crate::api::pipeline_step::Files;
use crate::api::{ModelDeployment, TrainingJob, reserved};
use crate::cluster::problem::{Problem, check_env, check_length, check_template_metadata, primary_container};
use crate::cluster::template_edit::check_outline;
use crate::pipelines::build::{FILES_VOLUME, rename_values};
use crate::pipelines::policy::parameters::{listed, sample_of};
use crate::pipelines::policy::places::{Embedded, Path, Segment, each_string};
use crate::pipelines::policy::references::{Piece, Reference, in_another_form, pieces};
use crate::pipelines::policy::substitute::{MOST_TEXT, Unfit, Values, substitute};
use crate::pipelines::policy::when::Scope;
use crate::{names, serving, training};

/// Field of a problem with a spec that cannot even be read.
const UNREADABLE: &str = "spec";

/// A step whose work is checked.
pub(super) struct Subject<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its path in the pipeline.
    pub(super) path: &'a str,
    /// What it may refer to.
    pub(super) scope: Scope<'a>,
    /// Values of parameters to check with.
    pub(super) parameters: &'a BTreeMap<String, Value>,
    /// What the steps share.
    pub(super) files: Option<&'a Files>,
}

/// Checks the work of a step, and finds the container that counts. Answers the steps whose outputs it refers to.
pub(super) fn check(work: &mut Work, subject: &Subject, findings: &mut Findings) -> BTreeSet<String> {
    let (field, object, embedded) = match work {
        Work::Run { template, .. } => ("run", &*template, Embedded::PodTemplate),
        Work::Train(spec) => ("train", &*spec, Embedded::TrainingJob),
        Work::Deploy(deploy) => ("deploy.spec", &deploy.spec, Embedded::ModelDeployment),
    };
    let path = format!("{}.{field}", subject.path);
    check_length(&path, object, &mut findings.problems);
    if object.is_too_long() {
        return BTreeSet::new();
    }
    let mut spec = object.parse();
    if embedded != Embedded::PodTemplate {
        rename_values(&mut spec);
    }
    let before = findings.problems.len();
    let (dynamic, values) = follow(&spec, embedded, &path, subject, &mut findings.problems);
    let used = values.outputs.keys().cloned().collect();
    check_what_is_ours(work, &spec, &path, &mut findings.problems);
    if findings.problems.len() > before {
        return used;
    }
    let filled = match substitute(&spec, embedded, &values) {
        Ok(filled) => filled,
        Err(Unfit::TooLong { path: at }) => {
            let value = format!("with its values, the text of the step is longer than {MOST_TEXT} bytes up to here");
            let remedy = "pass what is long in a file, or refer to it less often";
            findings.problems.push(Problem::new(&format!("{path}.{at}"), value, remedy));
            return used;
        }
        // Each reference was given a sample.
        Err(Unfit::NoValue { .. }) => return used,
    };
    check_fields(&filled, embedded, &path, &dynamic, findings);
    if findings.problems.len() > before {
        return used;
    }
    if let Some(files) = subject.files.filter(|_| !matches!(work, Work::Deploy(_))) {
        let template = if embedded == Embedded::PodTemplate { &filled } else { &filled["template"] };
        check_room_for_files(files, &template["spec"], &path, &mut findings.problems);
    }
    let found = match work {
        Work::Run { container, .. } => {
            *container = primary_container(&filled, "", &mut Vec::new());
            check_template(&filled)
        }
        Work::Train(_) => {
            let validate = |job: &TrainingJob| training::validate::validate(job).err();
            check_object("TrainingJob", subject.name, &filled, validate)
        }
        Work::Deploy(deploy) => {
            let validate = |deployment: &ModelDeployment| serving::validate::validate(deployment).err();
            check_object("ModelDeployment", &deploy.name, &filled, validate)
        }
    };
    // What is wrong with a sample may be right with the true value; that is checked when the step starts.
    let root = if embedded == Embedded::PodTemplate { "spec.template" } else { "spec" };
    let is_fixed = |problem: &Problem| {
        if problem.field == UNREADABLE {
            return dynamic.keys().all(|path| path.starts_with("template."));
        }
        let field = problem.field.strip_prefix(root).unwrap_or(&problem.field);
        !touches(&dynamic, field.trim_start_matches('.'))
    };
    let fixed = found.into_iter().filter(is_fixed).take(MOST_PROBLEMS);
    findings.problems.extend(fixed.map(|problem| problem.moved(root, &path)));
    used
}

/// Strings with references: their paths, none longer than its limit, with what is written there.
type Dynamic<'a> = BTreeMap<String, &'a str>;

/// Whether a field is one of those, above one, or below one.
fn touches(dynamic: &Dynamic, field: &str) -> bool {
    let is_above = dynamic.range(field.to_owned()..).next().is_some_and(|(path, _)| path.starts_with(field));
    is_above || (1..=field.len()).filter_map(|end| field.get(..end)).any(|begin| dynamic.contains_key(begin))
}

/// Follows every reference; answers the strings that have some, and values to check the spec with. Each of the names is looked
/// up once, and no more is kept of a reference than where it is.
fn follow<'a>(
    spec: &'a Value,
    embedded: Embedded,
    path: &str,
    subject: &Subject,
    problems: &mut Vec<Problem>,
) -> (Dynamic<'a>, Values) {
    let (mut dynamic, mut known) = (BTreeMap::new(), BTreeSet::new());
    let mut values = Values { run: "sample".to_owned(), ..Values::default() };
    let most = problems.len() + MOST_PROBLEMS;
    let mut look = |at: &Path<'a>, _, text: &'a str| {
        if problems.len() >= most {
            return Err(());
        }
        let mut is_dynamic = false;
        for piece in pieces(text) {
            match piece {
                Piece::Text(_) | Piece::Escaped(_) => continue,
                Piece::Reference(reference) if known.contains(&reference) => {}
                Piece::Reference(reference) => match give_sample(reference, subject, &mut values) {
                    Ok(()) => _ = known.insert(reference),
                    Err(remedy) => {
                        problems.push(Problem::new(&format!("{path}.{}", at.told()), reference, &remedy));
                        break;
                    }
                },
                Piece::Malformed(text) => {
                    let remedy = "write $(params.NAME), $(steps.STEP.outputs.NAME) or $(run.name); to have it as it is, write $$(...)";
                    problems.push(Problem::new(&format!("{path}.{}", at.told()), text, remedy));
                    break;
                }
            }
            is_dynamic = true;
        }
        let names_ours = |reference: Reference<'_>| give_sample(reference, subject, &mut Values::default()).is_ok();
        if let Some((written, meant)) = in_another_form(text, names_ours) {
            let remedy = format!("write {meant}; to have it as it is, give it as the value of a parameter");
            problems.push(Problem::new(&format!("{path}.{}", at.told()), written, &remedy));
        }
        if is_dynamic {
            if matches!(embedded, Embedded::PodTemplate) && names_container(at) {
                let remedy = "write the name out: the container whose end is the step's must be known";
                problems.push(Problem::new(&format!("{path}.{}", at.told()), "a reference", remedy));
            }
            dynamic.insert(at.told(), text);
        }
        Ok(())
    };
    // Ends early with enough problems.
    _ = each_string(spec, embedded, &mut look);
    (dynamic, values)
}

/// What names the container whose end is the step's is not left to values: the run has to find it.
fn names_container(at: &Path) -> bool {
    use Segment::{Field, Item};
    matches!(
        at.in_template(),
        Some(
            [Field("spec"), Field("containers"), Item(_), Field("name")]
                | [Field("metadata"), Field("annotations"), Field(names::ANNOTATION_DEFAULT_CONTAINER)]
        )
    )
}

/// Checks that the spec has the fields of its kind and no others, each of its type.
fn check_fields(filled: &Value, embedded: Embedded, path: &str, dynamic: &Dynamic, findings: &mut Findings) {
    let most = findings.problems.len() + MOST_PROBLEMS;
    compare(filled, embedded, &mut |at, finding| {
        if let Finding::Unknown { open: true, .. } = finding
            && findings.unknown.len() >= MOST_PROBLEMS
        {
            // Nothing is made of it: there may be hundreds of thousands.
            return ControlFlow::Continue(());
        }
        let below = at.told();
        let field = format!("{path}.{below}");
        match finding {
            Finding::Unknown { name, known, open: true } => {
                findings.unknown.extend(UnknownField::new(at, field, meant(name, known)));
            }
            Finding::Unknown { name, known, .. } => findings.problems.push(unknown(&field, meant(name, known))),
            Finding::Missing(kind) => {
                let remedy = format!("add it: {}", wanted(kind));
                findings.problems.push(Problem::new(&field, "missing", &remedy));
            }
            Finding::Wrong { value, remedy, depends_on_value } => match dynamic.get(&below) {
                Some(_) if depends_on_value => {}
                Some(written) => {
                    let remedy =
                        format!("{remedy}: a reference alone has the type that its parameter or output declares");
                    findings.problems.push(Problem::new(&field, written, &remedy));
                }
                None => findings.problems.push(Problem::new(&field, value, &remedy)),
            },
        }
        if findings.problems.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}

/// Checks that the run's files can be mounted in the containers of a pod's spec.
fn check_room_for_files(files: &Files, spec: &Value, path: &str, problems: &mut Vec<Problem>) {
    fn items(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }
    if items(&spec["volumes"]).any(|volume| volume["name"] == FILES_VOLUME) {
        let remedy = "rename it: the run's files are mounted under that name";
        problems.push(Problem::new(path, format!("volume {FILES_VOLUME}"), remedy));
    }
    let mount_path = files.mount_path.as_deref().unwrap_or(DEFAULT_MOUNT_PATH).trim_end_matches('/');
    let containers = ["initContainers", "containers"].into_iter().flat_map(|list| items(&spec[list]));
    let mut places = containers.flat_map(|container| items(&container["volumeMounts"]));
    if places.any(|mount| mount["mountPath"].as_str().is_some_and(|place| place.trim_end_matches('/') == mount_path)) {
        let remedy = "remove it, or set files.mountPath: the run's files are mounted there";
        problems.push(Problem::new(path, format!("a mount at {mount_path}"), remedy));
    }
}

/// How long a job is kept, and whether it is stopped, is the run's to say.
fn check_what_is_ours(work: &Work, spec: &Value, path: &str, problems: &mut Vec<Problem>) {
    if !matches!(work, Work::Train(_)) {
        return;
    }
    if let Some(time) = spec.get("deleteAfterFinished").filter(|time| !time.is_null()) {
        let remedy = "remove it: the job belongs to the run, which needs its end and deletes it with itself";
        problems.push(Problem::new(&format!("{path}.deleteAfterFinished"), time, remedy));
    }
    if let Some(suspend) = spec.get("suspend").filter(|suspend| !matches!(suspend, Value::Null | Value::Bool(false))) {
        let remedy = "remove it: the run would wait for ever; it starts and stops its jobs itself";
        problems.push(Problem::new(&format!("{path}.suspend"), suspend, remedy));
    }
}

/// Looks a reference up, and gives it a value to check the spec with.
fn give_sample(reference: Reference<'_>, subject: &Subject, values: &mut Values) -> Result<(), String> {
    let Subject { scope, parameters, .. } = subject;
    match reference {
        Reference::Parameter(name) => {
            let value = parameters.get(name).ok_or_else(|| match parameters.len() {
                0 => "add the parameter: the pipeline has none".to_owned(),
                _ => format!("add the parameter, or name one of {}", listed(parameters.keys())),
            })?;
            values.parameters.insert(name.to_owned(), value.clone());
        }
        Reference::Output { step, output } => {
            let missing = || format!("name {step} in dependsOn, or correct it: no such step has ended by then");
            let outputs = scope.step(step).ok_or_else(missing)?;
            let type_ = outputs.get(output).ok_or_else(|| match outputs.len() {
                0 => format!("declare the output in step {step}, which has none"),
                _ => format!("declare the output in step {step}, or name one of {}", listed(outputs.keys())),
            })?;
            values.outputs.entry(step.to_owned()).or_default().insert(output.to_owned(), sample_of(*type_));
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
    serde_path_to_error::deserialize::<_, K>(object).map_or_else(
        |error| {
            let remedy = format!("correct it: it has to be the spec of a {kind}");
            let field = error.path().to_string();
            let field = if field.starts_with("spec.") { &field } else { UNREADABLE };
            vec![Problem::new(field, error.inner(), &remedy)]
        },
        |object| validate(&object).unwrap_or_default(),
    )
}
