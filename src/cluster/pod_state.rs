//! How a pod that runs to its end is doing, by the one container that counts.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use super::container::{ContainerState, Ended};
use super::ending::Endings;
use super::pod::{Phase, PodFacts};
use crate::api::Cause;

/// How a pod is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// Its container has not started.
    Waiting,
    /// Its container runs.
    Running,
    /// Its container ended with 0.
    Succeeded,
    /// It ended otherwise, or will not come to an end of its own.
    Failed(Failure),
}

/// How a pod failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// When, by the node's clock if the node said so.
    pub time: Timestamp,
    /// Its rank, if it is one of several.
    pub rank: u32,
    /// Its name.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// Container that failed.
    pub container: Option<String>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// One sentence about it.
    pub message: String,
    /// The end of its log, or its termination message.
    pub log_tail: Option<String>,
    /// Whether the kubelet may be about to say that it ended the pod, and why.
    pub may_change: bool,
}

/// What a message calls a pod.
pub type Naming = fn(&PodFacts) -> String;

/// Names a pod that is one of several ranks.
pub fn by_rank(pod: &PodFacts) -> String {
    format!("rank {} (pod {})", pod.rank, pod.meta.name)
}

/// Names a pod that stands alone.
pub fn by_name(pod: &PodFacts) -> String {
    format!("pod {}", pod.meta.name)
}

/// Sorts a pod by its container of that name.
///
/// That container decides, whatever the others do, unless the kubelet itself gave the pod up and says why. An exit code of 0
/// counts only if the container ended before anybody asked for the pod's end: a process that handles SIGTERM well ends with 0
/// too, and has not finished.
pub fn pod_state(pod: &PodFacts, container: &str, naming: Naming, endings: &Endings, now: Timestamp) -> PodState {
    let asked_at = pod.delete_asked_at.into_iter().chain(pod.disrupted.as_ref().map(|(since, _)| *since)).min();
    let ended = pod.container(container).and_then(|container| match &container.state {
        ContainerState::Ended(ended) => Some(ended),
        _ => None,
    });
    if let Some(reason) = given_up(pod) {
        return PodState::Failed(ended_by_kubelet(pod, container, &naming(pod), reason, ended, now));
    }
    if let Some(ended) = ended {
        let ended_at = ended.finished_at.as_ref().map_or(now, |time| time.0);
        // Kubernetes writes whole seconds: an end in the very second of the request may have come after it.
        let of_its_own = asked_at.is_none_or(|asked| ended_at.as_second() < asked.as_second());
        let may_change =
            asked_at.is_none() && endings.is_awaited(pod, now) && may_be_the_kubelets_doing(pod, ended, ended_at);
        return match ended.exit_code {
            0 if may_change => PodState::Running,
            0 if of_its_own => PodState::Succeeded,
            _ => {
                let failure = ended_badly(pod, container, naming(pod), ended, ended_at, of_its_own);
                PodState::Failed(Failure { may_change, ..failure })
            }
        };
    }
    if pod.phase == Phase::Succeeded && asked_at.is_none() {
        return PodState::Succeeded;
    }
    if pod.is_terminal() {
        return PodState::Failed(never_ended(pod, &naming(pod), now));
    }
    if let Some(asked) = pod.delete_asked_at {
        return PodState::Failed(Failure {
            cause: if pod.disrupted.is_some() { Cause::Disrupted } else { Cause::Lost },
            message: format!("{} {}", naming(pod), end_asked_by(pod)),
            ..failure(pod, asked)
        });
    }
    match pod.container(container).map(|container| &container.state) {
        Some(ContainerState::Running) => PodState::Running,
        _ => PodState::Waiting,
    }
}

/// The reason that the kubelet gives for a pod that it rejected or ended. A pod whose containers just failed has none.
fn given_up(pod: &PodFacts) -> Option<&str> {
    pod.reason.as_deref().filter(|reason| pod.phase == Phase::Failed && !reason.is_empty())
}

/// Whether the kubelet may have ended a container whose pod has not come to its end. It reports the containers first, and the
/// pod's reason, message and condition DisruptionTarget only once nothing of the pod runs
/// (`mergePodStatus` in kubernetes/pkg/kubelet/status/status_manager.go).
fn may_be_the_kubelets_doing(pod: &PodFacts, ended: &Ended, ended_at: Timestamp) -> bool {
    let over_deadline = pod.own_deadline.is_some_and(|deadline| ended_at.as_second() >= deadline.as_second());
    match ended.exit_code {
        // The phase will be Succeeded, and say nothing of an eviction, unless another container failed.
        0 => over_deadline || pod.containers.iter().any(|other| !other.init && other.failed()),
        _ if ended.reason.as_deref() == Some("OOMKilled") => false,
        137 | 143 => true,
        _ => over_deadline || pod.has_storage_limit,
    }
}

