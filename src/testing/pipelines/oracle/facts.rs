//! What the oracle knows of each run, gathered from every change of every object: above all what came of each attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::blueprint::{Blueprint, Standing};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::json;
use crate::testing::story::{Actor, Change};

/// What came of one attempt of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// Pods that may still run.
    pub(super) live: BTreeMap<String, ObjectId>,
    /// What was reported at an end that was well.
    pub(super) reports: Vec<Value>,
    /// Why it may be taken for failed.
    pub(super) ills: Vec<String>,
    /// Whether it came to an end of its own.
    pub(super) has_ended: bool,
    /// Whether its end may have gone unseen: its child was deleted, or vanished.
    pub(super) is_disturbed: bool,
    /// Whether the operator itself removed its child.
    pub(super) was_removed: bool,
    /// When its time began, by the operator's clock, which is on record before anything is made for it.
    pub(super) began: Option<Timestamp>,
    /// When what became of it was put on record, by the operator's clock.
    pub(super) over_at: Option<Timestamp>,
}

/// What is known of one run, of one life of its.
#[derive(Clone, Debug, Default)]
pub(super) struct RunFacts {
    /// The run as it is, or was last.
    pub(super) object: Option<Arc<Value>>,
    /// Whether it is no more.
    pub(super) is_gone: bool,
    /// Whether somebody deleted its record: nothing can be done for it any more.
    pub(super) lost_record: bool,
    /// What its record holds.
    pub(super) record: Option<Value>,
    /// Attempts of steps.
    pub(super) attempts: BTreeMap<(String, u64), Attempt>,
    /// Which of the operator's writes to its status put the end of a step on record.
    pub(super) ended_by: BTreeMap<String, u64>,
    /// Which of them put on record that it was stopped.
    pub(super) stopped_by: Option<u64>,
    /// So many of them were there.
    pub(super) status_writes: u64,
    /// How often anybody changed it or a child of its, its status by the operator aside.
    pub(super) stimuli: u64,
    /// The step in which it came to be deleted.
    pub(super) terminating_since: Option<u64>,
    /// Whether there is nothing that it could start with.
    pub(super) may_never_start: bool,
    /// Attempts under whose child's name somebody else made an object.
    pub(super) forged: BTreeSet<(String, u64)>,
    /// Names of models that were in somebody else's hands while it went on.
    pub(super) contested: BTreeSet<String>,
}

impl RunFacts {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.object.as_ref().and_then(|run| json::text(run, "/metadata/name")).unwrap_or_default()
    }

    /// Its UID.
    pub(super) fn uid(&self) -> &str {
        self.object.as_ref().map(|run| json::uid(run)).unwrap_or_default()
    }

    /// What it is to do, once that is on record.
    pub(super) fn blueprint(&self) -> Option<Blueprint<'_>> {
        self.record.as_ref().map(Blueprint)
    }

    /// Its status.
    pub(super) fn standing(&self) -> Standing<'_> {
        Standing(self.object.as_ref().map_or(&Value::Null, |run| &run["status"]))
    }

    /// Whether it is over.
    pub(super) fn is_finished(&self) -> bool {
        self.object.as_ref().is_some_and(|run| json::condition_is_true(run, "Finished"))
    }

    /// Whose runs may deploy what it deploys: its Pipeline's, or none but itself.
    pub(super) fn mark(&self) -> &str {
        self.record.as_ref().and_then(|record| json::text(record, "/pipeline/uid")).unwrap_or_else(|| self.uid())
    }

    /// All that was known to be alive of a step, but for one attempt.
    pub(super) fn live_beside(&self, step: &str, attempt: u64) -> Option<&ObjectId> {
        let others = self.attempts.iter().filter(|((name, number), _)| name == step && *number != attempt);
        others.flat_map(|(_, other)| other.live.values()).next()
    }
}

