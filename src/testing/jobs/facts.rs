//! What the oracle knows of each job, gathered from every change of every object, in the order in which they happened.
//!
//! Nothing here asks the controller: labels, ownerReferences, and what the kubelet wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::kubelet::addresses;
use crate::cluster::port::{ObjectId, Resource};
use crate::names::{LABEL_ATTEMPT, LABEL_RANK};
use crate::testing::json;
use crate::testing::story::{Actor, Change};

/// How a finished job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Condition Complete.
    Complete,
    /// Condition Failed.
    Failed,
}

/// A pod that exists.
#[derive(Clone, Debug)]
pub(crate) struct PodFacts {
    /// Its name.
    pub(crate) id: ObjectId,
    /// Its attempt.
    pub(crate) attempt: u32,
    /// Its rank.
    pub(crate) rank: u32,
    /// Whether it may still run: its phase is neither Succeeded nor Failed.
    pub(crate) live: bool,
    /// Who had it deleted, if it is being deleted.
    pub(crate) deleted_by: Option<Actor>,
    /// Its address.
    pub(crate) address: Option<String>,
}

/// What is known of an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptFacts {
    /// Ranks that had a pod.
    pub(crate) ranks: BTreeSet<u32>,
    /// Ranks whose work was done: the primary container ended with 0 before anybody had the pod deleted.
    pub(crate) done: BTreeSet<u32>,
    /// Ranks of which that cannot be told apart: it ended with 0 in the second in which it was deleted.
    pub(crate) perhaps_done: BTreeSet<u32>,
    /// Ranks whose pod the operator removed.
    pub(crate) removed: BTreeSet<u32>,
    /// Why it may be given up: what went wrong with one of its pods, the operator aside.
    pub(crate) excuse: Option<String>,
}

/// What is known of one job, of one life of its.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobFacts {
    /// The job as it is; `None` before it is known and after it is gone.
    pub(crate) object: Option<Arc<Value>>,
    /// Its pods that exist, by UID.
    pub(crate) pods: BTreeMap<String, PodFacts>,
    /// Its attempts, from 1.
    pub(crate) attempts: BTreeMap<u32, AttemptFacts>,
    /// The addresses in its EndpointSlices.
    pub(crate) slices: BTreeMap<ObjectId, Vec<String>>,
    /// The newest attempt that had a pod with this address.
    pub(crate) addresses: BTreeMap<String, u32>,
    /// The lowest number of nodes that it ever had.
    pub(crate) fewest_nodes: u64,
    /// The highest `maxRestarts` that it ever had.
    pub(crate) max_restarts: u64,
    /// The step in which it came to be deleted in the foreground.
    pub(crate) terminating_since: Option<u64>,
    /// Its outcome, once it had one.
    pub(crate) outcome: Option<Outcome>,
    /// How often anybody but the operator changed it or a child of its, or the operator a child.
    pub(crate) stimuli: u64,
    /// How often the operator changed its status.
    pub(crate) status_writes: u64,
    /// The highest `status.attempt` and `status.restarts` so far.
    pub(crate) counted: (u64, u64),
}

/// The default of `spec.failurePolicy.maxRestarts`.
const DEFAULT_MAX_RESTARTS: u64 = 3;

impl JobFacts {
    /// How often the spec was edited.
    pub(crate) fn edits(&self) -> u64 {
        self.object.as_ref().and_then(|job| json::number(job, "/metadata/generation")).unwrap_or(1) - 1
    }

    /// The newest attempt that has pods.
    pub(crate) fn newest_attempt(&self) -> Option<u32> {
        self.pods.values().map(|pod| pod.attempt).max()
    }

    /// How many attempts there were in which something went wrong that the operator did not do.
    pub(crate) fn excused_attempts(&self) -> u64 {
        self.attempts.values().filter(|attempt| attempt.excuse.is_some()).count() as u64
    }

    /// Whether an attempt's pods did all of their work; `generously`, when it cannot be told, they did.
    ///
    /// An edit may change the number of nodes between attempts, so it is the pods that there were which count.
    pub(crate) fn is_done(&self, attempt: u32, generously: bool) -> bool {
        let Some(facts) = self.attempts.get(&attempt) else { return false };
        let done = |rank| facts.done.contains(rank) || generously && facts.perhaps_done.contains(rank);
        facts.ranks.iter().all(done) && facts.ranks.len() as u64 >= self.fewest_nodes
    }

