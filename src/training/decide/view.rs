//! One job's attempt in force, sorted out of everything that was observed.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, Seen};
use crate::api::{PodCounts, TrainingJob, TrainingJobStatus};
use crate::cluster::endpoints::EndpointFacts;
use crate::cluster::plan::{Check, Plan};
use crate::cluster::pod::PodFacts;
use crate::cluster::pod_state::{PodState, by_rank, pod_state};
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::training::observe::{Memory, Observed};
use crate::training::policy::rank_set;
use crate::training::status::{self, Situation};
use crate::training::validate::ValidJob;

/// What the steps of a decision look at.
pub(super) struct View<'a> {
    pub(super) job: &'a TrainingJob,
    pub(super) valid: &'a ValidJob,
    pub(super) status: &'a TrainingJobStatus,
    pub(super) observed: &'a Observed,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
    /// The attempt in force.
    pub(super) attempt: u32,
    /// Pods of that attempt that are seen, by rank.
    pub(super) ranks: Vec<Rank<'a>>,
    /// Ranks of it that have ended well, whether their pods are still there or not.
    pub(super) succeeded: BTreeSet<u32>,
    /// Ranks of it that no cache shows and that we did not create just now.
    pub(super) missing: Vec<u32>,
    /// Ranks of it that we created and no cache shows yet.
    pub(super) unseen: u32,
    /// Pods under names of that attempt that were not made by the operator.
    pub(super) strangers: Vec<&'a Arc<PodFacts>>,
}

/// A pod of the attempt in force and what it means.
pub(super) struct Rank<'a> {
    pub(super) pod: &'a Arc<PodFacts>,
    pub(super) state: PodState,
}

impl<'a> View<'a> {
    pub(super) fn new(
        job: &'a TrainingJob,
        valid: &'a ValidJob,
        status: &'a TrainingJobStatus,
        observed: &'a Observed,
        memory: &'a Memory,
        now: Timestamp,
    ) -> Self {
        // The record, and no label: an attempt is on record before its pods are made, so a pod of a later one is nobody's.
        let attempt = status::recorded_attempt(job);
        let launched = status.launched_attempt.is_some_and(|launched| launched >= attempt);
        let of_attempt = observed.pods.iter().filter(|pod| pod.attempt == attempt);
        let (ours, strangers): (Vec<_>, Vec<_>) =
            of_attempt.partition(|pod| pod.rank < valid.nodes && (launched || is_ours(valid, memory, pod)));
        let taken: BTreeSet<u32> = strangers.iter().map(|stranger| stranger.rank).collect();
        let mut succeeded = remembered(valid, status, memory, attempt);
        let mut ranks: Vec<Rank> = Vec::new();
        for pod in ours {
            // Once ended well is ended well: what a later deletion makes of the pod's clocks changes nothing.
            let state = match succeeded.contains(&pod.rank) {
                true => PodState::Succeeded,
                false => pod_state(pod, &valid.container, by_rank, &memory.ending, now),
            };
            if state == PodState::Succeeded {
                succeeded.insert(pod.rank);
            }
            ranks.push(Rank { pod, state });
        }
        ranks.sort_by_key(|rank| rank.pod.rank);
        let mut missing = Vec::new();
        let mut unseen = 0;
        for rank in 0..valid.nodes {
            let seen = ranks.binary_search_by_key(&rank, |seen| seen.pod.rank).is_ok();
            if seen || taken.contains(&rank) || succeeded.contains(&rank) {
                continue;
            }
            if memory.writes.has_created(Resource::Pod, &pod_name(valid, rank, attempt)) {
                unseen += 1;
            } else {
                missing.push(rank);
            }
        }
        View { job, valid, status, observed, memory, now, attempt, ranks, succeeded, missing, unseen, strangers }
    }

    /// Name of a rank's pod in the attempt in force.
    pub(super) fn pod_name(&self, rank: u32) -> String {
        pod_name(self.valid, rank, self.attempt)
    }

