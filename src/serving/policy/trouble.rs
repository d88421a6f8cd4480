//! Why pods do not serve: what kind of trouble, in words, and the container that is to blame.

use crate::api::{ContainerFailure, FailureLogs};
use crate::cluster::container::{ContainerFacts, ContainerState, Ended, with_last_line};
use crate::cluster::pod::PodFacts;
use crate::cluster::waiting::{counted, is_ordinary, reason};
use crate::serving::build::pod::MODEL_VOLUME;

/// What a kubelet says of a path that is missing in a volume that cannot be written to.
const NO_SUB_PATH: &str = "failed to create subPath directory";
const NO_PATH: &str = "without their model: spec.model.uri: there is no such path in the claim: correct it, or write the \
                       model there first";

/// What kind of trouble, the one that needs a person most last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// Its containers run, and its readiness probe does not succeed.
    NotReady,
    /// No node has room for it, or a scheduling gate holds it.
    Unschedulable,
    /// The kubelet cannot start a container, for whatever reason but the image.
    CannotStart,
    /// An image cannot be pulled.
    ImagePull,
    /// A container ends again and again.
    Crashing,
}

/// What keeps pods from serving.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// The worst that was found.
    pub kind: TroubleKind,
    /// All that was found: `2 of 8 pods unschedulable: insufficient nvidia.com/gpu`.
    pub words: String,
    /// The container that is to blame, if it is one.
    pub failure: Option<ContainerFailure>,
}

/// What keeps these pods from serving, of all that are wanted; nothing if all is as it should be, just not yet.
pub fn trouble<'a>(pods: impl Iterator<Item = &'a PodFacts>, of: i32, logs: FailureLogs) -> Option<Trouble> {
    // A pod that has ended for good, evicted for instance, has been replaced by another.
    let waiting = pods.filter(|pod| !pod.ready && pod.delete_asked_at.is_none() && !pod.is_terminal());
    let mut found: Vec<(TroubleKind, String, Option<ContainerFailure>)> =
        waiting.filter_map(|pod| trouble_of(pod, logs)).collect();
    found.sort_by_key(|(kind, ..)| std::cmp::Reverse(*kind));
    let kind = found.first()?.0;
    let words = counted(found.iter().map(|(_, words, _)| words.clone()), u32::try_from(of).unwrap_or(0))?;
    let failure = found.into_iter().find_map(|(.., failure)| failure);
    Some(Trouble { kind, words, failure })
}

fn trouble_of(pod: &PodFacts, logs: FailureLogs) -> Option<(TroubleKind, String, Option<ContainerFailure>)> {
    if let Some((container, ended)) = pod.containers.iter().find_map(crash) {
        let tail = ended.log_tail().filter(|_| logs == FailureLogs::Tail);
        let (code, signal) = (ended.exit_code, ended.signal());
        let words = format!("crashing: container {} ended with exit code {code}{signal}", container.name);
        let memory = ended.reason.as_deref() == Some("OOMKilled");
        let words = match memory {
            true => format!("{words}: it used more memory than its limit: raise the memory limit"),
            false => with_last_line(&words, tail.as_deref()),
        };
        let waits = match &container.state {
            ContainerState::Waiting(reason, _) if !memory => reason.clone(),
            _ => ended.reason.clone().unwrap_or_else(|| "Error".to_owned()),
        };
        return Some((TroubleKind::Crashing, words, Some(failure(pod, container, waits, Some(code), tail))));
    }
    if let Some(words) = reason(pod) {
        let words =
            if words.contains(NO_SUB_PATH) && words.contains(MODEL_VOLUME) { NO_PATH.to_owned() } else { words };
        let waiting = pod.containers.iter().find_map(|container| match &container.state {
            ContainerState::Waiting(reason, _) if !is_ordinary(reason) => Some((container, reason.clone())),
            _ => None,
        });
        let kind = match &waiting {
            _ if pod.unschedulable.is_some() || !pod.gates.is_empty() => TroubleKind::Unschedulable,
            Some((_, reason)) if reason.contains("Image") => TroubleKind::ImagePull,
            _ => TroubleKind::CannotStart,
        };
        let blamed = waiting.map(|(container, reason)| failure(pod, container, reason, None, None));
        return Some((kind, words, blamed));
    }
    let mut containers = pod.containers.iter().filter(|container| !container.init).peekable();
    let runs = containers.peek().is_some() && containers.all(|each| each.state == ContainerState::Running);
    let words = "not ready: its containers run, and its readiness probe does not succeed";
    runs.then(|| (TroubleKind::NotReady, words.to_owned(), None))
}