impl Attempt {
    /// Takes in a change of a pod that does a step's work.
    pub(super) fn pod_changed(&mut self, change: &Change) {
        self.note_life(change);
        self.begin_life(change);
        let pod = &change.object;
        if !change.removed
            && !json::is_terminating(pod)
            && !self.is_disturbed
            && let Some((code, message)) = primary_end(pod)
        {
            self.has_ended = true;
            match (code, serde_json::from_str(message)) {
                (0, report) => self.reported(report.unwrap_or_else(|_| json!({}))),
                (code, _) => self.ill(format!("{} ended with {code}", change.id)),
            }
        }
        if json::is_terminal(pod) && primary_end(pod).is_none() {
            self.ill(format!("{} was evicted", change.id));
            self.is_disturbed = true;
        }
        if json::is_terminating(pod) || change.removed {
            self.disturbed(change);
        }
    }

    /// Takes in which pods of it are alive.
    pub(super) fn note_life(&mut self, change: &Change) {
        let uid = json::uid(&change.object);
        if change.removed || json::is_terminal(&change.object) {
            self.live.remove(uid);
        } else {
            self.live.insert(uid.to_owned(), change.id.clone());
        }
    }

    /// Takes in a change of a TrainingJob that does a step's work.
    pub(super) fn job_changed(&mut self, change: &Change) {
        self.begin_life(change);
        let job = &change.object;
        if json::condition_is_true(job, "Complete") {
            self.has_ended = true;
            self.reported(job["status"].get("results").cloned().unwrap_or_else(|| json!({})));
        } else if json::condition_is_true(job, "Failed") {
            self.has_ended = true;
            self.ill(format!("{} failed", change.id));
        } else if json::condition_is_true(job, "Stalled") {
            self.ill(format!("{} stalled", change.id));
        }
        if change.removed || json::is_terminating(job) {
            self.disturbed(change);
        } else if job["spec"]["suspend"] == true {
            self.was_removed = true;
            self.ill(format!("{} was suspended", change.id));
        }
    }

    /// A child that is made again, after one that vanished unseen, may come to an end of its own.
    fn begin_life(&mut self, change: &Change) {
        if change.created {
            (self.has_ended, self.is_disturbed) = (false, false);
        }
    }

    fn disturbed(&mut self, change: &Change) {
        self.is_disturbed = true;
        self.was_removed |= change.by == Actor::Operator && !json::is_terminal(&change.object);
        self.ill(format!("{} was deleted by {:?}", change.id, change.by));
    }

    /// It ended well, with this report.
    pub(super) fn reported(&mut self, report: Value) {
        if !self.reports.contains(&report) {
            self.reports.push(report);
        }
    }

    /// It may be taken for failed.
    pub(super) fn ill(&mut self, why: String) {
        if !self.ills.contains(&why) {
            self.ills.push(why);
        }
    }

    /// Whether its time was up when it was put on record what became of it.
    pub(super) fn is_late(&self, timeout: Option<SignedDuration>) -> bool {
        let spent = self.over_at.zip(self.began).map(|(over, began)| over.duration_since(began));
        // Times on record are whole seconds.
        timeout.zip(spent).is_some_and(|(timeout, spent)| spent + SignedDuration::from_secs(1) >= timeout)
    }
}

/// Exit code and termination message of a pod's primary container, once it has ended.
fn primary_end(pod: &Value) -> Option<(i64, &str)> {
    let primary = json::primary_container(pod)?;
    let statuses = json::at(pod, "/status/containerStatuses")?.as_array()?;
    let ended = json::at(statuses.iter().find(|status| status["name"] == primary)?, "/state/terminated")?;
    Some((ended["exitCode"].as_i64()?, json::text(ended, "/message").unwrap_or_default()))
}

/// Which attempt of which step an object was made for.
pub(super) fn place(object: &Value) -> Option<(String, u64)> {
    let step = json::label(object, crate::names::LABEL_STEP)?;
    Some((step.to_owned(), json::label_number(object, crate::names::LABEL_ATTEMPT)?.into()))
}

/// Which run a child belongs to, by the reference that its controller left.
pub(super) fn run_of(object: &Value) -> Option<&str> {
    let owners = json::at(object, "/metadata/ownerReferences")?.as_array()?;
    owners.iter().any(|owner| owner["kind"] == Resource::PipelineRun.kind()).then(|| json::controller_uid(object))?
}
