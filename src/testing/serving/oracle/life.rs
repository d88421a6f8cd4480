//! What the oracle knows of each ModelDeployment, gathered from every change of every object, in the order in which they
//! happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::port::Resource;
use crate::names::ANNOTATION_REVISION_HASH;
use crate::testing::json;
use crate::testing::story::{Actor, Change};
use crate::testing::watch::{Source, Watches};

/// How much of the past the operator's caches show at least: positions in the feeds of two kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Of ModelDeployments.
    pub(super) owners: usize,
    /// Of Deployments.
    pub(super) deployments: usize,
}

impl View {
    /// What the operator's watches have delivered.
    pub(super) fn of(watches: &Watches) -> Self {
        let delivered = |of| watches.delivered(Source { by: Resource::ModelDeployment, of });
        View { owners: delivered(Resource::ModelDeployment), deployments: delivered(Resource::Deployment) }
    }
}

/// All versions of one object, each with its position in the feed of its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    versions: Vec<(usize, Arc<Value>)>,
    /// Position of the operator's own last write: whatever its cache shows, it knows of that.
    own: usize,
}

impl History {
    /// Adds a version.
    pub(super) fn push(&mut self, position: usize, object: Arc<Value>, own: bool) {
        self.versions.push((position, object));
        if own {
            self.own = position;
        }
    }

    /// The version that holds.
    pub(super) fn newest(&self) -> Option<&Value> {
        self.versions.last().map(|(_, object)| &**object)
    }

    /// The versions that the operator may take for the newest: what its cache has been shown, or its own last write, and
    /// all that came later. None is missing; one is too many if it has not looked since.
    pub(super) fn possible(&self, shown: usize) -> impl Iterator<Item = &Value> {
        let shown = shown.max(self.own);
        let first = self.versions.partition_point(|(position, _)| *position <= shown).saturating_sub(1);
        self.versions[first..].iter().map(|(_, object)| &**object)
    }

    /// Whether the operator may not know at all that it exists.
    pub(super) fn may_be_unknown(&self, shown: usize) -> bool {
        self.versions.first().is_some_and(|(position, _)| *position > shown.max(self.own))
    }
}

/// A ControllerRevision, whether it still exists or not: a number means the same for ever.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// What it is made from.
    pub(super) data: Value,
    /// The hash that it carries.
    pub(super) hash: String,
    /// Whether it still exists.
    pub(super) exists: bool,
}

/// What somebody asked for, and when.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// Which generation of the spec it is.
    pub(super) generation: u64,
    /// When.
    pub(super) at: Timestamp,
    /// The ModelDeployment then.
    pub(super) object: Arc<Value>,
}

/// One life of one ModelDeployment.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// As it is; `None` before it is known and after it is gone.
    pub(super) object: Option<Arc<Value>>,
    /// Position in the feed at which it went.
    pub(super) gone: Option<usize>,
    /// All its versions.
    pub(super) versions: History,
    /// Each generation of its spec.
    pub(super) wishes: Vec<Wish>,
    /// Generations that the operator has said it knows.
    pub(super) acknowledged: BTreeSet<u64>,
    /// Its Deployments that exist, by their revision.
    pub(super) deployments: BTreeMap<u64, History>,
    /// Its revisions, by number.
    pub(super) records: BTreeMap<u64, Record>,
    /// Whether people took away or changed what the operator had made.
    pub(super) meddled_with: bool,
    /// How often anybody but the operator changed it or a child of its, or the operator a child.
    pub(super) stimuli: u64,
    /// How often the operator changed its status.
    pub(super) status_writes: u64,
}

