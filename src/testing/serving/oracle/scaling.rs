//! What must be true of every change of a number of pods: never too many, never too few, and one revision at a time.
//!
//! A controller goes by caches, which may show the past. So each rule is broken only if nothing that the operator may have
//! taken for the present excuses it; of its own writes it is expected to know.

use serde_json::Value;

use super::giving_up::given_up;
use super::life::{History, Life, Room, View, min_ready, proven, serving, wanted};
use crate::testing::json;
use crate::testing::subject::{Verdict, ensure};

/// The operator changes the Deployment of a revision, or makes it (`old` is nothing then).
pub(super) fn check_scaled(life: &Life, view: &View, number: u64, old: Option<&Value>, new: &Value) -> Verdict {
    let (before, after) = (old.map_or(0, wanted), wanted(new));
    if old.is_none() {
        check_min_ready(life, view, new)?;
    }
    if after > before {
        check_most(life, view, number, after)?;
        check_woken(life, view, number, before)?;
        check_one_at_a_time(life, view, number)
    } else if after < before {
        check_fewest(life, view, number, old.map_or(0, serving), after)
    } else {
        Ok(())
    }
}

/// The Deployments of all other revisions.
fn others(life: &Life, number: u64) -> impl Iterator<Item = &History> {
    life.deployments.iter().filter(move |(other, _)| **other != number).map(|(_, history)| history)
}

/// Pods of all revisions are at most `replicas` and the surge.
fn check_most(life: &Life, view: &View, number: u64, after: u64) -> Verdict {
    let least = |history: &History| {
        let known = history.possible(view.deployments).map(wanted).min().unwrap_or(0);
        if history.may_be_unknown(view.deployments) { 0 } else { known }
    };
    let total = after + others(life, number).map(least).sum::<u64>();
    let most = life.possible_owners(view).map(|owner| Room::of(owner).most).max().unwrap_or(0);
    ensure(total <= most, || format!("revision {number} was raised to {after}: {total} pods, of at most {most}"))
}

/// A new Deployment counts pods as the spec says.
fn check_min_ready(life: &Life, view: &View, new: &Value) -> Verdict {
    let has = json::number(new, "/spec/minReadySeconds");
    let is_right = life.possible_owners(view).any(|owner| has == Some(min_ready(owner)));
    ensure(is_right, || format!("a Deployment was made with minReadySeconds {has:?}"))
}

/// Nothing but what is asked for gets its first pods, unless that was given up: who has slept wakes as the new revision.
fn check_woken(life: &Life, view: &View, number: u64, before: u64) -> Verdict {
    let is_due = |owner: &Value| {
        // What is invalid is followed as it was before.
        let goal = life.goal(owner).or_else(|| json::number(owner, "/status/revision"));
        // What is new has no record yet when its Deployment is made.
        goal.is_none_or(|goal| goal == number || given_up(owner) == Some(goal))
            || life.revision_of_spec(owner).is_none()
    };
    let is_fine = before > 0 || life.meddled_with || life.possible_owners(view).any(is_due);
    ensure(is_fine, || format!("revision {number} got its first pods, although another is asked for"))
}

/// Pods that serve are at least `replicas` but for those that may be missing, as far as this takes any away.
fn check_fewest(life: &Life, view: &View, number: u64, served: u64, after: u64) -> Verdict {
    if served <= after {
        return Ok(());
    }
    let stables = life.possible_stables(view);
    let is_unproven = |other: &u64| {
        !stables.contains(other) && life.possible_owners(view).any(|owner| life.goal(owner) == Some(*other))
    };
    // Of what has yet to prove itself, only pods count that have served for long enough.
    let most = |(other, history): (&u64, &History)| {
        let counted = if is_unproven(other) { proven } else { serving };
        history.possible(view.deployments).map(counted).max().unwrap_or(0)
    };
    let left = after + life.deployments.iter().filter(|(other, _)| **other != number).map(most).sum::<u64>();
    let fewest = life.possible_owners(view).map(|owner| Room::of(owner).fewest).min().unwrap_or(0);
    ensure(left >= fewest, || {
        format!(
            "revision {number} was lowered from {served} serving pods to {after}: {left} serve, of at least {fewest}"
        )
    })
}

/// While there is a stable revision, only one other has pods: what came between goes first.
fn check_one_at_a_time(life: &Life, view: &View, number: u64) -> Verdict {
    let stables = life.possible_stables(view);
    // What people have deleted altogether cannot come back.
    let is_left = |number: &u64| {
        life.deployments.contains_key(number) || life.records.get(number).is_some_and(|record| record.exists)
    };
    let has_none = life.possible_owners(view).any(|owner| json::number(owner, "/status/stableRevision").is_none());
    // One without pods is nothing to go back to.
    let has_no_pods = |stable: &u64| {
        let history = life.deployments.get(stable);
        history.is_none_or(|history| history.possible(view.deployments).any(|one| wanted(one) == 0))
    };
    if has_none || stables.contains(&number) || !stables.iter().all(is_left) || stables.iter().any(has_no_pods) {
        return Ok(());
    }
    let has_pods = |history: &History| {
        !history.may_be_unknown(view.deployments) && history.possible(view.deployments).all(|one| wanted(one) > 0)
    };
    let between = life
        .deployments
        .iter()
        .find(|(other, history)| **other != number && !stables.contains(other) && has_pods(history));
    ensure(between.is_none(), || {
        let (other, _) = between.expect("just found");
        format!("revision {number} was raised while revision {other} still has pods, and {stables:?} is stable")
    })
}

/// A revision is called stable only when it has served at full capacity.
pub(super) fn check_stable(life: &Life, view: &View, old: Option<&Value>, new: &Value) -> Verdict {
    let stable = |object: &Value| json::number(object, "/status/stableRevision");
    let Some(number) = stable(new).filter(|number| Some(*number) != old.and_then(stable)) else { return Ok(()) };
    let asked = life.possible_owners(view).map(|owner| Room::of(owner).replicas).min().unwrap_or(0);
    let history = life.deployments.get(&number);
    let served = history.and_then(|history| history.possible(view.deployments).map(proven).max()).unwrap_or(0);
    ensure(served >= asked, || format!("revision {number} is called stable, but {served} of {asked} pods serve"))
}

/// Autoscalers read no more pods than they have asked for.
pub(super) fn check_reported(life: &Life, view: &View, new: &Value) -> Verdict {
    let most = life.possible_owners(view).map(|owner| Room::of(owner).replicas).max().unwrap_or(0);
    let reported = json::number(new, "/status/replicas").unwrap_or(0);
    ensure(reported <= most, || format!("status.replicas is {reported}, and {most} pods are asked for"))
}
