//! Stopping what is left of older attempts.

use std::sync::Arc;

use super::view::View;
use super::{launch, outcome};
use crate::api::TrainingJobStatus;
use crate::cluster::plan::{Action, Plan, earliest};
use crate::cluster::pod::PodFacts;
use crate::cluster::port::Resource;
use crate::training::status::{Situation, pods};

/// Takes older attempts out of DNS, then ends their pods; answers until the last of them is gone.
///
/// Pods of the attempt just before that have ended by themselves are kept, so that their logs can still be read while
/// the next attempt runs; those before them go. So do those that hold claims of generic ephemeral volumes: quota and storage
/// that the next attempt needs.
pub(super) fn stop_older(view: &View) -> Option<Plan<TrainingJobStatus>> {
    let live = view.older().filter(|pod| !pod.is_terminal()).count();
    let mut actions = launch::clear_stale_names(view);
    // A cache that shows no stale name may be behind; one that shows some has them cleared first, below.
    let names_seem_clear = actions.is_empty();
    let stopping = view.older().filter(|pod| {
        let outlived = pod.is_terminal() && (pod.attempt + 1 < view.attempt || pod.has_claims);
        pod.delete_asked_at.is_none() && (!view.memory.ending.ends_by_itself(pod, view.now) || outlived)
    });
    actions.extend(stopping.map(|pod| delete_pod(pod)));
    if live == 0 && actions.is_empty() {
        return None;
    }
    let situation = match (view.valid.suspended, live) {
        (true, 0) => Situation::Suspended,
        (true, left) => Situation::Suspending { left },
        (false, 0) => Situation::Restarting { next: "its pods are gone".to_owned() },
        (false, left) => {
            Situation::Restarting { next: format!("waiting for {left} {} of the last attempt to end", pods(left)) }
        }
    };
    let plan = match view.valid.suspended {
        true => view.say_suspended(&situation),
        false => view.say(&situation),
    };
    // There is no deadline while the job is suspended.
    let mut plan = plan.waking_at(earliest(outcome::deadline(view), view.memory.ending.at_the_latest(view.now)));
    if names_seem_clear && !actions.is_empty() {
        plan.checks.push(view.names_are_cleared());
    }
    plan.actions = actions;
    Some(plan)
}

/// Removes pods that somebody else made under names of the attempt in force; answers until the last of them is gone. They
/// claim to be the job's, and nothing else under that name can be launched.
pub(super) fn remove_strangers(view: &View) -> Option<Plan<TrainingJobStatus>> {
    let in_the_way = |pod: &&&Arc<PodFacts>| view.valid.suspended || pod.rank < view.valid.nodes;
    let stranger = view.strangers.iter().find(in_the_way)?;
    let why = format!("pod {} was not made by the operator, and is being removed", stranger.meta.name);
    let mut plan = match view.valid.suspended {
        true => view.say_suspended(&Situation::Suspending { left: view.strangers.len() }),
        false => {
            let started = view.count_started();
            view.say(&Situation::Starting { started, nodes: view.valid.nodes, why: Some(why) })
        }
    };
    plan.actions = deletions_of_strangers(view);
    if !plan.actions.is_empty() {
        plan.checks.push(view.job_is_current());
    }
    Some(plan.waking_at(outcome::deadline(view)))
}

/// Deletes the pods that somebody else made under names of the attempt in force.
pub(super) fn deletions_of_strangers(view: &View) -> Vec<Action> {
    let removing = view.strangers.iter().filter(|pod| pod.delete_asked_at.is_none());
    removing.map(|pod| delete_pod(pod)).collect()
}

/// Deletes a pod with the grace period of its own.
pub(super) fn delete_pod(pod: &PodFacts) -> Action {
    Action::delete(Resource::Pod, &pod.meta)
}
