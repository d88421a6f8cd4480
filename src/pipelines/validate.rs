//! Validation: what a pipeline must be before anything of it runs. Here defaults become values, and every reference is
//! followed.

pub(in crate::pipelines) mod embedded;
pub(in crate::pipelines) mod fields;
#[cfg(test)]
mod properties;
mod reader;
mod recorded;
mod shape;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::Value;

use self::fields::UnknownField;
use self::reader::Reader;
pub use self::recorded::recorded;
use super::policy::graph::{Fault, Graph, graph};
use super::policy::parameters::check_declaration;
use super::policy::when::{Types, When};
use crate::api::pipeline_step::{
    Deploy, Files, MAX_DEFINITION, MAX_FINALLY, MAX_PARAMETERS, MAX_STEPS, Output, Parameter, PipelineDefinition, Step,
};
use crate::api::{Duration, FailureLogs, PodTemplate, RawObject, ValueType};
use crate::cluster::problem::Problem;

/// Where containers find the run's files if the pipeline does not say.
const DEFAULT_MOUNT_PATH: &str = "/mnt/files";
const DEFAULT_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const DEFAULT_MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(5);

/// Most problems of a pipeline that are reported: a message has no room for more.
const MOST_PROBLEMS: usize = 20;

/// Kubernetes' own (kubernetes.io/docs/concepts/storage/persistent-volumes).
const ACCESS_MODES: [&str; 4] = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

/// A pipeline that makes sense, with every default filled in.
#[derive(Debug)]
pub struct ValidPipeline {
    /// Steps, those of `finally` after the others; within both each after all that it depends on.
    pub steps: Vec<ValidStep>,
    /// Longest time of the steps that are not of `finally`.
    pub timeout: Option<SignedDuration>,
    /// What the steps share.
    pub files: Option<ValidFiles>,
    /// What may go wrong, and need not.
    pub warnings: Vec<Problem>,
    /// Fields of pod templates that only the apiserver can judge.
    pub unknown_fields: Vec<UnknownField>,
}

/// What is found out while steps are read.
#[derive(Default)]
struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unknown: Vec<UnknownField>,
}

impl ValidPipeline {
    /// Steps that are not of `finally`.
    pub fn main_steps(&self) -> impl Iterator<Item = &ValidStep> {
        self.steps.iter().filter(|step| !step.is_final)
    }
}

/// One step.
#[derive(Debug)]
pub struct ValidStep {
    /// Its name.
    pub name: String,
    /// Whether it is one of those that run at the end.
    pub is_final: bool,
    /// Names of the steps that have to succeed before.
    pub depends_on: Vec<String>,
    /// Whether it runs.
    pub when: Option<When>,
    /// What it does.
    pub work: Work,
    /// What it reports.
    pub outputs: Vec<Output>,
    /// How often it is tried again.
    pub retries: u32,
    /// Wait before the first of these.
    pub backoff: SignedDuration,
    /// Longest wait.
    pub max_backoff: SignedDuration,
    /// Longest time of one attempt.
    pub timeout: Option<SignedDuration>,
    /// Whether its message may quote the log.
    pub failure_logs: FailureLogs,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Runs a pod.
    Run {
        /// Its template.
        template: PodTemplate,
        /// The container whose end is the step's.
        container: String,
    },
    /// Trains.
    Train(RawObject),
    /// Deploys a model.
    Deploy(Deploy),
}

/// A volume that all steps find at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidFiles {
    /// The claim.
    pub claim: Claim,
    /// Where containers find it.
    pub mount_path: String,
}

/// Where files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// In a claim that is there.
    Given(String),
    /// In one that is made for the run.
    Made {
        /// Its size.
        size: String,
        /// Its storage class.
        storage_class: Option<String>,
        /// Its access modes.
        access_modes: Vec<String>,
    },
}

/// What a deploy step reports.
pub fn deploy_outputs() -> Vec<Output> {
    let output = |name: &str, type_| Output { name: name.to_owned(), type_: Some(type_) };
    vec![output("url", ValueType::String), output("revision", ValueType::Integer)]
}

