//! How many runs are kept that belong to no Pipeline. Those of a Pipeline are its own to count.

use std::collections::BTreeSet;

use super::View;
use crate::api::PipelineRunStatus;
use crate::cluster::plan::{Action, Check, Plan};
use crate::cluster::port::Resource;
use crate::pipelines::definitions::history::{newest_first, surplus};

/// So many that succeeded are kept in a namespace, and so many that did not: they may be deleted by whoever made them, and
/// should be there long enough for that.
const KEPT: usize = 100;
/// Most runs deleted in one reconcile; more follow in the next.
const MOST_DELETIONS: usize = 50;

/// Adds to the plan of a run that looks after them the deletion of those that are more than is kept: once nothing else is to be
/// done, and only if the Pipelines that they name are gone, past all caches.
pub(super) fn prune(view: &View, plan: Plan<PipelineRunStatus>) -> Plan<PipelineRunStatus> {
    let runs = || view.observed.of_no_pipeline.iter().map(AsRef::as_ref);
    let newest = newest_first(runs()).first().map(|(_, run)| run.meta.name.as_str());
    // Of those that bring their own pipeline, the one that finished last.
    let is_anothers = view.run.spec.pipeline_ref.is_none() && newest != Some(view.maker().name);
    if is_anothers || !plan.actions.is_empty() {
        return plan;
    }
    let surplus = surplus(runs(), KEPT, KEPT);
    let mut plan = plan.waking_at((surplus.len() > MOST_DELETIONS).then_some(view.now));
    let oldest: Vec<_> = surplus.into_iter().rev().take(MOST_DELETIONS).collect();
    let owners = oldest.iter().filter_map(|run| run.meta.owner.as_ref());
    let named: BTreeSet<&str> =
        owners.filter(|owner| owner.kind == Resource::Pipeline.kind()).map(|owner| owner.name.as_str()).collect();
    plan.checks.extend(named.into_iter().map(|name| Check::IsGone { id: view.id(Resource::Pipeline, name) }));
    plan.actions.extend(oldest.iter().map(|run| Action::delete_unchanged(Resource::PipelineRun, &run.meta)));
    plan
}
