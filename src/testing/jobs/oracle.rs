//! What must be true at every moment, and at the end.
//!
//! Written against the objects alone, change by change: a plan that is wrong for the time between two of its writes is
//! found as well as one that ends wrong.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::Value;

use super::facts::{JobFacts, Outcome};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::json;
use crate::testing::options::SimOptions;
use crate::testing::story::{Actor, Change};
use crate::testing::subject::{Oracle, Verdict, ensure};
use crate::testing::watch::Watches;
use crate::testing::world::World;

/// Looks at every change, and judges the end.
pub(crate) struct JobOracle {
    jobs: BTreeMap<String, JobFacts>,
    /// UIDs of objects that a person put in the operator's way.
    strangers: BTreeSet<String>,
    /// UIDs of pods that a person made under names of a job's: they are nobody's, whatever they claim.
    forged: BTreeSet<String>,
    /// By how much the operator's clock may mislead it.
    clock_error: SignedDuration,
}

/// Status writes that need no event: timers, and what other jobs or the cluster's moods bring about.
const STATUS_WRITES_FOR_NOTHING: u64 = 10;

impl Oracle for JobOracle {
    fn new(options: &SimOptions) -> Self {
        JobOracle {
            jobs: BTreeMap::new(),
            strangers: BTreeSet::new(),
            forged: BTreeSet::new(),
            clock_error: options.clock_error.abs(),
        }
    }

    fn take_in(&mut self, _world: &World, _watches: &Watches, change: &Change) -> Verdict {
        let object = &change.object;
        let uid = json::uid(object);
        if change.id.resource == Resource::TrainingJob {
            let facts = self.jobs.entry(uid.to_owned()).or_default();
            facts.job_changed(change);
            return check_job(facts, change, self.clock_error).map_err(|what| format!("{}: {what}", change.id));
        }
        let Some(owner) = json::controller_uid(object) else {
            // (6) What has no owner of ours is not ours.
            if change.created && change.by == Actor::Person {
                self.strangers.insert(uid.to_owned());
            }
            return ensure(change.by != Actor::Operator, || {
                let whose = if self.strangers.contains(uid) { "somebody else's" } else { "an ownerless" };
                format!("the operator wrote {whose} {}", change.id)
            });
        };
        let facts = self.jobs.entry(owner.to_owned()).or_default();
        if change.created && change.by == Actor::Person {
            self.forged.insert(uid.to_owned());
        }
        if self.forged.contains(uid) {
            facts.stimuli += 1;
            return Ok(());
        }
        if change.created && change.id.resource == Resource::Pod {
            check_new_pod(facts, change).map_err(|what| format!("{} was created: {what}", change.id))?;
        }
        facts.child_changed(change);
        check_attempts(facts).map_err(|what| format!("after a change of {}: {what}", change.id))?;
        check_addresses(facts).map_err(|what| format!("after a change of {}: {what}", change.id))
    }

    fn is_waiting(&self, world: &World, job: &ObjectId) -> bool {
        world.refuses_pods() || world.planted().values().any(|blocked| blocked == job)
    }

    fn judge_the_end(&self, world: &World) -> Verdict {
        let mut living = BTreeSet::new();
        for (id, job) in world.objects(Resource::TrainingJob) {
            living.insert(json::uid(&job).to_owned());
            let facts = self.jobs.get(json::uid(&job)).ok_or_else(|| format!("{id} is unknown to the oracle"))?;
            self.judge_job(world, &id, &job, facts).map_err(|what| format!("at the end, {id}: {what}"))?;
        }
        // (6) No child outlives its owner.
        for resource in [Resource::Pod, Resource::Service, Resource::EndpointSlice] {
            for (id, child) in world.objects(resource) {
                let orphan = json::controller_uid(&child).is_some_and(|owner| !living.contains(owner));
                ensure(!orphan, || format!("at the end, {id} is an orphan"))?;
            }
        }
        Ok(())
    }
}

