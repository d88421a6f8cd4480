//! The variables that a training container is given, one contract per framework.

use serde_json::{Value, json};

use crate::api::{Framework, ProcessesPerNode};
use crate::names;
use crate::training::validate::ValidJob;

/// First port of PyTorch's store; torchrun's default.
const FIRST_PORT: u32 = 29_500;
/// Attempts use this many ports in turn, so that a straggler of the last attempt knocks at a closed door.
const PORTS: u32 = 100;

/// Set for every framework; the prefix is reserved as a whole.
const OWN_PREFIX: &str = "TRAINYARD_";

/// Variables that framework torch reserves, besides [`OWN_PREFIX`]: torch.distributed's environment initialisation and
/// torchrun's, which reads each of its flags from PET_<FLAG>.
pub const TORCH_RESERVED: [&str; 11] = [
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_WORLD_SIZE",
    "PET_NNODES",
    "PET_NPROC_PER_NODE",
    "PET_NODE_RANK",
    "PET_MASTER_ADDR",
    "PET_MASTER_PORT",
    "PET_RDZV_ID",
];

/// Whether a template may not set this variable.
pub fn is_reserved(framework: Framework, name: &str) -> bool {
    name.starts_with(OWN_PREFIX) || (framework == Framework::Torch && TORCH_RESERVED.contains(&name))
}

/// The variables of one pod, to stand before the user's own, so that `$(RANK)` in theirs expands.
pub fn variables(job: &ValidJob, template: &Value, rank: u32, attempt: u32) -> Vec<Value> {
    let leader = leader_host(job, attempt);
    let mut variables = vec![
        variable("TRAINYARD_JOB", &job.name),
        variable("TRAINYARD_ATTEMPT", attempt),
        variable("TRAINYARD_NODES", job.nodes),
        variable("TRAINYARD_NODE_RANK", rank),
        variable("TRAINYARD_LEADER_HOST", &leader),
    ];
    if job.framework == Framework::Torch {
        variables.extend(torch(job, template, rank, attempt, &leader));
    }
    variables
}

/// torch.distributed's and torchrun's contract.
///
/// torchrun is left at its static rendezvous, in which the node's rank is the one we give: so rank 0, whose results
/// count, is always in pod 0.
fn torch(job: &ValidJob, template: &Value, rank: u32, attempt: u32, leader: &str) -> Vec<Value> {
    let port = FIRST_PORT + (attempt - 1) % PORTS;
    let processes = processes(job, template);
    // With `auto` and no GPUs asked for, torchrun counts the processes itself; a plain launch is one process.
    let local = processes.unwrap_or(1);
    let per_node = processes.map_or_else(|| "auto".to_owned(), |count| count.to_string());
    vec![
        variable("MASTER_ADDR", leader),
        variable("MASTER_PORT", port),
        variable("WORLD_SIZE", job.nodes * local),
        variable("RANK", rank * local),
        variable("LOCAL_WORLD_SIZE", local),
        variable("PET_NNODES", job.nodes),
        variable("PET_NPROC_PER_NODE", per_node),
        variable("PET_NODE_RANK", rank),
        variable("PET_MASTER_ADDR", leader),
        variable("PET_MASTER_PORT", port),
        variable("PET_RDZV_ID", format!("{}-{attempt}", names::service(&job.name, &job.uid))),
        // Not reserved: a crash must not take the last lines of the log with it.
        variable("PYTHONUNBUFFERED", 1),
    ]
}

/// Processes per node if they can be known before the pod runs.
fn processes(job: &ValidJob, template: &Value) -> Option<u32> {
    match job.processes {
        ProcessesPerNode::Count(count) => Some(count.unsigned_abs()),
        ProcessesPerNode::Auto => gpus(job, template),
    }
}

/// GPUs that the training container asks for, of whatever vendor (nvidia.com/gpu, amd.com/gpu).
fn gpus(job: &ValidJob, template: &Value) -> Option<u32> {
    let containers = template["spec"]["containers"].as_array()?;
    let container = containers.iter().find(|container| container["name"].as_str() == Some(&job.container))?;
    let limits = container["resources"]["limits"].as_object()?;
    let count: u32 = (limits.iter().filter(|(name, _)| name.ends_with("/gpu")))
        .filter_map(|(_, count)| count.as_u64().or_else(|| count.as_str()?.parse().ok()))
        .filter_map(|count| u32::try_from(count).ok())
        .sum();
    (count > 0).then_some(count)
}

/// Name under which the pod of rank 0 is reached. Relative to the namespace, so that the first search domain answers.
fn leader_host(job: &ValidJob, attempt: u32) -> String {
    if job.nodes == 1 {
        return "localhost".to_owned();
    }
    let pod = names::pod(&job.name, &job.uid, names::ROLE_WORKER, 0, attempt);
    format!("{pod}.{}", names::service(&job.name, &job.uid))
}

fn variable(name: &str, value: impl ToString) -> Value {
    json!({"name": name, "value": value.to_string()})
}
