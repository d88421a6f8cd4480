//! Moving pods from revision to revision.

use std::collections::BTreeMap;

use super::judge::{Judgement, pods};
use super::view::View;
use crate::api::ModelDeploymentStatus;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::workload::DeploymentFacts;
use crate::serving::build::revision::build_scale;
use crate::serving::policy::share::share;

/// The pods that each revision should have.
pub(super) fn shares(view: &View, judgement: &Judgement) -> BTreeMap<i64, i32> {
    share(&judgement.goal, &pods(view))
}

/// Lowers Deployments that have more pods than their share.
pub(super) fn lower(view: &View, shares: &BTreeMap<i64, i32>, plan: &mut Plan<ModelDeploymentStatus>) {
    for (child, share) in to_scale(view, shares).filter(|(child, share)| *share < child.wanted) {
        plan.actions.push(change(child, share));
    }
}

/// Raises Deployments that have fewer pods than their share.
pub(super) fn raise(view: &View, shares: &BTreeMap<i64, i32>, plan: &mut Plan<ModelDeploymentStatus>) {
    for (child, share) in to_scale(view, shares).filter(|(child, share)| *share > child.wanted && child.settled) {
        // A cache of the owner may be behind: pods are brought back for the spec as it is now.
        if child.wanted == 0 {
            plan.checks.push(view.is_current());
        }
        plan.actions.push(change(child, share));
    }
}

/// Deployments with their shares; none while the caches do not show the last move.
fn to_scale<'a>(view: &View<'a>, shares: &BTreeMap<i64, i32>) -> impl Iterator<Item = (&'a DeploymentFacts, i32)> {
    let shown = if view.awaits_deployments() { &[] } else { &view.observed.deployments[..] };
    shown.iter().map(|child| (child.as_ref(), shares.get(&child.revision).copied().unwrap_or(0)))
}

fn change(child: &DeploymentFacts, replicas: i32) -> Action {
    let id = ObjectId::new(Resource::Deployment, &child.meta.namespace, &child.meta.name);
    Action::Apply { id, object: build_scale(&child.meta, replicas) }
}
