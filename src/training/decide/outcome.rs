//! Judging the attempt in force: it may be over, well or badly, or have to be left behind.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::view::View;
use crate::api::conditions::whole_second;
use crate::api::{FailureLogs, TrainingJobStatus};
use crate::cluster::canonical;
use crate::cluster::container::ContainerState;
use crate::cluster::plan::{Plan, Publish};
use crate::cluster::pod_state::{Failure, PodState, lost};
use crate::cluster::results::{Refused, Reported, longest_message, results};
use crate::cluster::retry;
use crate::training::policy::culprit::{culprit, settles_at};
use crate::training::status::{self, FailReason, Situation};

/// Attempt numbers have four digits in host names.
const LAST_ATTEMPT: u32 = 9_999;

/// Ends the job, or its attempt, if the attempt in force is over.
pub(super) fn judge(view: &View) -> Option<Plan<TrainingJobStatus>> {
    if view.count_succeeded() == view.valid.nodes {
        return Some(view.say(&Situation::Complete(reported(view))));
    }
    if deadline(view).is_some_and(|deadline| deadline <= view.now) {
        let limit = view.valid.active_deadline.unwrap_or_default();
        let message = format!("not finished {limit:#} after its start (activeDeadline): its pods were stopped");
        return Some(view.say(&Situation::Failed { reason: FailReason::DeadlineExceeded, message }));
    }
    let mut failures: Vec<Failure> = view
        .ranks
        .iter()
        .filter_map(|rank| match &rank.state {
            PodState::Failed(failure) => Some(failure.clone()),
            _ => None,
        })
        .collect();
    let vanished = vanished(view);
    if failures.is_empty() {
        failures.extend(vanished.iter().map(|&rank| {
            let pod = view.pod_name(rank);
            lost(&format!("rank {rank} (pod {pod})"), &pod, rank, view.now)
        }));
    }
    let failure = culprit(&failures)?;
    let others_run = view.count(|state| matches!(state, PodState::Running | PodState::Waiting)) > 0;
    if let Some(settled) = settles_at(&failures, others_run, view.now) {
        // The status stays as it is: what the failure is called is not known yet.
        let unchanged = Plan::status_only(view.status.clone(), Publish::Now);
        return Some(unchanged.waking_at(Some(settled)));
    }
    if failure.may_change {
        // A moment later the kubelet says whether it ended the pod, and why.
        let unchanged = Plan::status_only(view.status.clone(), Publish::Now);
        return Some(unchanged.waking_at(view.memory.ending.at_the_latest(view.now)).waking_at(deadline(view)));
    }
    let mut plan = end_attempt(view, failure);
    if !vanished.is_empty() {
        // A cache that lags may have forgotten a pod, or not heard of it: the cluster itself is asked.
        let names = vanished.iter().map(|&rank| view.pod_name(rank)).collect();
        plan.checks.push(view.pods_are_gone(0, names));
    }
    Some(plan)
}

/// When the job runs out of time.
pub(super) fn deadline(view: &View) -> Option<Timestamp> {
    if view.valid.suspended {
        return None;
    }
    view.started_at()?.checked_add(view.valid.active_deadline?).ok()
}

/// Ranks whose pod was there once and is not any more.
fn vanished(view: &View) -> Vec<u32> {
    view.missing.iter().copied().filter(|rank| view.was_there(*rank)).collect()
}

/// Fails the job, or raises the attempt if restarts are left.
fn end_attempt(view: &View, failure: &Failure) -> Plan<TrainingJobStatus> {
    let mut status = view.counted_status();
    let with_log = view.valid.failure_logs == FailureLogs::Tail;
    status::remember(&mut status, view.attempt, failure, with_log, view.now);
    let (used, allowed) = (view.restarts(), view.valid.max_restarts);
    let give_up = |reason, why: String| {
        let message = format!("{}; {why}", status.attempts.last().map(status::summary).unwrap_or_default());
        view.say_with(status.clone(), &Situation::Failed { reason, message })
    };
    if used >= allowed {
        return give_up(FailReason::MaxRestartsReached, format!("{used} of {allowed} restarts used (maxRestarts)"));
    }
    let mut raised = status.clone();
    raised.restarts = Some(used + 1);
    raised.retry_time = retry_time(view, failure).map(Time);
    let next = format!("restart {} of {allowed} follows", used + 1);
    raise(view, raised, &Situation::Restarting { next })
}

/// Leaves the attempt in force behind if the spec was edited since it was launched. Admission allows that only while the
/// job is suspended, but a quick hand can suspend, edit and resume before we look; what happened to such an attempt
/// says nothing about the new spec.
pub(super) fn leave_edited(view: &View) -> Option<Plan<TrainingJobStatus>> {
    let hash = &view.valid.launch_hash;
    if !view.ranks.iter().any(|rank| canonical::differs(&rank.pod.launch_hash, hash)) {
        return None;
    }
    if view.valid.suspended {
        return leave_suspended(view);
    }
    let next = "the spec was edited while the job was suspended: all pods start again".to_owned();
    Some(raise(view, TrainingJobStatus { retry_time: None, ..view.counted_status() }, &Situation::Restarting { next }))
}

/// Leaves the attempt in force behind if the job is suspended.
pub(super) fn leave_suspended(view: &View) -> Option<Plan<TrainingJobStatus>> {
    if !view.valid.suspended || !view.is_begun() {
        return None;
    }
    let mut status = view.counted_status();
    status.start_time = None;
    status.retry_time = None;
    let left = view.ranks.iter().filter(|rank| !rank.pod.is_terminal()).count();
    Some(raise(view, status, &Situation::Suspending { left }))
}

/// When the next attempt may start: the wait counts from the failure, but by our clock, so a node's that is behind makes
/// no failure older than a minute.
fn retry_time(view: &View, failure: &Failure) -> Option<Timestamp> {
    let wait = retry::wait_before(view.restarts() + 1, view.valid.backoff, view.valid.max_backoff);
    let oldest = view.now.checked_sub(SignedDuration::from_mins(1)).ok()?;
    failure.time.clamp(oldest, view.now).checked_add(wait).ok().map(whole_second)
}

/// Puts the next attempt on record. Nothing else happens in this reconcile.
fn raise(view: &View, mut status: TrainingJobStatus, situation: &Situation) -> Plan<TrainingJobStatus> {
    if view.attempt >= LAST_ATTEMPT {
        let message = format!("attempt {LAST_ATTEMPT} was the last that host names have room for: make the job again");
        return view.say_with(status, &Situation::Failed { reason: FailReason::AttemptsExhausted, message });
    }
    status.attempt = Some(view.attempt + 1);
    status.succeeded_ranks = None;
    status.results = None;
    view.say_with(status, situation)
}

/// What rank 0 reported: in its pod if that is still there, else what was kept of it.
pub(super) fn reported(view: &View) -> Result<Option<Reported>, Refused> {
    let leader = view.ranks.iter().find(|rank| rank.pod.rank == 0 && rank.state == PodState::Succeeded);
    let container = leader.and_then(|rank| rank.pod.container(&view.valid.container));
    match leader.zip(container.map(|container| &container.state)) {
        Some((rank, ContainerState::Ended(ended))) => {
            results(ended.message.as_deref().unwrap_or_default(), longest_message(rank.pod.container_count))
        }
        _ => Ok(view.status.results.clone().map(|values| Reported { values, ..Reported::default() })),
    }
}
