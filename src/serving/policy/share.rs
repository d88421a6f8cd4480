//! How many pods each revision should have while one replaces another.

use std::collections::BTreeMap;

/// A revision's pods as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// Number of the revision.
    pub revision: i64,
    /// Pods that it should have.
    pub wanted: i32,
    /// Pods of those that serve.
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
/// has goes back before the third begins, so that what has not proven itself is never all that serves.
pub fn heading(goal: &Goal, pods: &[Pods]) -> i64 {
    let between = |pods: &&Pods| pods.revision != goal.revision && Some(pods.revision) != goal.stable;
    match goal.stable {
        Some(stable) if pods.iter().filter(between).any(|pods| pods.wanted > 0) => stable,
        _ => goal.revision,
    }
}

/// The pods that each revision should have, by its number. Revisions that are left out should have none.
///
/// The others make up for what the one that is headed for does not serve yet, and that one has what is left of
/// `replicas + max_surge`. So those that serve are at least `replicas - max_unavailable`; and when pods of the new
/// revision stop serving half-way, the stable one takes their place again.
pub fn share(goal: &Goal, pods: &[Pods]) -> BTreeMap<i64, i32> {
    let heading = heading(goal, pods);
    let serving = pods.iter().find(|pods| pods.revision == heading).map_or(0, |pods| pods.available);
    let mut missing = (goal.replicas - goal.max_unavailable - serving).max(0);
    let mut shares = BTreeMap::new();
    if let Some(stable) = goal.stable.filter(|stable| *stable != heading) {
        shares.insert(stable, missing);
        missing = 0;
    }
    // What is neither headed for nor stable only keeps what serves, and no longer than it is needed.
    let is_other = |pods: &&Pods| pods.revision != heading && Some(pods.revision) != goal.stable;
    let mut others: Vec<&Pods> = pods.iter().filter(is_other).collect();
    others.sort_by_key(|pods| std::cmp::Reverse(pods.revision));
    for pods in others {
        let kept = missing.min(pods.available).min(pods.wanted);
        missing -= kept;
        shares.insert(pods.revision, kept);
    }
    let left = goal.replicas + goal.max_surge - shares.values().sum::<i32>();
    shares.insert(heading, goal.replicas.min(left));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pods(list: &[(i64, i32, i32)]) -> Vec<Pods> {
        list.iter().map(|&(revision, wanted, available)| Pods { revision, wanted, available }).collect()
    }

    fn goal(revision: i64, stable: Option<i64>, replicas: i32, max_surge: i32, max_unavailable: i32) -> Goal {
        Goal { replicas, max_surge, max_unavailable, revision, stable }
    }

    #[test]
    fn pods_move_step_by_step() {
        type Case = (&'static str, Goal, &'static [(i64, i32, i32)], &'static [(i64, i32)]);
        let cases: [Case; 17] = [
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
        ];
        for (what, goal, list, expected) in cases {
            let shares = share(&goal, &pods(list));
            let all: BTreeMap<i64, i32> = expected.iter().copied().collect();
            let shares: BTreeMap<i64, i32> =
                all.keys().map(|revision| (*revision, shares.get(revision).copied().unwrap_or(0))).collect();
            assert_eq!(shares, all, "{what}");
        }
    }

    proptest! {
        /// Whatever there is: never too many, never too few, and whoever follows the shares arrives.
        #[test]
        fn capacity_is_kept_and_the_goal_is_reached(
            replicas in 0..9i32, surge in 0..4i32, unavailable in 0..3i32, list in prop::collection::vec((0..9i32, 0..9i32), 3),
            stable in prop::option::of(1..4i64), revision in 1..4i64,
        ) {
            prop_assume!(surge + unavailable > 0);
            let goal = goal(revision, stable, replicas, surge, unavailable);
            let mut pods: Vec<Pods> = (1..).zip(list)
                .map(|(revision, (wanted, available))| Pods { revision, wanted, available: available.min(wanted) })
                .collect();
            for _ in 0..60 {
                let shares = share(&goal, &pods);
                let serving: i32 = pods.iter().map(|pods| pods.available).sum();
                let share_of = |pods: &Pods| shares.get(&pods.revision).copied().unwrap_or(0);
                let left: i32 = pods.iter().map(|pods| pods.available.min(share_of(pods))).sum();
                prop_assert!(left >= serving.min(replicas - unavailable), "{shares:?} of {pods:?}");
                prop_assert!(shares.values().sum::<i32>() <= replicas + surge, "{shares:?}");
                for pods in &mut pods {
                    pods.wanted = share_of(pods);
                    pods.available = pods.wanted;
                }
            }
            for pods in &pods {
                prop_assert_eq!(pods.wanted, if pods.revision == revision { replicas } else { 0 });
            }
        }
    }
}
