//! What a scheduler and a kubelet write into a pod's status.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json;

/// No node has room.
pub(super) fn unschedulable(pod: &mut Value, now: Timestamp) {
    not_scheduled(pod, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", now);
}

/// It mounts a claim that does not exist.
pub(super) fn claim_missing(pod: &mut Value, now: Timestamp) {
    not_scheduled(pod, "persistentvolumeclaim not found", now);
}

fn not_scheduled(pod: &mut Value, message: &str, now: Timestamp) {
    pod["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": json::seconds(now),
        "message": message,
    }]);
}

/// The pod is bound to a node, whose kubelet has taken note of it.
pub(super) fn placed(pod: &mut Value, node: &str, now: Timestamp) {
    pod["spec"]["nodeName"] = node.into();
    set_conditions(pod, false, now);
    pod["status"]["startTime"] = json::seconds(now).into();
    pod["status"]["hostIP"] = "192.168.1.1".into();
    set_containers(pod, |_| json!({ "waiting": { "reason": "ContainerCreating" } }));
}

/// The image cannot be pulled.
pub(super) fn pull_stuck(pod: &mut Value) {
    set_containers(pod, |image| {
        let message = format!("Back-off pulling image \"{image}\"");
        json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } })
    });
}

/// All containers run.
pub(super) fn running(pod: &mut Value, address: &str, now: Timestamp) {
    pod["status"]["phase"] = "Running".into();
    pod["status"]["podIP"] = address.into();
    pod["status"]["podIPs"] = json!([{ "ip": address }]);
    set_conditions(pod, true, now);
    set_containers(pod, |_| json!({ "running": { "startedAt": json::seconds(now) } }));
}

/// The readiness probes of a pod whose containers run succeed, or no longer do.
pub(super) fn set_ready(pod: &mut Value, ready: bool, now: Timestamp) {
    set_conditions(pod, ready, now);
    for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
        status["ready"] = ready.into();
    }
}

/// All containers ended with an exit code, and are to be started again some time.
pub(super) fn crashed(pod: &mut Value, end: End, now: Timestamp) {
    set_conditions(pod, false, now);
    for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
        let started = status["state"]["running"]["startedAt"].clone();
        status["lastState"] = terminated(&started, end, now);
        let message = "back-off 5m0s restarting failed container";
        status["state"] = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } });
        status["restartCount"] = (json::number(status, "/restartCount").unwrap_or(0) + 1).into();
        status["ready"] = false.into();
        status["started"] = false.into();
    }
}

/// Containers that crashed were started again; they are not ready yet.
pub(super) fn restarted(pod: &mut Value, now: Timestamp) {
    for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
        status["state"] = json!({ "running": { "startedAt": json::seconds(now) } });
        status["started"] = true.into();
    }
}

/// How a container ended.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    /// Its termination message.
    pub(super) message: &'a str,
}

impl End<'_> {
    pub(super) fn exit(exit_code: i32) -> Self {
        match exit_code {
            0 => End { exit_code, reason: "Completed", message: "" },
            _ => End { exit_code, reason: "Error", message: "it went wrong" },
        }
    }

    pub(super) fn out_of_memory() -> Self {
        End { exit_code: 137, reason: "OOMKilled", message: "it went wrong" }
    }
}

/// The primary container ended; others go on or, with `all`, end with it and of their own accord.
pub(super) fn primary_ended(pod: &mut Value, end: End, all: bool, now: Timestamp) {
    let primary = json::primary_container(pod).map(str::to_owned);
    for_running_containers(pod, |name, started| {
        if Some(name) == primary.as_deref() {
            Some(terminated(started, end, now))
        } else {
            all.then(|| terminated(started, End::exit(0), now))
        }
    });
}

/// Containers that still run were stopped, and those that never started will not.
pub(super) fn stopped(pod: &mut Value, exit_code: i32, now: Timestamp) {
    for_running_containers(pod, |_, started| Some(terminated(started, End::exit(exit_code), now)));
    if pod["status"]["phase"] == "Pending" {
        pod["status"]["phase"] = "Failed".into();
        set_conditions(pod, false, now);
    }
    settle_phase(pod, now);
}

/// The node threw the pod out.
pub(super) fn evicted(pod: &mut Value, now: Timestamp) {
    pod["status"]["phase"] = "Failed".into();
    pod["status"]["reason"] = "Evicted".into();
    pod["status"]["message"] = "The node was low on resource: memory.".into();
    pod["status"].as_object_mut().expect("a status is an object").remove("containerStatuses");
    set_conditions(pod, false, now);
    disrupted(pod, "TerminationByKubelet", now);
}

/// The pod will be ended for no fault of its own.
pub(super) fn disrupted(pod: &mut Value, reason: &str, now: Timestamp) {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": json::seconds(now),
        "message": "it makes room for another",
    });
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.push(condition);
    }
}

fn terminated(started: &Value, end: End, now: Timestamp) -> Value {
    json!({ "terminated": {
        "exitCode": end.exit_code, "reason": end.reason, "startedAt": started, "finishedAt": json::seconds(now),
        "message": end.message, "containerID": "containerd://0",
    }})
}

/// Whether no container runs any more.
pub(super) fn all_ended(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses.is_some_and(|statuses| statuses.iter().all(|status| status["state"].get("terminated").is_some()))
}

/// Succeeded or Failed once no container runs any more.
pub(super) fn settle_phase(pod: &mut Value, now: Timestamp) {
    if !all_ended(pod) {
        return;
    }
    let statuses = pod["status"]["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let well = statuses.iter().all(|status| status["state"]["terminated"]["exitCode"] == 0);
    pod["status"]["phase"] = if well { "Succeeded" } else { "Failed" }.into();
    set_conditions(pod, false, now);
}

fn for_running_containers(pod: &mut Value, mut next_state: impl FnMut(&str, &Value) -> Option<Value>) {
    for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
        let Some(started) = json::at(status, "/state/running/startedAt") else { continue };
        if let Some(next) = next_state(status["name"].as_str().unwrap_or_default(), started) {
            status["state"] = next;
            status["ready"] = false.into();
            status["started"] = false.into();
        }
    }
}

fn set_conditions(pod: &mut Value, ready: bool, now: Timestamp) {
    let status = if ready { "True" } else { "False" };
    let since = json::seconds(now);
    let known = pod["status"]["conditions"].as_array_mut().map(std::mem::take).unwrap_or_default();
    pod["status"]["conditions"] = json!([
        { "type": "PodScheduled", "status": "True", "lastTransitionTime": &since },
        { "type": "ContainersReady", "status": status, "lastTransitionTime": &since },
        { "type": "Ready", "status": status, "lastTransitionTime": &since },
    ]);
    let kept = known.into_iter().filter(|condition| condition["type"] == "DisruptionTarget");
    pod["status"]["conditions"].as_array_mut().expect("it was just set").extend(kept);
}

fn set_containers(pod: &mut Value, state: impl Fn(&str) -> Value) {
    let of_container = |container: &Value| {
        let image = container["image"].as_str().unwrap_or_default();
        let state = state(image);
        let runs = state.get("running").is_some();
        json!({
            "name": &container["name"], "image": image, "imageID": "", "state": state, "lastState": {},
            "ready": runs, "started": runs, "restartCount": 0,
        })
    };
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    pod["status"]["containerStatuses"] = containers.iter().map(of_container).collect::<Vec<_>>().into();
}
