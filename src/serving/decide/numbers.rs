//! Which revisions are the operator's own, by their numbers.
//!
//! Whoever may create Deployments or ControllerRevisions can name a ModelDeployment as their owner, and give them any number
//! and any hash. A number is on record (`status.latestRevision`) at the latest before the next one is given, so what lies
//! further ahead is nobody's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::canonical;
use crate::cluster::workload::{DeploymentFacts, RevisionFacts};
use crate::serving::content::Content;
use crate::serving::observe::Observed;

/// No number above this is believed: with a revision each second it takes thirty years.
const HIGHEST: i64 = 1_000_000_000;
/// Every number is given for an edit of the spec, or in place of a record that somebody has deleted: this many of those.
const MOST_DELETED: i64 = 100;

/// The children whose numbers were given by the operator, and the number to give next.
pub(super) struct Given<'a> {
    pub(super) observed: Cow<'a, Observed>,
    pub(super) next: i64,
}

/// The highest number on record, as far as it can be believed.
pub(super) fn on_record(status: &ModelDeploymentStatus) -> Option<i64> {
    status.latest_revision.filter(|number| (0..=HIGHEST).contains(number))
}

/// The highest number that a record may have if none is on record: before the first status, or when that was lost.
pub(super) fn most_without_record(deployment: &ModelDeployment) -> i64 {
    deployment.metadata.generation.unwrap_or_default().clamp(0, HIGHEST) + MOST_DELETED
}

/// Sorts out the children whose numbers were given.
pub(super) fn given<'a>(
    deployment: &ModelDeployment,
    status: &ModelDeploymentStatus,
    observed: &'a Observed,
) -> Given<'a> {
    let records = || observed.revisions.iter().map(|record| record.number);
    let recorded = on_record(status).unwrap_or_else(|| {
        let most = most_without_record(deployment);
        records().filter(|number| (1..=most).contains(number)).max().unwrap_or(0)
    });
    // One more was given if the status could not be written any more. What somebody put in its place was stepped over.
    let taken: BTreeSet<i64> = records().chain(observed.deployments.iter().map(|child| child.revision)).collect();
    let next = (recorded + 1..).find(|number| !taken.contains(number)).unwrap_or(HIGHEST);
    let is_given = |record: &&Arc<RevisionFacts>| (1..next).contains(&record.number);
    let by_number: BTreeMap<i64, &Arc<RevisionFacts>> =
        observed.revisions.iter().filter(is_given).map(|record| (record.number, record)).collect();
    let has_given = |child: &&Arc<DeploymentFacts>| match by_number.get(&child.revision) {
        Some(record) => is_of(record, child),
        None => (1..=recorded).contains(&child.revision),
    };
    let are_all = observed.revisions.iter().all(|record| is_given(&record))
        && observed.deployments.iter().all(|child| has_given(&child));
    let observed = match are_all {
        true => Cow::Borrowed(observed),
        false => Cow::Owned(Observed {
            revisions: observed.revisions.iter().filter(is_given).cloned().collect(),
            deployments: observed.deployments.iter().filter(has_given).cloned().collect(),
            ..observed.clone()
        }),
    };
    Given { observed, next }
}

/// Whether a Deployment may be that of a record: its hash does not say that it was made from something else.
fn is_of(record: &RevisionFacts, child: &DeploymentFacts) -> bool {
    // Either hash may be of an earlier version of the operator.
    let holds_it = || Content::of_revision(&record.data).is_none_or(|content| content.has_hash(&child.hash));
    !canonical::differs(&child.hash, &record.hash) || holds_it()
}