impl Life {
    /// Takes in a change of the ModelDeployment itself.
    pub(super) fn owner_changed(&mut self, change: &Change, position: usize) {
        let own = change.by == Actor::Operator;
        self.status_writes += u64::from(own);
        self.stimuli += u64::from(!own);
        if own && let Some(observed) = json::number(&change.object, "/status/observedGeneration") {
            self.acknowledged.insert(observed);
        }
        let generation = json::number(&change.object, "/metadata/generation").unwrap_or(0);
        if self.wishes.last().is_none_or(|wish| wish.generation < generation) {
            self.wishes.push(Wish { generation, at: change.at, object: change.object.clone() });
        }
        if change.removed {
            (self.object, self.gone) = (None, Some(position));
        } else {
            self.versions.push(position, change.object.clone(), own);
            self.object = Some(change.object.clone());
        }
    }

    /// Takes in a change of one of its Deployments.
    pub(super) fn deployment_changed(&mut self, number: u64, change: &Change, position: usize) {
        self.child_changed(change);
        if change.removed {
            self.deployments.remove(&number);
        } else {
            let own = change.by == Actor::Operator;
            self.deployments.entry(number).or_default().push(position, change.object.clone(), own);
        }
    }

    /// Takes in a change of one of its ControllerRevisions.
    pub(super) fn record_changed(&mut self, number: u64, change: &Change) {
        self.child_changed(change);
        let data = change.object["data"].clone();
        self.records.insert(number, Record { data, hash: hash(&change.object), exists: !change.removed });
    }

    /// Takes in a change of any other of its children.
    pub(super) fn child_changed(&mut self, change: &Change) {
        self.stimuli += 1;
        self.meddled_with |= change.by == Actor::Person;
    }

    /// What people asked for that the operator may go by.
    pub(super) fn possible_owners(&self, view: &View) -> impl Iterator<Item = &Value> {
        self.versions.possible(view.owners)
    }

    /// The numbers that may be the stable revision for the operator.
    pub(super) fn possible_stables(&self, view: &View) -> BTreeSet<u64> {
        self.possible_owners(view).filter_map(|owner| json::number(owner, "/status/stableRevision")).collect()
    }

    /// The revision that a spec asks for, `undoTo` aside, if it has a number.
    pub(super) fn revision_of_spec(&self, owner: &Value) -> Option<u64> {
        let says = |record: &&Record| {
            let of_model = |value: &Value| value.get("model").cloned().unwrap_or_default();
            record.data["template"] == owner["spec"]["template"] && of_model(&record.data) == of_model(&owner["spec"])
        };
        // The newest: a number that was forgotten is not used again, and the same content then has a new one.
        self.records.iter().rev().find(|(_, record)| says(record)).map(|(number, _)| *number)
    }

    /// What is to serve if it can. Nothing if the spec is invalid or undoes to a revision that is gone: then what was last
    /// asked for goes on.
    pub(super) fn goal(&self, owner: &Value) -> Option<u64> {
        let own = self.revision_of_spec(owner);
        match json::number(owner, "/spec/rollout/undoTo") {
            _ if !is_valid(owner) => None,
            Some(undo) if own == Some(undo) => own,
            Some(undo) => self.records.get(&undo).filter(|record| record.exists).map(|_| undo),
            None => own,
        }
    }

    /// Whether a revision is in use by what a version of the ModelDeployment says, pods aside.
    pub(super) fn uses(&self, owner: &Value, number: u64) -> bool {
        let goes_on = self.goal(owner).is_none() && json::number(owner, "/status/revision") == Some(number);
        // What somebody has deleted the record of cannot be had again, whoever asks for it.
        let is_kept = self.records.get(&number).is_some_and(|record| record.exists);
        goes_on
            || json::number(owner, "/status/stableRevision") == Some(number)
            || (is_kept && json::number(owner, "/spec/rollout/undoTo") == Some(number))
            || self.revision_of_spec(owner) == Some(number)
    }
}

/// The revision's hash that an object carries.
pub(super) fn hash(object: &Value) -> String {
    let annotations = json::at(object, "/metadata/annotations");
    let hash = annotations.and_then(|annotations| annotations.get(ANNOTATION_REVISION_HASH)?.as_str());
    hash.unwrap_or_default().to_owned()
}