/// The failure of a pod that is gone and whose end nobody saw; `named` as messages call it.
pub fn lost(named: &str, pod: &str, rank: u32, now: Timestamp) -> Failure {
    let pod = pod.to_owned();
    let message = format!("{named} vanished before it ended: it was deleted, or its node was removed");
    let cause = Cause::Lost;
    Failure {
        cause,
        time: now,
        rank,
        pod,
        node: None,
        container: None,
        exit_code: None,
        message,
        log_tail: None,
        may_change: false,
    }
}

fn failure(pod: &PodFacts, time: Timestamp) -> Failure {
    Failure { node: pod.node.clone(), ..lost("", &pod.meta.name, pod.rank, time) }
}

fn end_asked_by(pod: &PodFacts) -> String {
    match &pod.disrupted {
        Some((_, reason)) => format!("was ended by Kubernetes ({reason})"),
        None => "was deleted while it ran".to_owned(),
    }
}

fn ended_badly(
    pod: &PodFacts,
    container: &str,
    place: String,
    ended: &Ended,
    time: Timestamp,
    of_its_own: bool,
) -> Failure {
    let cause = match ended.reason.as_deref() {
        _ if !of_its_own && pod.disrupted.is_some() => Cause::Disrupted,
        _ if !of_its_own => Cause::Lost,
        Some("OOMKilled") => Cause::OutOfMemory,
        _ => Cause::ExitCode,
    };
    let message = match cause {
        Cause::OutOfMemory => format!("{place} used more memory than its limit and was killed: raise the memory limit"),
        Cause::ExitCode => format!("{place} ended with exit code {}{}", ended.exit_code, ended.signal()),
        _ => format!("{place} {}, with exit code {}", end_asked_by(pod), ended.exit_code),
    };
    Failure {
        cause,
        container: Some(container.to_owned()),
        exit_code: Some(ended.exit_code),
        message,
        log_tail: ended.log_tail(),
        ..failure(pod, time)
    }
}

/// A pod that the kubelet rejected, evicted, or ended over its deadline, whatever became of its container.
fn ended_by_kubelet(
    pod: &PodFacts,
    container: &str,
    place: &str,
    reason: &str,
    ended: Option<&Ended>,
    now: Timestamp,
) -> Failure {
    let said = pod.message.as_deref().unwrap_or_default();
    let words = said.trim().trim_end_matches('.');
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    // Over a limit of the pod's own; when the node runs short of something the words are "The node was low on resource".
    let over_storage = pod.disrupted.is_none() && said.contains("exceed") && !said.starts_with("The node");
    let has_started = !pod.containers.iter().all(|container| matches!(container.state, ContainerState::Waiting(..)));
    let (cause, message) = match reason {
        "DeadlineExceeded" => (
            Cause::LimitExceeded,
            format!(
                "{place} was ended over its own activeDeadlineSeconds ({reason}){words}: raise it, or leave it out"
            ),
        ),
        "Evicted" if over_storage => (
            Cause::LimitExceeded,
            format!("{place} was ended over a limit of its own ({reason}){words}: raise the limit, or write less"),
        ),
        "Evicted" | "Preempting" | "NodeShutdown" | "Terminated" => {
            (Cause::Disrupted, format!("{place} was ended by Kubernetes ({reason}){words}"))
        }
        _ if has_started || pod.disrupted.is_some() => {
            (Cause::Disrupted, format!("{place} was ended by Kubernetes ({reason}){words}"))
        }
        _ => (Cause::NotStarted, format!("{place} was given up by Kubernetes ({reason}){words}")),
    };
    Failure {
        cause,
        container: ended.map(|_| container.to_owned()),
        exit_code: ended.map(|ended| ended.exit_code),
        log_tail: ended.and_then(Ended::log_tail),
        message,
        ..failure(pod, ended.and_then(|ended| ended.finished_at.as_ref()).map_or(now, |time| time.0))
    }
}

/// A pod that ended although its container did not, and of which the kubelet does not say why: most often an init container
/// failed.
fn never_ended(pod: &PodFacts, place: &str, now: Timestamp) -> Failure {
    let init = pod.containers.iter().find_map(|container| match &container.state {
        ContainerState::Ended(ended) if container.init && ended.exit_code != 0 => Some((container, ended)),
        _ => None,
    });
    match init {
        _ if pod.disrupted.is_some() || pod.phase == Phase::Succeeded => {
            let cause = if pod.disrupted.is_some() { Cause::Disrupted } else { Cause::Lost };
            Failure { cause, message: format!("{place} {}", end_asked_by(pod)), ..failure(pod, now) }
        }
        Some((container, ended)) => {
            let (name, code) = (&container.name, ended.exit_code);
            Failure {
                cause: if ended.reason.as_deref() == Some("OOMKilled") { Cause::OutOfMemory } else { Cause::ExitCode },
                container: Some(name.clone()),
                exit_code: Some(code),
                message: format!("{place}: init container {name} ended with exit code {code}{}", ended.signal()),
                log_tail: ended.log_tail(),
                ..failure(pod, ended.finished_at.as_ref().map_or(now, |time| time.0))
            }
        }
        None => Failure {
            cause: Cause::NotStarted,
            message: format!("{place} was given up by Kubernetes, without a reason"),
            ..failure(pod, now)
        },
    }
}
