//! How a pod that runs to its end is doing, by the one container that counts.

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
        match pod_state(pod, "c", by_rank, &Endings::default(), second(100)) {
            PodState::Waiting => "waiting",
            PodState::Running => "running",
            PodState::Succeeded => "succeeded",
            PodState::Failed(failure) => match failure.cause {
                Cause::ExitCode => "exit code",
                Cause::OutOfMemory => "memory",
                Cause::Disrupted => "disrupted",
                Cause::Lost => "lost",
                Cause::NotStarted => "not started",
                Cause::LimitExceeded => "limit",
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
    /// What Kubernetes writes of a pod in the end, and the verdict: cause, and the beginning of the message after the pod's
    /// name.
    #[test]
    fn what_the_kubelet_says_of_the_pod_counts() {
        const EMPTY_DIR: &str = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"16Mi\". ";
        const EPHEMERAL: &str = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ";
        const DEADLINE: &str = "Pod was active on the node longer than the specified deadline";
        const NODE_LOW: &str = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 40Mi. Container c was using 2Gi, request is 1Gi, has larger consumption of memory. ";
        const NO_CPU: &str =
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 4000, used: 3900, capacity: 4000";
        let failed = |reason: &str, message: &str, state| PodFacts {
            reason: Some(reason.into()),
            message: Some(message.into()),
            ..pod(Phase::Failed, state)
        };
        let by_node = |pod: PodFacts| PodFacts { disrupted: Some((second(10), "TerminationByKubelet".into())), ..pod };
        let cases = [
            (
                failed("DeadlineExceeded", DEADLINE, Some(ended(0, 10))),
                "limit",
                "was ended over its own activeDeadlineSeconds (DeadlineExceeded): Pod was active on the node longer than the specified deadline: raise it",
            ),
            (
                failed("DeadlineExceeded", DEADLINE, Some(ended(137, 10))),
                "limit",
                "was ended over its own activeDeadlineSeconds",
            ),
            (
                failed("Evicted", EMPTY_DIR, Some(ended(137, 10))),
                "limit",
                "was ended over a limit of its own (Evicted): Usage of EmptyDir volume \"scratch\" exceeds the limit \"16Mi\": raise",
            ),
            (
                failed("Evicted", EPHEMERAL, Some(ended(137, 10))),
                "limit",
                "was ended over a limit of its own (Evicted): Pod ephemeral local storage usage exceeds the total limit",
            ),
            (failed("Evicted", EPHEMERAL, Some(ended(0, 10))), "limit", "was ended over a limit of its own (Evicted)"),
            (
                by_node(failed("Evicted", NODE_LOW, Some(ended(137, 9)))),
                "disrupted",
                "was ended by Kubernetes (Evicted): The node was low on resource: memory",
            ),
            (by_node(failed("Evicted", NODE_LOW, Some(ended(0, 9)))), "disrupted", "was ended by Kubernetes (Evicted)"),
            (
                failed("Evicted", "The node had condition: [DiskPressure]. ", None),
                "disrupted",
                "was ended by Kubernetes (Evicted): The node had condition: [DiskPressure]",
            ),
            (
                by_node(failed("Preempting", "Preempted in order to admit critical pod", Some(ended(137, 9)))),
                "disrupted",
                "was ended by Kubernetes (Preempting): Preempted",
            ),
            (
                by_node(failed(
                    "Terminated",
                    "Pod was terminated in response to imminent node shutdown.",
                    Some(ended(0, 9)),
                )),
                "disrupted",
                "was ended by Kubernetes (Terminated): Pod was terminated",
            ),
            (
                failed("OutOfcpu", NO_CPU, None),
                "not started",
                "was given up by Kubernetes (OutOfcpu): Pod was rejected: Node didn't have enough",
            ),
            (
                failed("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed", Some(ended(0, 10))),
                "disrupted",
                "was ended by Kubernetes (NodeAffinity)",
            ),
            (
                failed("UnexpectedAdmissionError", "Pod was rejected: Allocate failed", None),
                "not started",
                "was given up by Kubernetes (UnexpectedAdmissionError)",
            ),
        ];
        for (pod, expected, words) in &cases {
            assert_eq!(outcome(pod), *expected, "{words}");
            let PodState::Failed(failure) = pod_state(pod, "c", |_| "it".into(), &Endings::default(), second(100))
            else {
                panic!("{words}")
            };
            assert!(failure.message.starts_with(&format!("it {words}")), "{}", failure.message);
        }
    }

    #[test]
    fn the_kubelet_is_given_time_to_say_why() {
        let alone = |exit_code| pod(Phase::Running, Some(ended(exit_code, 10)));
        let with_deadline = |at, pod: PodFacts| PodFacts { own_deadline: Some(second(at)), ..pod };
        let limited = |pod: PodFacts| PodFacts { has_storage_limit: true, ..pod };
        let beside = |mut pod: PodFacts, exit_code| {
            let state = ended(exit_code, 10);
            pod.containers.push(ContainerFacts { name: "proxy".into(), state, ..ContainerFacts::default() });
            pod
        };
        // Whether an end that is reported before the pod's own may yet become another.
        let cases = [
            ("0, of its own", alone(0), false),
            ("0 before the pod's deadline", with_deadline(11, alone(0)), false),
            ("0 at the pod's deadline", with_deadline(10, alone(0)), true),
            ("0 beside a container that failed", beside(alone(0), 137), true),
            ("0 beside one that ended well", beside(alone(0), 0), false),
            ("killed", alone(137), true),
            ("told to end", alone(143), true),
            ("an exit code", alone(1), false),
            ("an exit code at the pod's deadline", with_deadline(9, alone(1)), true),
            ("an exit code, with a limit on storage", limited(alone(1)), true),
            ("0, with a limit on storage", limited(alone(0)), false),
            ("ended, and its pod too", pod(Phase::Failed, Some(ended(137, 10))), false),
            ("deleted meanwhile", PodFacts { delete_asked_at: Some(second(50)), ..alone(137) }, false),
        ];
        for (case, pod, expected) in &cases {
            let may_change = match pod_state(pod, "c", by_rank, &Endings::default(), second(100)) {
                PodState::Failed(failure) => failure.may_change,
                state => state == PodState::Running,
            };
            assert_eq!(may_change, *expected, "{case}");
        }
        let mut endings = Endings::default();
        endings.catch_up([&alone(137)].into_iter(), second(100));
        let state = pod_state(&alone(137), "c", by_rank, &endings, second(1_000));
        assert!(matches!(state, PodState::Failed(failure) if !failure.may_change), "not for ever");
    }
}
