//! Moving pods from revision to revision.

use std::collections::BTreeMap;

use super::judge::{Judgement, pods};
use super::view::View;
use crate::api::ModelDeploymentStatus;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::workload::DeploymentFacts;
use crate::serving::build::revision::build_tuning;
use crate::serving::policy::share::share;

/// The pods that each revision should have.
pub(super) fn shares(view: &View, judgement: &Judgement) -> BTreeMap<i64, i32> {
    share(&judgement.goal, &pods(view))
}

/// Lowers Deployments that have more pods than their share.
pub(super) fn lower(view: &View, shares: &BTreeMap<i64, i32>, plan: &mut Plan<ModelDeploymentStatus>) {
    for (child, share) in to_scale(view, shares).filter(|(child, share)| *share < child.wanted) {
        plan.actions.push(change(view, child, share));
    }
}

/// Raises Deployments that have fewer pods than their share, and has what is on its way keep to the spec's
/// `minReadySeconds`.
pub(super) fn raise(view: &View, shares: &BTreeMap<i64, i32>, plan: &mut Plan<ModelDeploymentStatus>) {
    for (child, share) in to_scale(view, shares) {
        let is_raised = share > child.wanted && child.settled;
        let is_tuned = share == child.wanted && share > 0 && is_out_of_tune(view, child);
        if !is_raised && !is_tuned {
            continue;
        }
        // A cache of the owner may be behind: pods are brought back for the spec as it is now.
        if child.wanted == 0 {
            plan.checks.push(view.is_current());
        }
        plan.actions.push(change(view, child, share));
    }
}

/// Deployments with their shares; none while the caches do not show the last move.
fn to_scale<'a>(view: &View<'a>, shares: &BTreeMap<i64, i32>) -> impl Iterator<Item = (&'a DeploymentFacts, i32)> {
    let shown = if view.awaits_deployments() { &[] } else { &view.observed.deployments[..] };
    shown.iter().map(|child| (child.as_ref(), shares.get(&child.revision).copied().unwrap_or(0)))
}

/// Whether a revision that has yet to prove itself goes by another `minReadySeconds` than the spec's. Others are left
/// alone: they replace nothing.
fn is_out_of_tune(view: &View, child: &DeploymentFacts) -> bool {
    let is_unproven = child.revision == view.asked && view.stable != Some(view.asked);
    is_unproven && child.min_ready != view.valid.min_ready
}

fn change(view: &View, child: &DeploymentFacts, replicas: i32) -> Action {
    let id = ObjectId::new(Resource::Deployment, &child.meta.namespace, &child.meta.name);
    match is_out_of_tune(view, child) {
        true => Action::Apply { id, object: build_tuning(view.valid, &child.meta, replicas) },
        false => {
            Action::Scale { id, uid: child.meta.uid.clone(), version: child.meta.resource_version.clone(), replicas }
        }
    }
}