impl JobOracle {
    fn judge_job(&self, world: &World, id: &ObjectId, job: &Value, facts: &JobFacts) -> Verdict {
        // (8)
        let generation = json::number(job, "/metadata/generation");
        let observed = json::number(job, "/status/observedGeneration");
        ensure(observed == generation, || format!("observedGeneration is {observed:?} of {generation:?}"))?;
        for condition in ["Ready", "Reconciling", "Stalled"] {
            ensure(json::condition(job, condition).is_some(), || format!("it has no condition {condition}"))?;
        }
        for condition in job["status"]["conditions"].as_array().into_iter().flatten() {
            let observed = json::number(condition, "/observedGeneration");
            ensure(observed.is_none() || observed == generation, || {
                format!("a condition speaks of another generation: {condition}")
            })?;
        }
        let (written, stimuli) = (facts.status_writes, facts.stimuli);
        ensure(written <= stimuli + STATUS_WRITES_FOR_NOTHING, || {
            format!("its status was written {written} times, although only {stimuli} things happened")
        })?;
        let stalled = json::condition_is_true(job, "Stalled");
        ensure(!(stalled && json::condition_is_true(job, "Ready")), || "Ready and Stalled at once".to_owned())?;
        let live = facts.pods.values().filter(|pod| pod.live).count();
        match facts.outcome {
            Some(outcome) => {
                ensure(live == 0, || format!("it has finished, yet {live} pods are live"))?;
                let tells = if outcome == Outcome::Complete { "Ready" } else { "Stalled" };
                ensure(json::condition_is_true(job, tells), || format!("it is {outcome:?}, but not {tells}"))?;
                judge_leftovers(job, facts)?;
                self.judge_outcome(job, facts, outcome)
            }
            // (4)
            None if json::is_terminating(job) => Ok(()),
            None if job["spec"]["suspend"] == true => {
                ensure(json::condition_is_true(job, "Suspended"), || {
                    "it is suspended, but does not say so".to_owned()
                })?;
                ensure(live == 0, || format!("it is suspended, yet {live} pods are live"))
            }
            None => {
                ensure(self.is_waiting(world, id), || {
                    format!("nothing stands in its way, yet it has not finished (Stalled: {stalled})")
                })?;
                check_obstacle_is_named(world, id, job)
            }
        }
    }

    /// (4) Whether the outcome is one that what happened to the pods allows.
    fn judge_outcome(&self, job: &Value, facts: &JobFacts, outcome: Outcome) -> Verdict {
        let attempts = facts.attempts.keys().copied();
        let newest = facts.attempts.keys().last().copied().unwrap_or(1);
        let excused = facts.excused_attempts();
        ensure(facts.counted.1 <= excused, || {
            format!("{} restarts, but only {excused} attempts in which something went wrong", facts.counted.1)
        })?;
        match outcome {
            Outcome::Complete => {
                let done = attempts.clone().any(|attempt| facts.is_done(attempt, true));
                ensure(done, || format!("Complete, but in no attempt did every pod end well: {:?}", facts.attempts))
            }
            Outcome::Failed if self.deadline_passed(job) => Ok(()),
            Outcome::Failed => {
                let spent = facts.counted.1 >= facts.max_restarts;
                ensure(spent, || format!("Failed after {} of {} restarts", facts.counted.1, facts.max_restarts))?;
                let excuse = facts.attempts.get(&newest).and_then(|attempt| attempt.excuse.as_ref());
                ensure(excuse.is_some(), || format!("Failed, but nothing went wrong in attempt {newest}"))?;
                // An edit may leave behind an attempt that has done its work before anybody saw it.
                let done = attempts.clone().find(|attempt| {
                    facts.edits() == 0 && facts.is_done(*attempt, false) && facts.attempts[attempt].excuse.is_none()
                });
                ensure(done.is_none(), || format!("Failed, but attempt {done:?} did its work"))
            }
        }
    }

    fn deadline_passed(&self, job: &Value) -> bool {
        let begin = json::time(job, "/status/startTime").or_else(|| json::time(job, "/metadata/creationTimestamp"));
        let (Some(begin), Some(end)) = (begin, json::time(job, "/status/finishTime")) else { return false };
        json::duration(job, "/spec/activeDeadline").is_some_and(|deadline| {
            end.duration_since(begin) + self.clock_error + SignedDuration::from_secs(1) >= deadline
        })
    }
}

/// (2), (3): what the job says of itself, and that it goes only when it may.
fn check_job(facts: &mut JobFacts, change: &Change, clock_error: SignedDuration) -> Verdict {
    let job = &change.object;
    if change.removed {
        return ensure(change.by != Actor::Operator || may_be_deleted(facts, change, clock_error), || {
            "the operator deleted it before its time".to_owned()
        });
    }
    let counted =
        (json::number(job, "/status/attempt").unwrap_or(1), json::number(job, "/status/restarts").unwrap_or(0));
    let known = facts.counted;
    ensure(counted.0 >= known.0 && counted.1 >= known.1, || {
        format!("attempt and restarts went back from {known:?} to {counted:?}")
    })?;
    facts.counted = counted;
    ensure(counted.1 <= facts.max_restarts, || format!("{} restarts of {} allowed", counted.1, facts.max_restarts))?;
    let outcome = match ["Finished", "Complete", "Failed"].map(|condition| json::condition_is_true(job, condition)) {
        [false, false, false] => None,
        [true, true, false] => Some(Outcome::Complete),
        [true, false, true] => Some(Outcome::Failed),
        other => return Err(format!("Finished, Complete and Failed contradict each other: {other:?}")),
    };
    ensure(facts.outcome.is_none() || facts.outcome == outcome, || {
        format!("its outcome changed from {:?} to {outcome:?}", facts.outcome)
    })?;
    facts.outcome = outcome;
    Ok(())
}

