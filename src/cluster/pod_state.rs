//! How a pod that runs to its end is doing, by the one container that counts.

use jiff::Timestamp;

use super::container::{ContainerState, Ended};
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
/// That container decides, whatever the others do. An exit code of 0 counts only if the container ended before
/// anybody asked for the pod's end: a process that handles SIGTERM well ends with 0 too, and has not finished.
pub fn pod_state(pod: &PodFacts, container: &str, naming: Naming, now: Timestamp) -> PodState {
    let asked_at = pod.delete_asked_at.into_iter().chain(pod.disrupted.as_ref().map(|(since, _)| *since)).min();
    if let Some(ContainerState::Ended(ended)) = pod.container(container).map(|container| &container.state) {
        let ended_at = ended.finished_at.as_ref().map_or(now, |time| time.0);
        // Kubernetes writes whole seconds: an end in the very second of the request may have come after it.
        let of_its_own = asked_at.is_none_or(|asked| ended_at.as_second() < asked.as_second());
        if ended.exit_code == 0 && of_its_own {
            return PodState::Succeeded;
        }
        return PodState::Failed(ended_badly(pod, container, naming(pod), ended, ended_at, of_its_own));
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

/// The failure of a pod that is gone and whose end nobody saw; `named` as messages call it.
pub fn lost(named: &str, pod: &str, rank: u32, now: Timestamp) -> Failure {
    let pod = pod.to_owned();
    let message = format!("{named} vanished before it ended: it was deleted, or its node was removed");
    let cause = Cause::Lost;
    Failure { cause, time: now, rank, pod, node: None, container: None, exit_code: None, message, log_tail: None }
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

/// A pod that ended although its container did not: it was evicted, never admitted, or failed to initialise.
fn never_ended(pod: &PodFacts, place: &str, now: Timestamp) -> Failure {
    let init = pod.containers.iter().find_map(|container| match &container.state {
        ContainerState::Ended(ended) if container.init && ended.exit_code != 0 => Some((container, ended)),
        _ => None,
    });
    let reason = pod.reason.as_deref().unwrap_or("without a reason");
    let words = pod.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    let evicted = pod.disrupted.is_some() || matches!(reason, "Evicted" | "Preempting" | "NodeShutdown" | "Terminated");
    match init {
        Some((container, ended)) if !evicted => Failure {
            cause: Cause::ExitCode,
            container: Some(container.name.clone()),
            exit_code: Some(ended.exit_code),
            message: format!("{place}: init container {} ended with exit code {}", container.name, ended.exit_code),
            log_tail: ended.log_tail(),
            ..failure(pod, ended.finished_at.as_ref().map_or(now, |time| time.0))
        },
        _ if evicted => Failure {
            cause: Cause::Disrupted,
            message: format!("{place} was ended by Kubernetes ({reason}){words}"),
            ..failure(pod, now)
        },
        _ if pod.phase == Phase::Succeeded => {
            Failure { message: format!("{place} {}", end_asked_by(pod)), ..failure(pod, now) }
        }
        _ => Failure {
            cause: Cause::NotStarted,
            message: format!("{place} was given up by Kubernetes ({reason}){words}"),
            ..failure(pod, now)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::container::ContainerFacts;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ended(exit_code: i32, at: i64) -> ContainerState {
        let finished_at = Some(Time(second(at)));
        ContainerState::Ended(Ended { exit_code, finished_at, ..Ended::default() })
    }

    fn pod(phase: Phase, state: Option<ContainerState>) -> PodFacts {
        let containers = state.map(|state| ContainerFacts { name: "c".into(), state, ..ContainerFacts::default() });
        PodFacts { phase, containers: containers.into_iter().collect(), ..PodFacts::default() }
    }

    fn outcome(pod: &PodFacts) -> &'static str {
        match pod_state(pod, "c", by_rank, second(100)) {
            PodState::Waiting => "waiting",
            PodState::Running => "running",
            PodState::Succeeded => "succeeded",
            PodState::Failed(failure) => match failure.cause {
                Cause::ExitCode => "exit code",
                Cause::OutOfMemory => "memory",
                Cause::Disrupted => "disrupted",
                Cause::Lost => "lost",
                Cause::NotStarted => "not started",
            },
        }
    }

    #[test]
    fn one_container_decides() {
        let oom = Ended { exit_code: 137, reason: Some("OOMKilled".into()), ..Ended::default() };
        let deleted = |pod: PodFacts| PodFacts { delete_asked_at: Some(second(50)), ..pod };
        let disrupted = |pod: PodFacts| PodFacts { disrupted: Some((second(50), "Preempted".into())), ..pod };
        let evicted = |pod: PodFacts| PodFacts { reason: Some("Evicted".into()), ..pod };
        let cases = [
            ("nothing yet", pod(Phase::Pending, None), "waiting"),
            ("pulling", pod(Phase::Pending, Some(ContainerState::Waiting(String::new(), String::new()))), "waiting"),
            ("running", pod(Phase::Running, Some(ContainerState::Running)), "running"),
            ("node silent", pod(Phase::Unknown, Some(ContainerState::Running)), "running"),
            ("done", pod(Phase::Succeeded, Some(ended(0, 10))), "succeeded"),
            ("done, a sidecar goes on", pod(Phase::Running, Some(ended(0, 10))), "succeeded"),
            ("done, a sidecar failed", pod(Phase::Failed, Some(ended(0, 10))), "succeeded"),
            ("failed, a sidecar goes on", pod(Phase::Running, Some(ended(3, 10))), "exit code"),
            ("out of memory", pod(Phase::Failed, Some(ContainerState::Ended(oom))), "memory"),
            ("deleted, still running", deleted(pod(Phase::Running, Some(ContainerState::Running))), "lost"),
            ("done before it was deleted", deleted(pod(Phase::Running, Some(ended(0, 49)))), "succeeded"),
            ("0 after it was deleted", deleted(pod(Phase::Succeeded, Some(ended(0, 51)))), "lost"),
            ("0 in the same second", deleted(pod(Phase::Succeeded, Some(ended(0, 50)))), "lost"),
            ("failed before it was deleted", deleted(pod(Phase::Failed, Some(ended(3, 49)))), "exit code"),
            ("0 after it was disrupted", disrupted(pod(Phase::Succeeded, Some(ended(0, 51)))), "disrupted"),
            ("143 after it was disrupted", disrupted(pod(Phase::Failed, Some(ended(143, 51)))), "disrupted"),
            ("evicted before it started", evicted(pod(Phase::Failed, None)), "disrupted"),
            ("not admitted", pod(Phase::Failed, None), "not started"),
            ("succeeded, details lost", pod(Phase::Succeeded, None), "succeeded"),
            ("succeeded after deletion, details lost", deleted(pod(Phase::Succeeded, None)), "lost"),
        ];
        for (case, pod, expected) in &cases {
            assert_eq!(outcome(pod), *expected, "{case}");
        }
    }
}