    /// Pods of attempts before the one in force.
    pub(super) fn older(&self) -> impl Iterator<Item = &'a Arc<PodFacts>> {
        let attempt = self.attempt;
        self.observed.pods.iter().filter(move |pod| pod.attempt < attempt)
    }

    /// Whether a rank's pod of the attempt in force was there once, by the record that all of them were or by our memory.
    pub(super) fn was_there(&self, rank: u32) -> bool {
        let launched = self.status.launched_attempt.unwrap_or(0) >= self.attempt;
        let seen = self.memory.seen.get(&(self.attempt, rank));
        launched || seen.is_some_and(|seen| is_ours(self.valid, self.memory, &seen.pod))
    }

    /// Whether anything is seen of a later attempt than the one on record. Most likely somebody else made it; but our copy
    /// of the job may be an old one.
    pub(super) fn may_be_outdated(&self) -> bool {
        let later = |endpoint: &EndpointFacts| {
            endpoint.hostname.rsplit('-').next().and_then(|attempt| attempt.parse().ok()).unwrap_or(0) > self.attempt
        };
        self.observed.pods.iter().any(|pod| pod.attempt > self.attempt)
            || self.observed.slices.iter().any(|slice| slice.endpoints.iter().any(later))
    }

    /// How many pods are in a state.
    pub(super) fn count(&self, matches: impl Fn(&PodState) -> bool) -> u32 {
        as_number(self.ranks.iter().filter(|rank| matches(&rank.state)).count())
    }

    /// How many ranks have ended well.
    pub(super) fn count_succeeded(&self) -> u32 {
        as_number(self.succeeded.len())
    }

    /// How many ranks have started, whatever became of them.
    pub(super) fn count_started(&self) -> u32 {
        self.count(|state| matches!(state, PodState::Running | PodState::Failed(_))) + self.count_succeeded()
    }

    /// Whether anything of the attempt in force was made, as far as anybody remembers.
    pub(super) fn is_begun(&self) -> bool {
        let recorded = self.status.launched_attempt == Some(self.attempt) || !self.succeeded.is_empty();
        recorded || !self.ranks.is_empty() || self.unseen > 0
    }

    /// Restarts used so far.
    pub(super) fn restarts(&self) -> i32 {
        self.status.restarts.unwrap_or(0)
    }

    /// When the job started, by this operator's clock: as recorded, or when it created the first pod. Timestamps of the
    /// apiserver and of nodes come from other clocks, and a deadline must not depend on how they differ.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        let launched = (self.is_begun()).then(|| conditions::whole_second(self.memory.launched_at.unwrap_or(self.now)));
        self.status.start_time.as_ref().map(|time| time.0).or(launched)
    }

    /// The status as it is, with what is counted brought up to date.
    pub(super) fn counted_status(&self) -> TrainingJobStatus {
        let mut status = self.status.clone();
        status.attempt = Some(self.attempt);
        status.restarts = Some(self.restarts());
        if self.missing.is_empty() && self.unseen == 0 && self.strangers.is_empty() {
            status.launched_attempt = Some(self.attempt);
            status.retry_time = None;
        }
        status.succeeded_ranks = Some(rank_set::write(&self.succeeded)).filter(|ranks| !ranks.is_empty());
        // Rank 0's results are kept as soon as it has ended: its pod may be gone when the last rank ends.
        if let Ok(Some(results)) = super::outcome::reported(self) {
            status.results = Some(results.values);
        }
        status.start_time = self.started_at().map(Time);
        status.effective = Some(self.valid.effective());
        let running = self.count(|state| *state == PodState::Running);
        let succeeded = self.count_succeeded();
        status.pods = Some(PodCounts {
            summary: format!("{}/{}", running + succeeded, self.valid.nodes),
            running: running.cast_signed(),
            succeeded: succeeded.cast_signed(),
            failed: self.count(|state| matches!(state, PodState::Failed(_))).cast_signed(),
        });
        status
    }

    /// A plan that says where the job stands.
    pub(super) fn say(&self, situation: &Situation) -> Plan<TrainingJobStatus> {
        self.say_with(self.counted_status(), situation)
    }

    /// The same from a status that was changed further.
    pub(super) fn say_with(&self, mut new: TrainingJobStatus, situation: &Situation) -> Plan<TrainingJobStatus> {
        status::describe(&mut new, situation, self.seen());
        let publish = super::urgency(self.status, &new, situation.state(), self.memory, self.now);
        Plan::status_only(new, publish)
    }

    /// The status of a suspended job: its deadline starts anew when it goes on.
    pub(super) fn say_suspended(&self, situation: &Situation) -> Plan<TrainingJobStatus> {
        let mut status = self.counted_status();
        status.start_time = None;
        self.say_with(status, situation)
    }

    fn seen(&self) -> Seen {
        Seen { now: conditions::whole_second(self.now), generation: self.job.metadata.generation }
    }

    /// Identity of the job.
    pub(super) fn id(&self) -> ObjectId {
        ObjectId::new(Resource::TrainingJob, &self.valid.namespace, &self.valid.name)
    }

    /// That the job is, past all caches, what was decided upon.
    pub(super) fn job_is_current(&self) -> Check {
        Check::owner_is_current(self.id(), &self.job.metadata)
    }

    /// That no pod of an older attempt is live, past all caches, and that none of these names exists.
    pub(super) fn pods_are_gone(&self, below_attempt: u32, absent: Vec<String>) -> Check {
        Check::PodsAreGone { owner: self.id(), owner_uid: Some(self.valid.uid.clone()), below_attempt, absent }
    }

    /// That DNS answers, past all caches, for no other attempt than the one in force.
    pub(super) fn names_are_cleared(&self) -> Check {
        Check::NamesAreCleared { owner: self.id(), owner_uid: self.valid.uid.clone(), attempt: self.attempt }
    }

    /// Whether the attempt in force replaces one that failed or was edited away, and has not run yet.
    pub(super) fn follows_failure(&self) -> bool {
        self.attempt > 1
            && conditions::find(&self.status.conditions, conditions::READY)
                .is_some_and(|ready| ready.reason == status::State::Restarting.as_str())
    }
}

/// Whether a pod under the name of the attempt in force was made by the operator: by this process, as far as it remembers,
/// or by one before it, which made pods that run what the job's template says.
fn is_ours(job: &ValidJob, memory: &Memory, pod: &PodFacts) -> bool {
    let seen = memory.seen.get(&(pod.attempt, pod.rank)).filter(|seen| seen.pod.meta.uid == pod.meta.uid);
    seen.is_some_and(|seen| seen.made) || job.programs.are_run_by(&pod.programs)
}

/// Ranks of an attempt that ended well, by the record and by our own memory, which may be ahead of it.
fn remembered(job: &ValidJob, status: &TrainingJobStatus, memory: &Memory, attempt: u32) -> BTreeSet<u32> {
    let recorded = status.succeeded_ranks.as_ref().filter(|_| status.attempt.unwrap_or(1) == attempt);
    let known = memory.succeeded.as_ref().filter(|(of, _)| *of == attempt).map(|(_, ranks)| ranks);
    recorded.into_iter().chain(known).flat_map(|ranks| rank_set::read(ranks, job.nodes)).collect()
}

fn as_number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn pod_name(job: &ValidJob, rank: u32, attempt: u32) -> String {
    names::pod(&job.name, &job.uid, names::ROLE_WORKER, rank, attempt)
}
