//! Validation: what a spec must be before anything is decided from it.
//!
//! Admission (the CRD's rules and the ValidatingAdmissionPolicies) refuses most of this earlier; an apiserver may lack
//! them, so nothing downstream relies on that. Here defaults become values.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::api::{
    Duration, EffectiveSpec, FailureLogs, Framework, MAX_NODES, PodTemplate, ProcessesPerNode, TrainingJob,
    TrainingJobSpec, reserved,
};
use crate::cluster::canonical;
use crate::cluster::problem::{
    Problem, check_env, check_length, check_name, check_template_metadata, primary_container,
};
use crate::cluster::program::Programs;
use crate::cluster::template_edit::check_outline;
use crate::names;

const DEFAULT_MAX_RESTARTS: i32 = 3;
/// As in the CRD's schema.
const MOST_RESTARTS: i32 = 1_000;
const DEFAULT_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const DEFAULT_MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(5);
const SHARED_MEMORY_PATH: &str = "/dev/shm";

/// A TrainingJob whose spec makes sense, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidJob {
    /// Name of the job.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Run and step of a pipeline that it was made for, by label.
    pub pipeline_labels: BTreeMap<String, String>,
    /// Whose contract the pods get.
    pub framework: Framework,
    /// Number of pods.
    pub nodes: u32,
    /// Processes in each pod.
    pub processes: ProcessesPerNode,
    /// The container that trains.
    pub container: String,
    /// Size of /dev/shm.
    pub shared_memory: SharedMemory,
    /// The pod template.
    pub template: PodTemplate,
    /// Whether pods are to be stopped.
    pub suspended: bool,
    /// Longest time from start to finish.
    pub active_deadline: Option<SignedDuration>,
    /// Restarts before the job fails.
    pub max_restarts: i32,
    /// Wait before the first restart.
    pub backoff: SignedDuration,
    /// Longest wait before a restart.
    pub max_backoff: SignedDuration,
    /// Whether log lines may appear in status.
    pub failure_logs: FailureLogs,
    /// Hash of what the user set of everything that pods are made from. Pods with another one were launched before an edit,
    /// which admission allows while the job is suspended.
    pub launch_hash: String,
    /// What the template's containers run.
    pub programs: Programs,
}

/// What the training container finds at /dev/shm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedMemory {
    /// What the container runtime gives: 64 MiB, or what the template mounts there.
    AsIs,
    /// As large as the pod's memory allows.
    Whole,
    /// This much.
    Sized(String),
}

impl ValidJob {
    /// The values that hold, for status.
    pub fn effective(&self) -> EffectiveSpec {
        EffectiveSpec {
            nodes: i32::try_from(self.nodes).unwrap_or(MAX_NODES),
            processes_per_node: (self.framework == Framework::Torch).then_some(self.processes),
            container: self.container.clone(),
            max_restarts: self.max_restarts,
        }
    }
}