/// Checks a pipeline that stands at `path` (`spec` of a Pipeline, `spec.pipeline` of a run) and fills in its defaults.
///
/// `values` are the parameters of a run; without them, specs of steps are checked with a sample of each.
///
/// # Errors
/// Every problem at once, as many as a message has room for.
pub fn validate(
    definition: &PipelineDefinition,
    path: &str,
    values: Option<&BTreeMap<String, Value>>,
) -> Result<ValidPipeline, Vec<Problem>> {
    // Without `..`, so that a new field does not compile until somebody has thought about it here.
    let PipelineDefinition { parameters, steps, finally, timeout, files } = definition;
    let mut problems = Vec::new();
    let length = definition.length();
    if length > MAX_DEFINITION {
        let remedy = format!(
            "shorten it to at most {MAX_DEFINITION} bytes of JSON: scripts and data belong in images or ConfigMaps"
        );
        return Err(vec![Problem::new(path, format!("{length} bytes"), &remedy)]);
    }
    for (field, count, most) in [
        ("parameters", parameters.len(), MAX_PARAMETERS),
        ("steps", steps.len(), MAX_STEPS),
        ("finally", finally.len(), MAX_FINALLY),
    ] {
        if count > most {
            let remedy = format!("give at most {most}; a part of them can be a pipeline of its own");
            problems.push(Problem::new(&format!("{path}.{field}"), format!("{count} of them"), &remedy));
        }
    }
    if steps.is_empty() {
        problems.push(Problem::new(&format!("{path}.steps"), "[]", "give at least one step"));
    }
    if !problems.is_empty() {
        // More would be said of what is too much already.
        return Err(problems);
    }
    check_parameters(parameters, path, &mut problems);
    shape::check_time(&format!("{path}.timeout"), *timeout, &mut problems);
    let files = files.as_ref().map(|files| check_files(files, &format!("{path}.files"), &mut problems));
    shape::check_names(steps, finally, path, &mut problems);
    let order = |steps: &[Step], field: &str, problems: &mut Vec<Problem>| {
        order(steps).map_err(|faults| problems.extend(faults.iter().map(|fault| tell(fault, path, field, steps)))).ok()
    };
    let (graphs, finals) = (order(steps, "steps", &mut problems), order(finally, "finally", &mut problems));
    let mut findings = Findings { problems, ..Findings::default() };
    let mut valid = Vec::new();
    if let (Some(graph), Some(finals)) = (graphs, finals) {
        shape::check_models(steps, &graph, &format!("{path}.steps"), &mut findings.problems);
        shape::check_models(finally, &finals, &format!("{path}.finally"), &mut findings.problems);
        let mut reader = Reader::new(definition, path, values, &mut findings);
        valid.extend(reader.read_all(steps, &graph, false));
        valid.extend(reader.read_all(finally, &finals, true));
    }
    let Findings { mut problems, mut warnings, unknown } = findings;
    if !problems.is_empty() {
        problems.truncate(MOST_PROBLEMS);
        return Err(problems);
    }
    warnings.truncate(MOST_PROBLEMS);
    let timeout = timeout.map(Duration::signed);
    Ok(ValidPipeline { steps: valid, timeout, files, warnings, unknown_fields: unknown })
}

/// Puts steps in order.
fn order(steps: &[Step]) -> Result<Graph, Vec<Fault>> {
    let named: Vec<(&str, &[String])> =
        steps.iter().map(|step| (step.name.as_str(), step.depends_on.as_slice())).collect();
    graph(&named)
}

fn check_parameters(parameters: &[Parameter], path: &str, problems: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let path = format!("{path}.parameters[{index}]");
        shape::check_value_name(&format!("{path}.name"), &parameter.name, problems);
        if !names.insert(&parameter.name) {
            problems.push(Problem::new(
                &format!("{path}.name"),
                &parameter.name,
                "give each parameter a name of its own",
            ));
        }
        check_declaration(parameter, &path, problems);
    }
}

fn check_files(files: &Files, path: &str, problems: &mut Vec<Problem>) -> ValidFiles {
    let Files { claim, size, storage_class_name, access_modes, mount_path } = files;
    let mount_path = mount_path.clone().unwrap_or_else(|| DEFAULT_MOUNT_PATH.to_owned());
    if !mount_path.starts_with('/') || mount_path.len() < 2 || mount_path.contains(':') {
        problems.push(Problem::new(
            &format!("{path}.mountPath"),
            &mount_path,
            "give an absolute path, such as /mnt/files",
        ));
    }
    let claim = match (claim, size) {
        (Some(claim), None) => Claim::Given(claim.clone()),
        (None, Some(size)) => {
            if !size.contains(|c: char| ('1'..='9').contains(&c)) {
                problems.push(Problem::new(&format!("{path}.size"), size, "give a size above 0, such as 10Gi"));
            }
            for mode in access_modes.iter().filter(|mode| !ACCESS_MODES.contains(&mode.as_str())) {
                let remedy = format!("give one of {}", ACCESS_MODES.join(", "));
                problems.push(Problem::new(&format!("{path}.accessModes"), mode, &remedy));
            }
            let access_modes = match access_modes.as_slice() {
                [] => vec!["ReadWriteOnce".to_owned()],
                modes => modes.to_vec(),
            };
            Claim::Made { size: size.clone(), storage_class: storage_class_name.clone(), access_modes }
        }
        _ => {
            let value = if claim.is_some() { "claim and size" } else { "neither claim nor size" };
            problems.push(Problem::new(
                path,
                value,
                "give either the claim, or the size of one that is made for each run",
            ));
            Claim::Given(String::new())
        }
    };
    ValidFiles { claim, mount_path }
}