fn may_be_deleted(facts: &JobFacts, change: &Change, clock_error: SignedDuration) -> bool {
    let finished = json::time(&change.object, "/status/finishTime");
    let keep = json::duration(&change.object, "/spec/deleteAfterFinished");
    facts.outcome.is_some()
        && finished.zip(keep).is_some_and(|(finished, keep)| finished + keep <= change.at + clock_error)
}

/// (2), (3): whether this pod may be created.
fn check_new_pod(facts: &JobFacts, change: &Change) -> Verdict {
    let pod = &change.object;
    let attempt = json::label_number(pod, crate::names::LABEL_ATTEMPT).ok_or("it has no label for its attempt")?;
    let rank = json::label_number(pod, crate::names::LABEL_RANK).ok_or("it has no label for its rank")?;
    ensure(facts.outcome.is_none(), || format!("its job is {:?}", facts.outcome))?;
    // A deletion may overtake the request that makes the pod, but not a whole reconcile.
    let terminating = facts.terminating_since.is_some_and(|step| step < change.step);
    ensure(!terminating, || "its job is being deleted".to_owned())?;
    if facts.object.is_some() {
        let (restarts, edits) = (facts.max_restarts, facts.edits());
        ensure(u64::from(attempt) <= 1 + restarts + edits, || {
            format!("attempt {attempt} with {restarts} restarts allowed and {edits} edits of the spec")
        })?;
        let excused = facts.excused_attempts();
        ensure(u64::from(attempt) <= 1 + excused + edits, || {
            format!("attempt {attempt}, but only {excused} attempts went wrong, and {edits} edits of the spec")
        })?;
    }
    let removed = facts.attempts.get(&attempt).is_some_and(|attempt| attempt.removed.contains(&rank));
    ensure(!removed, || format!("the operator itself removed rank {rank} of attempt {attempt}: its outcome is lost"))?;
    let twin = facts.pods.values().find(|other| (other.attempt, other.rank) == (attempt, rank));
    ensure(twin.is_none(), || format!("{} has the same attempt and rank", twin.expect("just found").id))
}

/// (1): no two attempts at a time.
fn check_attempts(facts: &JobFacts) -> Verdict {
    let newest = facts.newest_attempt();
    let older = facts.pods.values().find(|pod| pod.live && Some(pod.attempt) < newest);
    ensure(older.is_none(), || {
        format!("{} is live while pods of attempt {newest:?} exist", older.expect("just found").id)
    })
}

/// (7): DNS never leads from one attempt to another.
fn check_addresses(facts: &JobFacts) -> Verdict {
    let Some(newest) = facts.newest_attempt() else { return Ok(()) };
    for (slice, addresses) in &facts.slices {
        for address in addresses {
            let attempt = facts.addresses.get(address);
            ensure(attempt.is_some_and(|attempt| *attempt >= newest), || {
                format!("{slice} holds {address} of attempt {attempt:?} while pods of attempt {newest} exist")
            })?;
        }
    }
    Ok(())
}

/// A job that somebody else's object holds up says so.
fn check_obstacle_is_named(world: &World, id: &ObjectId, job: &Value) -> Verdict {
    let planted = world.planted();
    let mut obstacles = planted.iter().filter(|(_, blocked)| *blocked == id).map(|(obstacle, _)| &obstacle.name);
    let status = job["status"].to_string();
    let named = world.refuses_pods() || obstacles.clone().count() == 0 || obstacles.any(|name| status.contains(name));
    ensure(named, || "somebody else's object holds it up, and its status does not name it".to_owned())
}

/// What a finished job leaves behind: nothing that it was asked to remove, and no addresses of pods that are gone.
fn judge_leftovers(job: &Value, facts: &JobFacts) -> Verdict {
    let expires = json::at(job, "/spec/deleteAfterFinished").is_some();
    ensure(!expires, || "deleteAfterFinished is over, yet it is still there".to_owned())?;
    let pods_expire = json::at(job, "/spec/podsAfterFinished").is_some();
    ensure(!pods_expire || facts.pods.is_empty(), || "podsAfterFinished is over, yet it has pods".to_owned())?;
    for (slice, addresses) in &facts.slices {
        let known = |address: &String| facts.pods.values().any(|pod| pod.address.as_ref() == Some(address));
        ensure(addresses.iter().all(known), || format!("{slice} holds addresses of no pod: {addresses:?}"))?;
    }
    Ok(())
}
