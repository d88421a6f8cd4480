//! Pods that end by themselves, and how long they are given.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::pod::PodFacts;

/// How long a pod whose containers have ended may take to say so, beyond its grace period, in which the kubelet stops its
/// sidecars. A kubelet that died over it never will, and a pod must be deleted before Kubernetes gives it up for lost.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Until when which pods, by UID, are given time to end by themselves, as far as this process has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endings(BTreeMap<String, Timestamp>);

impl Endings {
    /// Takes in what the cache shows.
    pub fn catch_up<'a>(&mut self, pods: impl Iterator<Item = &'a PodFacts>, now: Timestamp) {
        let known = std::mem::take(&mut self.0);
        self.0 = (pods.filter(|pod| pod.is_ending()))
            .map(|pod| {
                let latest =
                    now.checked_add(pod.grace).and_then(|end| end.checked_add(PATIENCE)).unwrap_or(Timestamp::MAX);
                // A clock that was set back must not make the wait longer.
                (pod.meta.uid.clone(), known.get(&pod.meta.uid).map_or(latest, |until| *until.min(&latest)))
            })
            .collect();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pod has ended, or is given the time to do so by itself: those are kept, for their logs.
    pub fn ends_by_itself(&self, pod: &PodFacts, now: Timestamp) -> bool {
        pod.is_terminal() || self.is_awaited(pod, now)
    }

    /// Whether the containers of a pod have ended, and the kubelet is given time to say what became of the pod.
    pub fn is_awaited(&self, pod: &PodFacts, now: Timestamp) -> bool {
        pod.is_ending() && self.0.get(&pod.meta.uid).is_none_or(|until| now < *until)
    }

    /// When the next of them has had its time.
    pub fn at_the_latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.values().copied().filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::container::{ContainerFacts, ContainerState, Ended};
    use crate::cluster::pod::Phase;

    #[test]
    fn a_pod_has_its_grace_period_to_end_by_itself() {
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let state = ContainerState::Ended(Ended::default());
        let containers = vec![ContainerFacts { state, ..ContainerFacts::default() }];
        let ending = |grace| PodFacts {
            phase: Phase::Running,
            containers: containers.clone(),
            grace: SignedDuration::from_secs(grace),
            ..PodFacts::default()
        };
        for (grace, latest) in [(30, 60), (0, 30), (300, 330), (i64::MAX, i64::MAX)] {
            let (pod, mut endings) = (ending(grace), Endings::default());
            endings.catch_up([&pod].into_iter(), second(0));
            assert!(endings.ends_by_itself(&pod, second(latest.min(100_000) - 1)), "grace {grace}");
            if latest != i64::MAX {
                endings.catch_up([&pod].into_iter(), second(latest - 1));
                assert_eq!(endings.at_the_latest(second(0)), Some(second(latest)), "counted from the start");
                assert!(!endings.ends_by_itself(&pod, second(latest)), "grace {grace}");
            }
        }
    }
}