fn tell(fault: &Fault, path: &str, field: &str, steps: &[Step]) -> Problem {
    let at = |name: &str| steps.iter().position(|step| step.name == name).unwrap_or_default();
    match fault {
        Fault::Twice(name) => Problem::new(
            &format!("{path}.{field}"),
            format!("two steps are named {name}"),
            "give each step a name of its own",
        ),
        Fault::Unknown { step, dependency } => {
            let remedy = match field {
                "finally" => "name a step of finally; the others have ended by then anyway",
                _ => "name a step of this pipeline, or add it",
            };
            Problem::new(&format!("{path}.{field}[{}].dependsOn", at(step)), dependency, remedy)
        }
        Fault::Cycle(names) => {
            let mut shown: Vec<&str> = names.iter().map(String::as_str).collect();
            shown.extend(names.first().map(String::as_str));
            let remedy = "remove one of these dependencies: none of the steps could ever start";
            Problem::new(
                &format!("{path}.{field}"),
                format!("{} (each depends on the next)", shown.join(" -> ")),
                remedy,
            )
        }
    }
}

fn types_of_parameters(definition: &PipelineDefinition) -> Types {
    definition.parameters.iter().map(|each| (each.name.clone(), each.type_.unwrap_or_default())).collect()
}

/// What each step reports.
fn types_of_outputs(definition: &PipelineDefinition) -> BTreeMap<String, Types> {
    let outputs = |step: &Step| -> Types {
        outputs_of(step).into_iter().map(|output| (output.name, output.type_.unwrap_or_default())).collect()
    };
    definition.steps.iter().chain(&definition.finally).map(|step| (step.name.clone(), outputs(step))).collect()
}

fn outputs_of(step: &Step) -> Vec<Output> {
    if step.deploy.is_some() { deploy_outputs() } else { step.outputs.clone() }
}

/// Reads steps by position, each after all that it depends on; `read` can ask which steps have ended before.
fn in_order(
    steps: &[Step],
    graph: &Graph,
    is_final: bool,
    mut read: impl FnMut(usize, &dyn Fn(&str) -> bool) -> Option<ValidStep>,
) -> Vec<ValidStep> {
    let positions: BTreeMap<&str, usize> =
        steps.iter().enumerate().map(|(position, step)| (step.name.as_str(), position)).collect();
    let read = |position: &usize| {
        let has_ended = |name: &str| match positions.get(name) {
            Some(other) => graph.earlier[*position].contains(*other),
            // All others have ended before the first step of `finally`.
            None => is_final,
        };
        read(*position, &has_ended)
    };
    graph.order.iter().filter_map(read).collect()
}

/// A step with its defaults filled in.
fn filled_in(step: &Step, is_final: bool, when: Option<When>, work: Work) -> ValidStep {
    let (limit, backoff) = step.retries.clone().map_or((0, None), |retries| (retries.limit, retries.backoff));
    let backoff = backoff.unwrap_or_default();
    ValidStep {
        name: step.name.clone(),
        is_final,
        depends_on: step.depends_on.clone(),
        when,
        work,
        outputs: outputs_of(step),
        retries: limit.unsigned_abs(),
        backoff: backoff.initial.map_or(DEFAULT_BACKOFF, Duration::signed),
        max_backoff: backoff.max.map_or(DEFAULT_MAX_BACKOFF, Duration::signed),
        timeout: step.timeout.map(Duration::signed),
        failure_logs: step.failure_logs.unwrap_or(FailureLogs::Tail),
    }
}

/// What a step does, unless it does nothing or several things.
fn work_of(step: &Step) -> Option<Work> {
    match (&step.run, &step.train, &step.deploy) {
        (Some(template), None, None) => Some(Work::Run { template: template.clone(), container: String::new() }),
        (None, Some(spec), None) => Some(Work::Train(spec.clone())),
        (None, None, Some(deploy)) => Some(Work::Deploy(deploy.clone())),
        _ => None,
    }
}
