//! The variables that a training container is given, one contract per framework.

use serde_json::{Value, json};

use crate::api::{Framework, ProcessesPerNode};
use crate::names;
use crate::training::validate::ValidJob;

/// First port of PyTorch's store; torchrun's default.
const FIRST_PORT: u32 = 29_500;
/// Attempts use this many ports in turn, so that a straggler of the last attempt knocks at a closed door.
const PORTS: u32 = 100;

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
    let port = FIRST_PORT + attempt.saturating_sub(1) % PORTS;
    let processes = processes(job, template);
    // With `auto` and no GPUs asked for, torchrun counts the processes itself; a plain launch is one process.
    let local = processes.unwrap_or(1);
    let per_node = processes.map_or_else(|| "auto".to_owned(), |count| count.to_string());
    vec![
        variable("MASTER_ADDR", leader),
        variable("MASTER_PORT", port),
        variable("WORLD_SIZE", job.nodes.saturating_mul(local)),
        variable("RANK", rank.saturating_mul(local)),
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
        .fold(0, u32::saturating_add);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reserved;
    use crate::training::validate::validate;

    #[test]
    fn what_torch_is_given_is_reserved_and_nothing_else_is() {
        let job = serde_json::from_value(json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "j", "uid": "u"},
            "spec": {"framework": "torch", "nodes": 2, "template": {"spec": {"containers": [{"name": "c"}]}}},
        }))
        .unwrap();
        let valid = validate(&job).unwrap();
        let given = variables(&valid, &valid.template.parse(), 1, 102);
        let names: Vec<&str> = given.iter().filter_map(|variable| variable["name"].as_str()).collect();
        let open: Vec<&&str> = names.iter().filter(|name| !reserved::is_reserved(Framework::Torch, name)).collect();
        assert_eq!(open, [&"PYTHONUNBUFFERED"]);
        assert!(reserved::TORCH.iter().all(|name| names.contains(name)));
        let value = |name: &str| given.iter().find(|variable| variable["name"] == name).unwrap()["value"].clone();
        assert_eq!((value("RANK"), value("WORLD_SIZE")), (json!("1"), json!("2")));
        assert_eq!(value("MASTER_PORT"), "29501", "ports come round after a hundred attempts");
    }
}
