//! Whether a revision comes further, and when it has been standing still for too long.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::RolloutStatus;
use crate::api::conditions::whole_second;
use crate::cluster::container::ContainerState;
use crate::cluster::pod::PodFacts;

/// How many steps a revision's pods have taken: scheduled, each container pulled and started, ready.
pub fn steps<'a>(pods: impl Iterator<Item = &'a PodFacts>) -> i32 {
    pods.filter(|pod| pod.delete_asked_at.is_none() && !pod.is_terminal()).map(steps_of).sum()
}

fn steps_of(pod: &PodFacts) -> i32 {
    // An init container that has ended is a step too: it may load the model.
    let initialised = pod.containers.iter().filter(|each| each.init && has_started(&each.state));
    let started =
        pod.containers.iter().filter(|each| !each.init && (has_started(&each.state) || each.last_end.is_some()));
    let counted = initialised.count() + started.count() + usize::from(pod.node.is_some()) + usize::from(pod.ready);
    i32::try_from(counted).unwrap_or(i32::MAX)
}

fn has_started(state: &ContainerState) -> bool {
    !matches!(state, ContainerState::Waiting(..))
}

/// What is counted for a rollout now.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// The revision that is to serve.
    pub revision: i64,
    /// The revision whose pods are counted, if there is a Deployment for them.
    pub counting: Option<i64>,
    /// Steps that those have taken.
    pub steps: i32,
    /// Whether the spec was edited, its replicas for instance, or there are no pods yet: steps are then counted anew, while
    /// the time of the last progress stays. An autoscaler must not put off the deadline for ever.
    pub is_anew: bool,
}

/// The record of a rollout, brought up to date: begun now if it is another revision's or another revision's pods are
/// counted, come further if more steps were taken than ever before.
pub fn record(old: Option<&RolloutStatus>, count: Count, now: Timestamp) -> RolloutStatus {
    let Count { revision, counting, steps, is_anew } = count;
    let now = Time(whole_second(now));
    let mut new = match old.filter(|old| old.revision == revision) {
        Some(old) => old.clone(),
        None => RolloutStatus {
            revision,
            start_time: now.clone(),
            progress_time: now.clone(),
            progress: steps,
            counting,
            failed: None,
        },
    };
    if new.counting != counting {
        (new.counting, new.progress, new.progress_time) = (counting, steps, now);
    } else if steps > new.progress {
        // Readiness that comes and goes never gets further than it was.
        (new.progress, new.progress_time) = (steps, now);
    } else {
        // A clock that was set back must not hold the deadline up.
        new.progress_time = new.progress_time.min(now);
        new.progress = if is_anew { steps } else { new.progress };
    }
    new
}

/// When a rollout has made no progress for too long.
pub fn deadline(rollout: &RolloutStatus, patience: SignedDuration) -> Timestamp {
    rollout.progress_time.0.checked_add(patience).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::container::{ContainerFacts, Ended};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn every_step_of_a_pod_counts_once() {
        let container = |state, last_end: Option<Ended>| ContainerFacts {
            name: "c".into(),
            state,
            last_end: last_end.map(Box::new),
            ..ContainerFacts::default()
        };
        let crashed = ContainerState::Waiting("CrashLoopBackOff".into(), String::new());
        let pod = |node: bool, containers, ready| PodFacts {
            node: node.then(|| "n".to_owned()),
            containers,
            ready,
            ..PodFacts::default()
        };
        let cases = [
            (pod(false, vec![], false), 0),
            (pod(true, vec![container(ContainerState::default(), None)], false), 1),
            (pod(true, vec![container(ContainerState::Running, None)], false), 2),
            (pod(true, vec![container(ContainerState::Running, None)], true), 3),
            (pod(true, vec![container(crashed, Some(Ended::default()))], false), 2),
        ];
        for (pod, expected) in cases {
            assert_eq!(steps([&pod].into_iter()), expected, "{pod:?}");
        }
    }

    #[test]
    fn only_what_was_never_reached_before_is_progress() {
        let count = |steps| Count { revision: 2, counting: Some(2), steps, is_anew: false };
        let first = record(None, count(1), at(10));
        assert_eq!((first.progress, first.progress_time.0), (1, at(10)));
        let further = record(Some(&first), count(3), at(20));
        assert_eq!((further.progress, further.start_time.0, further.progress_time.0), (3, at(10), at(20)));
        let back = record(Some(&further), count(2), at(30));
        assert_eq!((back.progress, back.progress_time.0), (3, at(20)));
        let edited = record(Some(&further), Count { is_anew: true, ..count(2) }, at(30));
        assert_eq!((edited.progress, edited.progress_time.0), (2, at(20)));
        let other = record(Some(&further), Count { revision: 3, ..count(0) }, at(40));
        assert_eq!(other.start_time.0, at(40));
        assert_eq!(deadline(&further, SignedDuration::from_secs(60)), at(80));
        assert_eq!(record(Some(&further), count(3), at(5)).progress_time.0, at(5), "the clock was set back");
    }

    #[test]
    fn the_time_of_others_does_not_count() {
        let count = Count { revision: 2, counting: Some(1), steps: 12, is_anew: false };
        let restoring = record(None, count, at(10));
        let begun = record(Some(&restoring), Count { counting: Some(2), steps: 0, ..count }, at(500));
        assert_eq!((begun.progress, begun.progress_time.0), (0, at(500)), "the stable one was restored first");
        let none = record(Some(&begun), Count { counting: None, steps: 0, ..count }, at(901));
        let still = record(Some(&none), Count { counting: None, steps: 0, ..count }, at(999));
        assert_eq!(still, none, "what waits for a Deployment is not written again and again");
    }

    #[test]
    fn readiness_that_comes_and_goes_is_no_progress() {
        let count = |steps| Count { revision: 2, counting: Some(2), steps, is_anew: false };
        let mut rollout = record(None, count(5), at(0));
        for second in 1..100 {
            rollout = record(Some(&rollout), count(3 + i32::try_from(second % 3).unwrap()), at(second));
        }
        assert_eq!(rollout.progress_time.0, at(0));
    }
}