    /// Takes in a change of the job itself.
    pub(crate) fn job_changed(&mut self, change: &Change) {
        let by_operator = change.by == Actor::Operator;
        self.status_writes += u64::from(by_operator);
        self.stimuli += u64::from(!by_operator);
        let job = &change.object;
        if json::is_terminating(job) {
            self.terminating_since.get_or_insert(change.step);
        }
        let max_restarts = json::number(job, "/spec/failurePolicy/maxRestarts").unwrap_or(DEFAULT_MAX_RESTARTS);
        self.max_restarts = if change.created { max_restarts } else { self.max_restarts.max(max_restarts) };
        let nodes = json::number(job, "/spec/nodes").unwrap_or(1);
        self.fewest_nodes = if change.created { nodes } else { self.fewest_nodes.min(nodes) };
        self.object = (!change.removed).then(|| job.clone());
    }

    /// Takes in a change of one of its pods.
    pub(crate) fn pod_changed(&mut self, change: &Change) {
        let pod = &change.object;
        let attempt = json::label_number(pod, LABEL_ATTEMPT).unwrap_or(1);
        let rank = json::label_number(pod, LABEL_RANK).unwrap_or(0);
        let facts = self.attempts.entry(attempt).or_default();
        facts.ranks.insert(rank);
        let known = self.pods.get(json::uid(pod));
        let deleted_by =
            known.and_then(|known| known.deleted_by).or_else(|| json::is_terminating(pod).then_some(change.by));
        if change.removed {
            // Deleted by the apiserver at once, by a kubelet after a deletion that somebody asked for, or lost.
            let by = deleted_by.unwrap_or(change.by);
            if by == Actor::Operator {
                facts.removed.insert(rank);
            } else {
                facts.excuse.get_or_insert_with(|| format!("{} was removed by {by:?}", change.id));
            }
            self.pods.remove(json::uid(pod));
            return;
        }
        match (exit_code(pod), deleted_by) {
            (Some(0), None) => drop(facts.done.insert(rank)),
            (Some(0), Some(_)) if !facts.done.contains(&rank) && ended_in_second_of_deletion(pod) => {
                facts.perhaps_done.insert(rank);
            }
            (Some(0), _) => {}
            (Some(code), None | Some(Actor::Person | Actor::Node)) => {
                facts.excuse.get_or_insert_with(|| format!("{} ended with {code}", change.id));
            }
            (None, None) if json::is_terminal(pod) => {
                facts.excuse.get_or_insert_with(|| format!("{} ended without its containers", change.id));
            }
            _ => {}
        }
        if deleted_by.is_some_and(|by| by != Actor::Operator) {
            facts.excuse.get_or_insert_with(|| format!("{} was deleted by {deleted_by:?}", change.id));
        }
        let address = json::text(pod, "/status/podIP").map(str::to_owned);
        if let Some(address) = &address {
            let newest = self.addresses.entry(address.clone()).or_insert(attempt);
            *newest = attempt.max(*newest);
        }
        let live = !json::is_terminal(pod);
        let pod_facts = PodFacts { id: change.id.clone(), attempt, rank, live, deleted_by, address };
        self.pods.insert(json::uid(pod).to_owned(), pod_facts);
    }

    /// Takes in a change of one of its EndpointSlices.
    pub(crate) fn slice_changed(&mut self, change: &Change) {
        if change.removed {
            self.slices.remove(&change.id);
        } else {
            self.slices.insert(change.id.clone(), addresses(&change.object).map(str::to_owned).collect());
        }
    }

    /// Takes in a change of any of its children.
    pub(crate) fn child_changed(&mut self, change: &Change) {
        self.stimuli += 1;
        match change.id.resource {
            Resource::Pod => self.pod_changed(change),
            Resource::EndpointSlice => self.slice_changed(change),
            _ => {}
        }
    }
}

/// Exit code of a pod's primary container, once it has one.
fn exit_code(pod: &Value) -> Option<i64> {
    let primary = json::primary_container(pod)?;
    let statuses = json::at(pod, "/status/containerStatuses")?.as_array()?;
    let status = statuses.iter().find(|status| status["name"] == primary)?;
    json::at(status, "/state/terminated/exitCode")?.as_i64()
}

/// Times are whole seconds, so within one of them nobody can tell what came first.
fn ended_in_second_of_deletion(pod: &Value) -> bool {
    let primary = json::primary_container(pod);
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let mut own = statuses.filter(|status| status["name"].as_str() == primary);
    let ended = own.next().and_then(|status| json::time(status, "/state/terminated/finishedAt"));
    let grace = json::number(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let gone_by = json::time(pod, "/metadata/deletionTimestamp");
    ended.zip(gone_by).is_some_and(|(ended, gone_by)| ended.as_second() + grace as i64 <= gone_by.as_second())
}
