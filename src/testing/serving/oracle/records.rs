//! What must be true of revisions: a number means one content for ever, a content that is kept has one number, a
//! Deployment runs what its record says, and nothing is forgotten that is in use.

use serde_json::Value;

use super::life::{History, Life, View, hash, wanted};
use crate::testing::json;
use crate::testing::story::{Actor, Change};
use crate::testing::subject::{Verdict, ensure};

/// Somebody made, changed or deleted the ControllerRevision of a number.
pub(super) fn check_record(life: &Life, view: &View, number: u64, change: &Change) -> Verdict {
    let (data, hash) = (&change.object["data"], hash(&change.object));
    let said = json::number(&change.object, "/revision");
    ensure(said == Some(number), || format!("revision {said:?} is labelled {number}"))?;
    if change.by != Actor::Operator {
        return Ok(());
    }
    if change.removed {
        return check_forgotten(life, view, number);
    }
    ensure(!hash.is_empty(), || format!("revision {number} carries no hash"))?;
    if let Some(known) = life.records.get(&number) {
        ensure(known.data == *data && known.hash == hash, || {
            format!("number {number} was used for another revision before")
        })?;
    }
    let twin = life
        .records
        .iter()
        .find(|(other, record)| **other != number && record.exists && (record.data == *data || record.hash == hash));
    ensure(twin.is_none(), || format!("revision {number} is revision {} again", twin.expect("just found").0))
}

/// Somebody made, or changed in other ways than its number of pods, the Deployment of a revision.
pub(super) fn check_template(life: &Life, number: u64, old: Option<&Value>, new: &Value) -> Verdict {
    let Some(old) = old else {
        let record = life.records.get(&number).ok_or_else(|| format!("revision {number} has no ControllerRevision"))?;
        let image = |template: &Value| json::image(template).map(str::to_owned);
        let (says, runs) = (image(&record.data["template"]), image(&new["spec"]["template"]));
        ensure(says == runs, || format!("revision {number} says {says:?}, and its Deployment runs {runs:?}"))?;
        return ensure(record.hash == hash(new), || {
            format!("revision {number} and its Deployment differ in their hashes")
        });
    };
    let same = ["template", "selector"].iter().all(|field| old["spec"][field] == new["spec"][field]);
    ensure(same, || format!("the template of revision {number} was changed"))
}

/// The operator deleted the Deployment of a revision.
pub(super) fn check_dismissed(life: &Life, view: &View, number: u64, history: Option<&History>) -> Verdict {
    let has_pods = history.is_some_and(|history| history.possible(view.deployments).all(has_pods));
    ensure(!has_pods, || format!("the Deployment of revision {number} was deleted with its pods"))?;
    let in_use = life.possible_owners(view).all(|owner| life.uses(owner, number));
    ensure(!in_use, || format!("the Deployment of revision {number} was deleted, and it is in use"))
}

fn has_pods(deployment: &Value) -> bool {
    wanted(deployment) > 0 || json::number(deployment, "/status/replicas").unwrap_or(0) > 0
}

/// The operator forgets a revision: an unused one, the lowest, and only when there are too many.
fn check_forgotten(life: &Life, view: &View, number: u64) -> Verdict {
    check_dismissed(life, view, number, life.deployments.get(&number))?;
    let kept =
        || life.records.iter().filter(|(other, record)| **other != number && record.exists).map(|(other, _)| *other);
    let perhaps_used = |other: u64| {
        let said = life
            .possible_owners(view)
            .any(|owner| life.uses(owner, other) || json::number(owner, "/status/revision") == Some(other));
        let history = life.deployments.get(&other);
        said || history.is_some_and(|history| history.possible(view.deployments).any(has_pods))
    };
    let lower = kept().find(|other| *other < number && !perhaps_used(*other));
    ensure(lower.is_none(), || {
        format!("revision {number} was forgotten before revision {}", lower.expect("just found"))
    })?;
    let perhaps_unused = |other: &u64| !life.possible_owners(view).all(|owner| life.uses(owner, *other));
    let limit = life.possible_owners(view).map(history_limit).min().unwrap_or(0);
    let unused = kept().filter(perhaps_unused).count() as u64;
    ensure(unused >= limit, || format!("revision {number} was forgotten, although {limit} are kept"))
}

/// So many unused revisions are kept.
pub(super) fn history_limit(owner: &Value) -> u64 {
    json::number(owner, "/spec/revisionHistoryLimit").unwrap_or(10)
}

/// At the end: as many unused ones are left as are to be kept, and each Deployment has its record.
pub(super) fn judge_history(life: &Life, owner: &Value) -> Verdict {
    let without_pods =
        |number: u64| life.deployments.get(&number).and_then(History::newest).is_none_or(|one| !has_pods(one));
    let existing = life.records.iter().filter(|(_, record)| record.exists).map(|(number, _)| *number);
    let unused: Vec<u64> = existing.filter(|number| !life.uses(owner, *number) && without_pods(*number)).collect();
    let limit = history_limit(owner);
    ensure(unused.len() as u64 <= limit, || format!("revisions {unused:?} are kept and unused, of at most {limit}"))?;
    let recorded = |number: &u64| life.records.get(number).is_some_and(|record| record.exists);
    let orphan = life.deployments.keys().find(|number| !recorded(number));
    ensure(orphan.is_none() || life.meddled_with, || {
        format!("the Deployment of revision {orphan:?} outlived its record")
    })
}
