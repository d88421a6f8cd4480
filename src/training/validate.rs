//! Validation: what a spec must be before anything is decided from it.
//!
//! Admission (the CRD's rules and the ValidatingAdmissionPolicies) refuses most of this earlier; an apiserver may lack
//! them, so nothing downstream relies on that. Here defaults become values.

use std::fmt;

use jiff::SignedDuration;
use serde_json::Value;

use crate::api::{
    Duration, EffectiveSpec, FailureLogs, Framework, MAX_NODES, PodTemplate, ProcessesPerNode, TrainingJob,
    TrainingJobSpec, reserved,
};
use crate::names;
use crate::text::shorten;

const DEFAULT_MAX_RESTARTS: i32 = 3;
const DEFAULT_BACKOFF: SignedDuration = SignedDuration::from_secs(1);
const DEFAULT_MAX_BACKOFF: SignedDuration = SignedDuration::from_mins(5);
/// Longest part of a wrong value that is quoted, in bytes: it may be a whole tree.
const LONGEST_VALUE: usize = 200;
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

    /// Hash of everything that pods are made from. It differs only after an edit, which admission allows while the job
    /// is suspended; pods with another hash belong to an older attempt.
    pub fn launch_hash(&self) -> String {
        let ValidJob { framework, nodes, processes, container, shared_memory, template, .. } = self;
        let launched = format!("{framework:?}|{nodes}|{processes:?}|{container}|{shared_memory:?}|{}", template.text());
        names::short_hash(launched.as_bytes(), 10)
    }
}

/// Why a spec cannot be carried out: field, value, remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as in `spec.template.spec.hostname`.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.field, self.value, self.remedy)
    }
}

impl Problem {
    fn new(field: &str, value: impl ToString, remedy: &str) -> Self {
        let value = shorten(&value.to_string(), LONGEST_VALUE).to_owned();
        Problem { field: field.to_owned(), value, remedy: remedy.to_owned() }
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
    check_name(&name, &mut problems);

    let nodes = nodes.unwrap_or(1);
    if !(1..=MAX_NODES).contains(&nodes) {
        problems.push(Problem::new("spec.nodes", nodes, "set a number from 1 to 1000"));
    }
    let processes = check_processes(*processes_per_node, *framework, &mut problems);
    let policy = failure_policy.clone().unwrap_or_default();
    let max_restarts = policy.max_restarts.unwrap_or(DEFAULT_MAX_RESTARTS);
    if max_restarts < 0 {
        problems.push(Problem::new("spec.failurePolicy.maxRestarts", max_restarts, "set 0 or more"));
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

    let tree = template.parse();
    let container = check_template(&tree, *framework, &mut problems);
    let shared_memory = check_shared_memory(shared_memory.as_deref(), *framework, &tree, &container, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(ValidJob {
        name,
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        uid: job.metadata.uid.clone().unwrap_or_default(),
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
    })
}

fn check_name(name: &str, problems: &mut Vec<Problem>) {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(inner)
        && !name.ends_with('-');
    if !fits {
        let remedy = "rename the job: a letter first, then at most 62 of a-z, 0-9 and '-', not ending in '-'";
        problems.push(Problem::new("metadata.name", name, remedy));
    }
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
    check_template_metadata(&template["metadata"], problems);
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
    let container = primary_container(template, containers, problems);
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
        for variable in candidate["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap_or_default();
            if reserved::is_reserved(framework, name) {
                let field = format!("spec.template.spec.containers[{index}].env");
                problems.push(Problem::new(&field, name, "remove it: the operator sets it for every attempt"));
            }
        }
    }
    container
}

fn check_template_metadata(metadata: &Value, problems: &mut Vec<Problem>) {
    for (field, value) in metadata.as_object().into_iter().flatten() {
        let path = format!("spec.template.metadata.{field}");
        match field.as_str() {
            "labels" | "annotations" => {
                for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
                    if key.starts_with(names::RESERVED_PREFIX) {
                        problems.push(Problem::new(&path, key, "remove it: keys of trainyard.dev/ are the operator's"));
                    }
                }
            }
            // kubectl and client libraries write this one on their own, as null.
            "creationTimestamp" if value.is_null() => {}
            "namespace" => {
                let remedy = "remove it: pods run in the namespace of their job, never in another";
                problems.push(Problem::new(&path, value, remedy));
            }
            _ => problems.push(Problem::new(&path, value, "remove it: only labels and annotations may be set")),
        }
    }
}

fn primary_container(template: &Value, containers: &[Value], problems: &mut Vec<Problem>) -> String {
    const FIELD: &str = "spec.template.metadata.annotations[kubectl.kubernetes.io/default-container]";
    let names: Vec<&str> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    let named = template["metadata"]["annotations"][names::ANNOTATION_DEFAULT_CONTAINER].as_str();
    match (named, names.as_slice()) {
        (_, []) => {
            problems.push(Problem::new("spec.template.spec.containers", "[]", "add the container that trains"));
        }
        (Some(name), _) if names.contains(&name) => return name.to_owned(),
        (Some(name), _) => {
            let remedy = format!("name one of the containers: {}", names.join(", "));
            problems.push(Problem::new(FIELD, name, &remedy));
        }
        (None, [only]) => return (*only).to_owned(),
        (None, _) => {
            let remedy = format!("name the container that trains, one of: {}", names.join(", "));
            problems.push(Problem::new(FIELD, format!("missing, with {} containers", names.len()), &remedy));
        }
    }
    String::new()
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
