//! What a decision follows when the spec cannot be carried out as it is: what was last asked for goes on, with the number
//! of pods, the Service and the budget that the spec asks for.

use std::sync::Arc;

use crate::api::{ModelDeployment, ModelDeploymentStatus};
use crate::cluster::canonical;
use crate::cluster::problem::Problem;
use crate::cluster::workload::{DeploymentFacts, RevisionFacts};
use crate::serving::build::service;
use crate::serving::content::Content;
use crate::serving::observe::Observed;
use crate::serving::validate::{ValidDeployment, follow, validate};

/// Most ControllerRevisions of one deployment. The history has at most 50; more only pile up when they cannot be deleted.
pub(super) const MOST_RECORDS: usize = 100;
/// Most revisions that are named in a remedy.
const MOST_NAMED: usize = 10;

/// The values to go by, and what is wrong with the spec.
///
/// # Errors
/// What is wrong with the spec, if nothing was ever asked for that could be followed instead.
pub(super) fn followed(
    deployment: &ModelDeployment,
    status: &ModelDeploymentStatus,
    observed: &Observed,
) -> Result<(ValidDeployment, Vec<Problem>), Vec<Problem>> {
    let last = || last_asked(status, observed);
    match validate(deployment) {
        Ok(valid) => match spec_problem(&valid, status, observed) {
            None => Ok((valid, Vec::new())),
            Some(problem) => match last() {
                Some((number, _)) => Ok((ValidDeployment { undo_to: Some(number), ..valid }, vec![problem])),
                None => Err(vec![problem]),
            },
        },
        Err(problems) => match last() {
            Some((_, content)) => Ok((follow(deployment, content), problems)),
            None => Err(problems),
        },
    }
}

/// What is wrong with a spec in view of the revisions that are kept.
fn spec_problem(valid: &ValidDeployment, status: &ModelDeploymentStatus, observed: &Observed) -> Option<Problem> {
    undo_problem(valid, observed)
        .or_else(|| pile_problem(valid, observed))
        .or_else(|| port_problem(valid, status, observed))
}

/// The revision that was last asked for, with what it is made from; the stable one if that is gone.
fn last_asked(status: &ModelDeploymentStatus, observed: &Observed) -> Option<(i64, Content)> {
    [status.revision, status.stable_revision].into_iter().flatten().find_map(|number| {
        let record = observed.revisions.iter().find(|record| record.number == number)?;
        Some((number, Content::of_revision(&record.data)?))
    })
}

/// What is wrong with an undo: its revision is gone. One that leads to what the spec says is none: Git catches up with an
/// undo in that way.
fn undo_problem(valid: &ValidDeployment, observed: &Observed) -> Option<Problem> {
    let number = valid.undo_to?;
    let of_spec = number_of_spec(valid, observed);
    let mut kept: Vec<i64> = observed.revisions.iter().map(|record| record.number).collect();
    if of_spec == Some(number) || kept.contains(&number) {
        return None;
    }
    kept.retain(|kept| Some(*kept) != of_spec);
    kept.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    kept.truncate(MOST_NAMED);
    let names: Vec<String> = kept.iter().rev().map(i64::to_string).collect();
    let remedy = match names.as_slice() {
        [] => "no other revision is kept: remove undoTo".to_owned(),
        [only] => format!("it is not kept: use {only}, or remove undoTo"),
        several => format!("it is not kept: use one of {}, or remove undoTo", several.join(", ")),
    };
    Some(Problem::new("spec.rollout.undoTo", number, &remedy))
}

/// What keeps a new revision from being recorded: too many old ones are left.
fn pile_problem(valid: &ValidDeployment, observed: &Observed) -> Option<Problem> {
    let is_new = valid.undo_to.is_none() && number_of_spec(valid, observed).is_none();
    let count = observed.revisions.len();
    let remedy = "its ControllerRevisions beyond revisionHistoryLimit cannot be deleted: find out what refuses that, in the \
                  operator's log or in the cluster's admission policies";
    (is_new && count >= MOST_RECORDS)
        .then(|| Problem::new("spec.template", format!("a new revision, besides {count} that are kept"), remedy))
}

/// What keeps the Service from leading to what is asked for and to the stable revision at once: no name and no number by
/// which the model's port could be found is the same in both.
fn port_problem(valid: &ValidDeployment, status: &ModelDeploymentStatus, observed: &Observed) -> Option<Problem> {
    let content_of = |number: i64| {
        let record = observed.revisions.iter().find(|record| record.number == number)?;
        Content::of_revision(&record.data)
    };
    let serves = |child: &&Arc<DeploymentFacts>| Some(child.revision) == status.stable_revision && child.wanted > 0;
    let stable = observed.deployments.iter().find(serves)?.revision;
    if valid.undo_to.or_else(|| number_of_spec(valid, observed)) == Some(stable) {
        return None;
    }
    let asked = valid.undo_to.map_or_else(|| Some(valid.content.clone()), content_of)?;
    let stable_content = content_of(stable)?;
    if service::target([&stable_content, &asked]).is_some() {
        return None;
    }
    let port = stable_content.ports.first()?;
    let name = port.name.as_ref().map(|name| format!("name {name} or ")).unwrap_or_default();
    let remedy = format!(
        "give this port the {name}number {} that it has in revision {stable}, so that the Service leads to both while one \
         replaces the other",
        port.number
    );
    let (field, value) = match valid.undo_to {
        Some(number) => ("spec.rollout.undoTo".to_owned(), number.to_string()),
        None => {
            let port = asked.ports.first()?;
            let name = port.name.clone().unwrap_or_default();
            ("spec.template.spec.containers[].ports[0]".to_owned(), format!("{name} {}", port.number))
        }
    };
    Some(Problem::new(&field, value, &remedy))
}

/// The number of what the spec says, if it has one.
pub(super) fn number_of_spec(valid: &ValidDeployment, observed: &Observed) -> Option<i64> {
    let content = &valid.content;
    let recorded: Vec<i64> = observed.revisions.iter().map(|record| record.number).collect();
    let records = observed.revisions.iter().map(|record| (record.number, record.hash.as_str()));
    // Of a revision whose record was deleted, its Deployment still tells.
    let unrecorded = observed.deployments.iter().filter(|child| !recorded.contains(&child.revision));
    let children = unrecorded.map(|child| (child.revision, child.hash.as_str()));
    let is_same = |(_, hash): &(i64, &str)| content.has_hash(hash);
    let found = records.chain(children).filter(is_same).map(|(number, _)| number).max();
    found.or_else(|| {
        // The hash of another version of the operator says nothing: what the record holds does.
        let holds_it = |record: &&Arc<RevisionFacts>| {
            !canonical::differs(&record.hash, content.hash())
                && Content::of_revision(&record.data).is_some_and(|kept| kept.hash() == content.hash())
        };
        observed.revisions.iter().filter(holds_it).map(|record| record.number).max()
    })
}
