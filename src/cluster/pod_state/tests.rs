//! Tables of pods, and what state each is in.

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
        let PodState::Failed(failure) = pod_state(pod, "c", |_| "it".into(), &Endings::default(), second(100)) else {
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
