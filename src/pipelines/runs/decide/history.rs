//! How many runs are kept that belong to no Pipeline. Those of a Pipeline are its own to count.

use super::View;
use crate::api::PipelineRunStatus;
use crate::cluster::plan::{Action, Plan};
use crate::cluster::port::Resource;
use crate::pipelines::definitions::history::{newest_first, surplus};

/// So many that succeeded are kept in a namespace, and so many that did not: they may be deleted by whoever made them, and
/// should be there long enough for that.
const KEPT: usize = 100;
/// Most runs deleted in one reconcile; more follow in the next.
const MOST_DELETIONS: usize = 50;

/// Adds to the plan of the run that finished last the deletion of those that are more than is kept.
pub(super) fn prune(view: &View, plan: Plan<PipelineRunStatus>) -> Plan<PipelineRunStatus> {
    let runs = || view.observed.of_no_pipeline.iter().map(AsRef::as_ref);
    let newest = newest_first(runs()).first().map(|(_, run)| run.meta.name.as_str());
    if newest != Some(view.maker().name) {
        return plan;
    }
    let surplus = surplus(runs(), KEPT, KEPT);
    let mut plan = plan.waking_at((surplus.len() > MOST_DELETIONS).then_some(view.now));
    let oldest = surplus.iter().rev().take(MOST_DELETIONS);
    plan.actions.extend(oldest.map(|run| Action::delete_unchanged(Resource::PipelineRun, &run.meta)));
    plan
}