/// Checks a job and fills in its defaults, or names every problem at once.
pub fn validate(job: &TrainingJob) -> Result<ValidJob, Vec<Problem>> {
    // Without `..`, so that a new field does not compile until somebody has thought about it here.
    let TrainingJobSpec {
        framework,
        nodes,
        processes_per_node,
        template,
        shared_memory,
        suspend,
        active_deadline,
        failure_policy,
        failure_logs,
        pods_after_finished,
        delete_after_finished,
    } = &job.spec;
    let mut problems = Vec::new();
    let name = job.metadata.name.clone().unwrap_or_default();
    check_name(&name, "job", &mut problems);

    let nodes = nodes.unwrap_or(1);
    if !(1..=MAX_NODES).contains(&nodes) {
        problems.push(Problem::new("spec.nodes", nodes, "set a number from 1 to 1000"));
    }
    let processes = check_processes(*processes_per_node, *framework, &mut problems);
    let policy = failure_policy.clone().unwrap_or_default();
    let max_restarts = policy.max_restarts.unwrap_or(DEFAULT_MAX_RESTARTS);
    if !(0..=MOST_RESTARTS).contains(&max_restarts) {
        problems.push(Problem::new("spec.failurePolicy.maxRestarts", max_restarts, "set a number from 0 to 1000"));
    }
    let backoff = policy.backoff.unwrap_or_default();
    for (field, value) in [
        ("spec.activeDeadline", active_deadline),
        ("spec.podsAfterFinished", pods_after_finished),
        ("spec.deleteAfterFinished", delete_after_finished),
        ("spec.failurePolicy.backoff.initial", &backoff.initial),
        ("spec.failurePolicy.backoff.max", &backoff.max),
    ] {
        if value.is_some_and(Duration::is_negative) {
            problems.push(Problem::new(field, "a negative time", "set a time such as 30s, 10m or 24h"));
        }
    }

    check_length("spec.template", template, &mut problems);
    if template.is_too_long() {
        return Err(problems);
    }
    let tree = template.parse();
    let container = check_template(&tree, *framework, &mut problems);
    let shared_size = shared_memory.as_deref();
    let shared_memory = check_shared_memory(shared_size, *framework, &tree, &container, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let programs = Programs::of_spec(&tree["spec"]);
    let launch_hash = launch_hash(*framework, nodes, *processes_per_node, shared_size, tree);
    Ok(ValidJob {
        name,
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        uid: job.metadata.uid.clone().unwrap_or_default(),
        pipeline_labels: pipeline_labels(job),
        framework: *framework,
        nodes: nodes.unsigned_abs(),
        processes,
        container,
        shared_memory,
        template: template.clone(),
        suspended: suspend.unwrap_or(false),
        active_deadline: active_deadline.map(Duration::signed),
        max_restarts,
        backoff: backoff.initial.map_or(DEFAULT_BACKOFF, Duration::signed),
        max_backoff: backoff.max.map_or(DEFAULT_MAX_BACKOFF, Duration::signed),
        failure_logs: failure_logs.unwrap_or(FailureLogs::Tail),
        launch_hash,
        programs,
    })
}

/// The labels of a job that its pods get too, so that the pods of a run and of a step are found by them.
fn pipeline_labels(job: &TrainingJob) -> BTreeMap<String, String> {
    let labels = job.metadata.labels.iter().flatten();
    let of_run = labels.filter(|(name, _)| [names::LABEL_RUN, names::LABEL_STEP].contains(&name.as_str()));
    of_run.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Of what the user set, and not of what a field is when it is left out: that may be another value in a later release.
/// One node is the exception, since admission takes it for the same as none given.
fn launch_hash(
    framework: Framework,
    nodes: i32,
    processes: Option<ProcessesPerNode>,
    shared_memory: Option<&str>,
    template: Value,
) -> String {
    let mut set = json!({
        "framework": framework,
        "nodes": nodes,
        "processesPerNode": processes,
        "sharedMemory": shared_memory,
    });
    // Moved, as a copy of a large template would cost as much again.
    set["template"] = template;
    canonical::hash(&set)
}

fn check_processes(
    processes: Option<ProcessesPerNode>,
    framework: Framework,
    problems: &mut Vec<Problem>,
) -> ProcessesPerNode {
    const FIELD: &str = "spec.processesPerNode";
    match processes {
        Some(value) if framework == Framework::None => {
            let remedy = "remove it, or set framework: torch, the one that starts several processes in a pod";
            problems.push(Problem::new(FIELD, format!("{value:?} with framework none"), remedy));
        }
        Some(ProcessesPerNode::Count(count)) if !(1..=1024).contains(&count) => {
            problems.push(Problem::new(FIELD, count, "set a number from 1 to 1024, or auto"));
        }
        _ => {}
    }
    processes.unwrap_or(ProcessesPerNode::Count(1))
}

/// Checks the template for what the operator owns; answers the name of the training container.
fn check_template(template: &Value, framework: Framework, problems: &mut Vec<Problem>) -> String {
    let before = problems.len();
    check_outline(template, problems);
    if problems.len() > before {
        return String::new();
    }
    check_template_metadata(&template["metadata"], "job", problems);
    let spec = &template["spec"];
    for field in ["hostname", "subdomain"] {
        if let Some(value) = spec.get(field) {
            let remedy = "remove it: the operator sets it, so that ranks find each other";
            problems.push(Problem::new(&format!("spec.template.spec.{field}"), value, remedy));
        }
    }
    if let Some(value) = spec.get("restartPolicy").filter(|value| value.as_str() != Some("Never")) {
        let remedy = "remove it and use failurePolicy.maxRestarts, which restarts all ranks together";
        problems.push(Problem::new("spec.template.spec.restartPolicy", value, remedy));
    }
    let no_containers = Vec::new();
    let containers = spec["containers"].as_array().unwrap_or(&no_containers);
    let container = primary_container(template, "trains", problems);
    for (index, candidate) in containers.iter().enumerate() {
        if candidate["name"].as_str() != Some(container.as_str()) {
            continue;
        }
        for field in ["restartPolicy", "restartPolicyRules"] {
            if let Some(value) = candidate.get(field).filter(|value| value.as_str() != Some("Never")) {
                let field = format!("spec.template.spec.containers[{index}].{field}");
                let remedy = "remove it: a rank that comes back alone would meet peers that have given it up; \
                              failurePolicy.maxRestarts restarts all ranks together";
                problems.push(Problem::new(&field, value, remedy));
            }
        }
        check_env(candidate, index, &|name| reserved::is_reserved(framework, name), "every attempt", problems);
    }
    container
}

fn check_shared_memory(
    size: Option<&str>,
    framework: Framework,
    template: &Value,
    container: &str,
    problems: &mut Vec<Problem>,
) -> SharedMemory {
    let mounted = (template["spec"]["containers"].as_array().into_iter().flatten())
        .filter(|candidate| candidate["name"].as_str() == Some(container))
        .flat_map(|candidate| candidate["volumeMounts"].as_array().into_iter().flatten())
        .any(|mount| mount["mountPath"].as_str().map(|path| path.trim_end_matches('/')) == Some(SHARED_MEMORY_PATH));
    match (size, framework) {
        (Some(size), _) if mounted => {
            let remedy = "remove it, or remove the template's own volumeMount at /dev/shm";
            problems.push(Problem::new("spec.sharedMemory", size, remedy));
            SharedMemory::AsIs
        }
        (Some(size), _) => SharedMemory::Sized(size.to_owned()),
        (None, Framework::Torch) if !mounted => SharedMemory::Whole,
        (None, _) => SharedMemory::AsIs,
    }
}

#[cfg(test)]
mod tests;
