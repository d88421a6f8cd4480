//! How many pods each revision should have while one replaces another.

use std::collections::BTreeMap;

/// A revision's pods as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// Number of the revision.
    pub revision: i64,
    /// Pods that it should have.
    pub wanted: i32,
    /// Pods of those that serve, that is, are ready.
    pub ready: i32,
    /// Pods of those that have served for `minReadySeconds`.
    pub available: i32,
}

/// What is wanted of all revisions together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Number of pods.
    pub replicas: i32,
    /// Pods more than that, meanwhile.
    pub max_surge: i32,
    /// Pods fewer than that may serve, meanwhile.
    pub max_unavailable: i32,
    /// The revision that should have all pods in the end.
    pub revision: i64,
    /// The revision that has proven itself.
    pub stable: Option<i64>,
}

/// The revision that pods move towards now.
///
/// A third revision that comes while the second is replacing the first starts from the first: what the second already
/// has goes back before the third begins, so that what has not proven itself is never all that serves. Where the first
/// has no pods left to go back to, nothing is gained by that.
pub fn heading(goal: &Goal, pods: &[Pods]) -> i64 {
    let between = |pods: &&Pods| pods.revision != goal.revision && Some(pods.revision) != goal.stable;
    match goal.stable {
        Some(stable) if has_pods(stable, pods) && pods.iter().filter(between).any(|pods| pods.wanted > 0) => stable,
        _ => goal.revision,
    }
}

fn has_pods(revision: i64, pods: &[Pods]) -> bool {
    pods.iter().any(|pods| pods.revision == revision && pods.wanted > 0)
}