/// How a container ended that does not run now, or that was started again and is not ready again.
fn crash(container: &ContainerFacts) -> Option<(&ContainerFacts, &Ended)> {
    match &container.state {
        ContainerState::Ended(ended) if !container.init || ended.exit_code != 0 => Some((container, ended)),
        ContainerState::Waiting(..) | ContainerState::Running => Some((container, container.last_end.as_deref()?)),
        ContainerState::Ended(_) => None,
    }
}

fn failure(
    pod: &PodFacts,
    container: &ContainerFacts,
    reason: String,
    exit_code: Option<i32>,
    log_tail: Option<String>,
) -> ContainerFailure {
    let (pod_name, container) = (pod.meta.name.clone(), container.name.clone());
    ContainerFailure { revision: pod.revision, pod: pod_name, container, reason, exit_code, log_tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(state: ContainerState, last_end: Option<Ended>) -> PodFacts {
        let last_end = last_end.map(Box::new);
        let container = ContainerFacts { name: "server".into(), state, last_end, ..ContainerFacts::default() };
        PodFacts { node: Some("n".into()), containers: vec![container], ..PodFacts::default() }
    }

    fn waiting(reason: &str) -> ContainerState {
        ContainerState::Waiting(reason.into(), "back-off".into())
    }

    #[test]
    fn pulling_crashing_unschedulable_and_not_ready_are_told_apart() {
        let ended = |exit_code, reason: &str, message: &str| Ended {
            exit_code,
            reason: Some(reason.into()),
            message: Some(message.into()),
            ..Ended::default()
        };
        let crashed = ended(3, "Error", "Traceback\nValueError: no such column\n");
        let oom = ended(137, "OOMKilled", "");
        let unschedulable = PodFacts {
            unschedulable: Some("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.".into()),
            ..PodFacts::default()
        };
        let ready = PodFacts { ready: true, ..pod(ContainerState::Running, Some(crashed.clone())) };
        type Case = (&'static str, Vec<PodFacts>, Option<(TroubleKind, &'static str)>);
        let cases: [Case; 9] = [
            ("nothing yet", vec![pod(waiting(""), None), pod(waiting("ContainerCreating"), None)], None),
            ("serves, and crashed before", vec![ready], None),
            (
                "crash loop",
                vec![pod(waiting("CrashLoopBackOff"), Some(crashed.clone()))],
                Some((
                    TroubleKind::Crashing,
                    "1 of 2 pods crashing: container server ended with exit code 3: ValueError: no such column",
                )),
            ),
            (
                "started again",
                vec![pod(ContainerState::Running, Some(oom))],
                Some((
                    TroubleKind::Crashing,
                    "1 of 2 pods crashing: container server ended with exit code 137 (SIGKILL): it used more memory than its limit: raise the memory limit",
                )),
            ),
            (
                "just ended",
                vec![pod(ContainerState::Ended(crashed), None)],
                Some((
                    TroubleKind::Crashing,
                    "1 of 2 pods crashing: container server ended with exit code 3: ValueError: no such column",
                )),
            ),
            (
                "no image",
                vec![pod(waiting("ImagePullBackOff"), None)],
                Some((TroubleKind::ImagePull, "1 of 2 pods waiting in container server: ImagePullBackOff: back-off")),
            ),
            (
                "no config",
                vec![pod(waiting("CreateContainerConfigError"), None)],
                Some((
                    TroubleKind::CannotStart,
                    "1 of 2 pods waiting in container server: CreateContainerConfigError: back-off",
                )),
            ),
            (
                "not ready",
                vec![pod(ContainerState::Running, None)],
                Some((
                    TroubleKind::NotReady,
                    "1 of 2 pods not ready: its containers run, and its readiness probe does not succeed",
                )),
            ),
            (
                "the worst counts",
                vec![unschedulable, pod(waiting("ErrImagePull"), None)],
                Some((
                    TroubleKind::ImagePull,
                    "1 of 2 pods unschedulable: insufficient nvidia.com/gpu; 1 of 2 pods waiting in container server: ErrImagePull: back-off",
                )),
            ),
        ];
        for (what, pods, expected) in cases {
            let found = trouble(pods.iter(), 2, FailureLogs::Tail);
            let found = found.as_ref().map(|trouble| (trouble.kind, trouble.words.as_str()));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn no_log_line_is_told_when_logs_are_off() {
        let ended = Ended { exit_code: 3, message: Some("secret".into()), ..Ended::default() };
        let pods = [pod(waiting("CrashLoopBackOff"), Some(ended))];
        let told = format!("{:?}", trouble(pods.iter(), 1, FailureLogs::None));
        assert!(told.contains("exit code 3") && !told.contains("secret"), "{told}");
    }
}