/// Pods that a Deployment asks for; none if there is no Deployment.
pub(super) fn wanted(deployment: &Value) -> u64 {
    json::number(deployment, "/spec/replicas").unwrap_or(0)
}

/// Pods of those that serve, as far as its status says; what was taken away since serves no more.
pub(super) fn serving(deployment: &Value) -> u64 {
    json::number(deployment, "/status/readyReplicas").unwrap_or(0).min(wanted(deployment))
}

/// Pods of those that have served for `minReadySeconds`.
pub(super) fn proven(deployment: &Value) -> u64 {
    json::number(deployment, "/status/availableReplicas").unwrap_or(0).min(wanted(deployment))
}

/// How many seconds a pod of a new revision has to be ready before it counts.
pub(in crate::testing::serving) fn min_ready(owner: &Value) -> u64 {
    let deadline = json::duration(owner, "/spec/rollout/progressDeadline").map_or(600, |deadline| deadline.as_secs());
    let default = 10_u64.min(deadline.unsigned_abs() / 2);
    json::number(owner, "/spec/rollout/minReadySeconds").unwrap_or(default)
}

/// Whether a spec can be served: its container has a port.
pub(in crate::testing::serving) fn is_valid(owner: &Value) -> bool {
    json::at(owner, "/spec/template/spec/containers/0/ports/0").is_some()
}

/// What a ModelDeployment allows its revisions together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::testing::serving) struct Room {
    /// Pods that it asks for.
    pub(in crate::testing::serving) replicas: u64,
    /// Most pods that the operator may ask for.
    pub(in crate::testing::serving) most: u64,
    /// Fewest pods that serve after anything that the operator does.
    pub(in crate::testing::serving) fewest: u64,
}

impl Room {
    /// What this one allows.
    pub(in crate::testing::serving) fn of(owner: &Value) -> Self {
        let replicas = json::number(owner, "/spec/replicas").unwrap_or(1);
        let amount = |path, default: u64, part: fn(u64) -> u64| match json::at(owner, path) {
            Some(Value::String(text)) => {
                let percent: u64 = text.trim_end_matches('%').parse().expect("scenarios write parts as 25%");
                part(percent * replicas)
            }
            Some(value) => value.as_u64().unwrap_or(default),
            None => default,
        };
        let surge = amount("/spec/rollout/maxSurge", 1, |hundredths| hundredths.div_ceil(100));
        let unavailable = amount("/spec/rollout/maxUnavailable", 0, |hundredths| hundredths / 100);
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Room { replicas, most: replicas + surge, fewest: replicas.saturating_sub(unavailable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn room_is_counted_as_the_api_says() {
        let room = |spec: Value| {
            let Room { replicas, most, fewest } = Room::of(&json!({ "spec": spec }));
            (replicas, most, fewest)
        };
        assert_eq!(room(json!({ "replicas": 3 })), (3, 4, 3));
        assert_eq!(room(json!({ "replicas": 3, "rollout": { "maxSurge": 0 } })), (3, 3, 2));
        let quarter = json!({ "maxSurge": "25%", "maxUnavailable": "25%" });
        assert_eq!(room(json!({ "replicas": 5, "rollout": quarter })), (5, 7, 4));
    }

    #[test]
    fn the_operator_may_not_know_what_it_has_not_been_shown() {
        let mut history = History::default();
        for (position, replicas) in [(3, 1), (5, 2), (8, 3)] {
            history.push(position, Arc::new(json!({ "spec": { "replicas": replicas } })), position == 5);
        }
        let possible = |history: &History, shown| history.possible(shown).map(wanted).collect::<Vec<_>>();
        assert_eq!(possible(&history, 9), [3]);
        assert_eq!(possible(&history, 6), [2, 3]);
        assert_eq!(possible(&history, 2), [2, 3], "it knows of its own write");
        history.own = 0;
        assert_eq!(possible(&history, 4), [1, 2, 3]);
        assert!(history.may_be_unknown(2) && !history.may_be_unknown(3));
    }
}