/// The pods that each revision should have, by its number. Revisions that are left out should have none.
///
/// The others make up for what the one that is headed for does not serve reliably yet, and that one has what is left of
/// `replicas + max_surge`. So those that serve are at least `replicas - max_unavailable`; and when pods of the new
/// revision stop serving half-way, the stable one takes their place again. A stable revision without pods, of a deployment
/// that was asleep, gets none: nothing of it serves that would have to be kept.
pub fn share(goal: &Goal, pods: &[Pods]) -> BTreeMap<i64, i32> {
    let heading = heading(goal, pods);
    let (headed, others): (Vec<Pods>, Vec<Pods>) = pods.iter().partition(|pods| pods.revision == heading);
    let (ready, available) = headed.first().map_or((0, 0), |pods| (pods.ready.min(pods.wanted), pods.available));
    let needed = (goal.replicas - goal.max_unavailable).max(0);
    let most = goal.replicas + goal.max_surge;
    // What serves of it is kept until others serve, even if it does not do so reliably.
    let serving_elsewhere: i32 = others.iter().map(|pods| pods.ready.min(pods.wanted)).sum();
    let kept = (needed - serving_elsewhere).clamp(0, ready);
    let mut missing = (needed - available).clamp(0, most - kept);
    let mut shares = BTreeMap::new();
    if let Some(stable) = goal.stable.filter(|stable| *stable != heading && has_pods(*stable, pods)) {
        shares.insert(stable, missing);
        missing = 0;
    }
    // What is neither headed for nor stable only keeps what serves, and no longer than it is needed.
    let mut others: Vec<Pods> = others.into_iter().filter(|pods| Some(pods.revision) != goal.stable).collect();
    others.sort_by_key(|pods| std::cmp::Reverse(pods.revision));
    for pods in others {
        let kept = missing.min(pods.ready).min(pods.wanted);
        missing -= kept;
        shares.insert(pods.revision, kept);
    }
    let left = most - shares.values().sum::<i32>();
    shares.insert(heading, goal.replicas.min(left));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pods(list: &[(i64, i32, i32)]) -> Vec<Pods> {
        let pods = |&(revision, wanted, available)| Pods { revision, wanted, ready: available, available };
        list.iter().map(pods).collect()
    }

    fn goal(revision: i64, stable: Option<i64>, replicas: i32, max_surge: i32, max_unavailable: i32) -> Goal {
        Goal { replicas, max_surge, max_unavailable, revision, stable }
    }

    #[test]
    fn pods_move_step_by_step() {
        type Case = (&'static str, Goal, &'static [(i64, i32, i32)], &'static [(i64, i32)]);
        let cases: [Case; 20] = [
            ("first", goal(1, None, 3, 1, 0), &[], &[(1, 3)]),
            ("scaled up", goal(1, Some(1), 9, 1, 0), &[(1, 3, 3)], &[(1, 9)]),
            ("begins", goal(2, Some(1), 3, 1, 0), &[(1, 3, 3)], &[(1, 3), (2, 1)]),
            ("starting", goal(2, Some(1), 3, 1, 0), &[(1, 3, 3), (2, 1, 0)], &[(1, 3), (2, 1)]),
            ("one serves", goal(2, Some(1), 3, 1, 0), &[(1, 3, 3), (2, 1, 1)], &[(1, 2), (2, 2)]),
            ("last", goal(2, Some(1), 3, 1, 0), &[(1, 1, 1), (2, 3, 3)], &[(1, 0), (2, 3)]),
            ("in place", goal(2, Some(1), 3, 0, 1), &[(1, 3, 3)], &[(1, 2), (2, 1)]),
            ("in place, on", goal(2, Some(1), 3, 0, 1), &[(1, 2, 2), (2, 1, 1)], &[(1, 1), (2, 2)]),
            ("both", goal(2, Some(1), 4, 1, 1), &[(1, 4, 4)], &[(1, 3), (2, 2)]),
            ("stops serving", goal(2, Some(1), 4, 1, 0), &[(1, 1, 1), (2, 4, 1)], &[(1, 3), (2, 2)]),
            ("scaled up while it fails", goal(2, Some(1), 8, 1, 0), &[(1, 4, 4), (2, 1, 0)], &[(1, 8), (2, 1)]),
            ("scaled down", goal(1, Some(1), 1, 1, 0), &[(1, 3, 3)], &[(1, 1)]),
            ("to zero", goal(2, Some(1), 0, 1, 0), &[(1, 3, 3)], &[(1, 0), (2, 0)]),
            ("a third: back first", goal(3, Some(1), 4, 1, 0), &[(1, 2, 2), (2, 3, 2)], &[(1, 3), (2, 2), (3, 0)]),
            ("a third: then on", goal(3, Some(1), 4, 1, 0), &[(1, 4, 4), (2, 0, 0)], &[(1, 4), (2, 0), (3, 1)]),
            ("given up", goal(1, Some(1), 4, 1, 0), &[(1, 2, 2), (2, 3, 2)], &[(1, 3), (2, 2)]),
            ("none is stable", goal(2, None, 2, 1, 0), &[(1, 2, 1)], &[(1, 1), (2, 2)]),
            ("wakes as the new one", goal(2, Some(1), 2, 1, 0), &[(1, 0, 0), (2, 0, 0)], &[(1, 0), (2, 2)]),
            ("has woken", goal(2, Some(1), 2, 1, 0), &[(1, 0, 0), (2, 2, 0)], &[(1, 0), (2, 2)]),
            ("has woken, a third", goal(3, Some(1), 2, 1, 0), &[(1, 0, 0), (2, 2, 1)], &[(1, 0), (2, 1), (3, 2)]),
        ];
        for (what, goal, list, expected) in cases {
            let shares = share(&goal, &pods(list));
            let all: BTreeMap<i64, i32> = expected.iter().copied().collect();
            let shares: BTreeMap<i64, i32> =
                all.keys().map(|revision| (*revision, shares.get(revision).copied().unwrap_or(0))).collect();
            assert_eq!(shares, all, "{what}");
        }
    }

    /// Pods that serve, and have not done so for long, are not enough to replace others, and are kept until others serve.
    #[test]
    fn pods_that_just_serve_replace_nothing_and_are_not_thrown_away() {
        let just = |revision, wanted, ready| Pods { revision, wanted, ready, available: 0 };
        let stable = Pods { revision: 1, wanted: 3, ready: 3, available: 3 };
        let shares = share(&goal(2, Some(1), 3, 1, 0), &[stable, just(2, 1, 1)]);
        assert_eq!(shares, BTreeMap::from([(1, 3), (2, 1)]), "one ready moment");
        let shares = share(&goal(2, None, 2, 1, 0), &[just(1, 2, 2), just(2, 1, 1)]);
        assert_eq!(shares, BTreeMap::from([(1, 2), (2, 1)]), "the first revision serves, though not for long");
        let shares = share(&goal(2, Some(1), 3, 1, 0), &[just(1, 1, 0), just(2, 3, 3)]);
        assert_eq!(shares, BTreeMap::from([(1, 1), (2, 3)]), "all pods of the second were not ready for a moment");
    }

    proptest! {
        /// Whatever there is: never too many, never too few, and whoever follows the shares arrives.
        #[test]
        fn capacity_is_kept_and_the_goal_is_reached(
            replicas in 0..9i32, surge in 0..4i32, unavailable in 0..3i32, list in prop::collection::vec((0..9i32, 0..9i32, 0..9i32), 3),
            stable in prop::option::of(1..4i64), revision in 1..4i64,
        ) {
            prop_assume!(surge + unavailable > 0);
            let goal = goal(revision, stable, replicas, surge, unavailable);
            let mut pods: Vec<Pods> = (1..).zip(list)
                .map(|(revision, (wanted, ready, available))| {
                    let ready = ready.min(wanted);
                    Pods { revision, wanted, ready, available: available.min(ready) }
                })
                .collect();
            for _ in 0..60 {
                let shares = share(&goal, &pods);
                let serving: i32 = pods.iter().map(|pods| pods.ready).sum();
                let share_of = |pods: &Pods| shares.get(&pods.revision).copied().unwrap_or(0);
                let left: i32 = pods.iter().map(|pods| pods.ready.min(share_of(pods))).sum();
                prop_assert!(left >= serving.min(replicas - unavailable), "{shares:?} of {pods:?}");
                prop_assert!(shares.values().sum::<i32>() <= replicas + surge, "{shares:?}");
                for pods in &mut pods {
                    pods.wanted = share_of(pods);
                    (pods.ready, pods.available) = (pods.wanted, pods.wanted);
                }
            }
            for pods in &pods {
                prop_assert_eq!(pods.wanted, if pods.revision == revision { replicas } else { 0 });
            }
        }
    }
}
