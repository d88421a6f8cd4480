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
    /// Whether the spec was edited, its replicas for instance: fewer pods take fewer steps.
    pub is_edited: bool,
    /// Whether there are pods, which may have been replaced by others since.
    pub has_pods: bool,
    /// Longest time without progress.
    pub patience: SignedDuration,
}

/// The record of a rollout, brought up to date: begun now if it is another revision's or another revision's pods are
/// counted, come further if more steps were taken than ever before.
///
/// After an edit steps are counted anew, but only before a first deadline has passed, and without pods: the time of the last
/// progress stays. Otherwise an autoscaler, which edits replicas every few minutes, would put off the deadline for ever with
/// pods whose readiness comes and goes.
pub fn record(old: Option<&RolloutStatus>, count: Count, now: Timestamp) -> RolloutStatus {
    let Count { revision, counting, steps, is_edited, has_pods, patience } = count;
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
        new.progress_time = new.progress_time.min(now.clone());
        let is_early = is_before(now.0, new.start_time.0, patience);
        new.progress = if is_edited && is_early || !has_pods { steps } else { new.progress };
    }
    new
}

/// Whether less than a time has passed; not if a clock was set back since.
fn is_before(now: Timestamp, since: Timestamp, time: SignedDuration) -> bool {
    let passed = now.duration_since(since);
    !passed.is_negative() && passed < time
}

/// When a rollout has made no progress for too long.
pub fn deadline(rollout: &RolloutStatus, patience: SignedDuration) -> Timestamp {
    rollout.progress_time.0.checked_add(patience).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::container::{ContainerFacts, Ended};

    const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn count(steps: i32) -> Count {
        Count { revision: 2, counting: Some(2), steps, is_edited: false, has_pods: true, patience: PATIENCE }
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
        let first = record(None, count(1), at(10));
        assert_eq!((first.progress, first.progress_time.0), (1, at(10)));
        let further = record(Some(&first), count(3), at(20));
        assert_eq!((further.progress, further.start_time.0, further.progress_time.0), (3, at(10), at(20)));
        let back = record(Some(&further), count(2), at(30));
        assert_eq!((back.progress, back.progress_time.0), (3, at(20)));
        let edited = record(Some(&further), Count { is_edited: true, ..count(2) }, at(30));
        assert_eq!((edited.progress, edited.progress_time.0), (2, at(20)));
        let other = record(Some(&further), Count { revision: 3, ..count(0) }, at(40));
        assert_eq!(other.start_time.0, at(40));
        assert_eq!(deadline(&further, SignedDuration::from_secs(60)), at(80));
        assert_eq!(record(Some(&further), count(3), at(5)).progress_time.0, at(5), "the clock was set back");
    }

    #[test]
    fn the_time_of_others_does_not_count() {
        let count = Count { counting: Some(1), ..count(12) };
        let restoring = record(None, count, at(10));
        let begun = record(Some(&restoring), Count { counting: Some(2), steps: 0, ..count }, at(500));
        assert_eq!((begun.progress, begun.progress_time.0), (0, at(500)), "the stable one was restored first");
        let none = record(Some(&begun), Count { counting: None, steps: 0, ..count }, at(901));
        let still = record(Some(&none), Count { counting: None, steps: 0, ..count }, at(999));
        assert_eq!(still, none, "what waits for a Deployment is not written again and again");
    }

    #[test]
    fn readiness_that_comes_and_goes_is_no_progress() {
        let mut rollout = record(None, count(5), at(0));
        for second in 1..100 {
            rollout = record(Some(&rollout), count(3 + i32::try_from(second % 3).unwrap()), at(second));
        }
        assert_eq!(rollout.progress_time.0, at(0));
    }

    #[test]
    fn edits_lower_what_was_reached_only_before_the_first_deadline() {
        let begun = record(None, count(9), at(0));
        for (what, second, edited, has_pods, expected) in [
            ("fewer are wanted", 599, true, true, 4),
            ("edited later", 600, true, true, 9),
            ("the clock was set back", -1, true, true, 9),
            ("no edit", 10, false, true, 9),
            ("all pods are gone", 10_000, false, false, 4),
        ] {
            let after = record(Some(&begun), Count { is_edited: edited, has_pods, ..count(4) }, at(second));
            assert_eq!((after.progress, after.progress_time.0), (expected, at(second.min(0))), "{what}");
        }
    }

    /// An autoscaler edits replicas every few minutes, and each of the pods is ready now and then.
    #[test]
    fn an_autoscaler_does_not_put_off_the_deadline_of_a_revision_that_flaps() {
        for minutes in 1..=9 {
            let mut rollout = record(None, count(0), at(0));
            let mut wanted = 2;
            let given_up = (0..10_000).find(|second| {
                let is_edited = second % (60 * minutes) == 0;
                wanted = if is_edited { 2 + i32::try_from(second / 60).unwrap() % 3 } else { wanted };
                let ready = if second % 10 >= 5 { wanted } else { 0 };
                rollout = record(Some(&rollout), Count { is_edited, ..count(3 * wanted + ready) }, at(*second));
                deadline(&rollout, PATIENCE) <= at(*second)
            });
            // The most that it ever has is reached once more after the last edit that counts.
            let latest = 600 + 3 * 60 * minutes + 600;
            assert!(
                given_up.is_some_and(|second| second <= latest),
                "every {minutes} min: {given_up:?}, not by {latest}"
            );
        }
    }
}
