//! What must be true of every change of a number of pods: never too many, never too few, and one revision at a time.
//!
//! A controller goes by caches, which may show the past. So each rule is broken only if nothing that the operator may have
//! taken for the present excuses it; of its own writes it is expected to know.

use serde_json::Value;

use super::life::{History, Life, Room, View, serving, wanted};
use crate::testing::json;
use crate::testing::subject::{Verdict, ensure};

/// The operator changes the Deployment of a revision, or makes it (`old` is nothing then).
pub(super) fn check_scaled(life: &Life, view: &View, number: u64, old: Option<&Value>, new: &Value) -> Verdict {
    let (before, after) = (old.map_or(0, wanted), wanted(new));
    if after > before {
        check_most(life, view, number, after)?;
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

/// Pods that serve are at least `replicas` but for those that may be missing, as far as this takes any away.
fn check_fewest(life: &Life, view: &View, number: u64, served: u64, after: u64) -> Verdict {
    if served <= after {
        return Ok(());
    }
    let most = |history: &History| history.possible(view.deployments).map(serving).max().unwrap_or(0);
    let left = after + others(life, number).map(most).sum::<u64>();
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
    if has_none || stables.contains(&number) || !stables.iter().all(is_left) {
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
    let served = history.and_then(|history| history.possible(view.deployments).map(serving).max()).unwrap_or(0);
    ensure(served >= asked, || format!("revision {number} is called stable, but {served} of {asked} pods serve"))
}
