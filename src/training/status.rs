//! What status says: the same words for the same situation, whatever led to it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, FINISHED, READY, Seen, Standing, gist, set_standing, whole_second};
use crate::api::{AttemptRecord, MAX_ATTEMPT_RECORDS, TrainingJob, TrainingJobStatus};
use crate::cluster::container::with_last_line;
use crate::cluster::pod_state::Failure;
use crate::cluster::problem::{Problem, told};
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::cluster::results::{Refused, Reported};
use crate::text::shorten;

/// Condition: the job ended well.
pub const COMPLETE: &str = "Complete";
/// Condition: the job failed for good.
pub const FAILED: &str = "Failed";
/// Condition: the job is suspended by its own spec.
pub const SUSPENDED: &str = "Suspended";
/// Condition: the job ended well, but what it reported, or some of it, could not be taken.
pub const RESULTS_REFUSED: &str = "ResultsRefused";

/// Longest message, in bytes: it stands in status and in three to six conditions, and quotes what users wrote.
const LONGEST_MESSAGE: usize = 2_048;
/// Longest message of a failed attempt, in bytes; ten of them are kept.
const LONGEST_RECORD: usize = 512;

/// Where a job stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Situation {
    /// The spec cannot be carried out.
    Invalid(Vec<Problem>),
    /// The apiserver would not create something.
    Refused(Refusal),
    /// Pods are made or are on their way; `why` they have not started if that is out of the ordinary.
    Starting {
        /// Pods that have started.
        started: u32,
        /// Pods in all.
        nodes: u32,
        /// What holds the others up.
        why: Option<String>,
    },
    /// An attempt failed and another follows.
    Restarting {
        /// What is being waited for.
        next: String,
    },
    /// All pods have started.
    Running {
        /// Pods in all.
        nodes: u32,
    },
    /// The spec says suspend; pods are still ending.
    Suspending {
        /// So many.
        left: usize,
    },
    /// The spec says suspend, and no pod runs.
    Suspended,
    /// All ranks ended well.
    Complete(Result<Option<Reported>, Refused>),
    /// The job failed for good.
    Failed {
        /// Why it is for good.
        reason: FailReason,
        /// What happened.
        message: String,
    },
}

/// Why a job failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// All restarts are used up.
    MaxRestartsReached,
    /// activeDeadline has passed.
    DeadlineExceeded,
    /// Attempt numbers are used up, after thousands of suspends and restarts.
    AttemptsExhausted,
}

impl FailReason {
    /// As the reason of condition Failed.
    pub fn as_str(self) -> &'static str {
        match self {
            FailReason::MaxRestartsReached => "MaxRestartsReached",
            FailReason::DeadlineExceeded => "DeadlineExceeded",
            FailReason::AttemptsExhausted => "AttemptsExhausted",
        }
    }
}

/// The reason of condition Ready, which `kubectl get` shows as the job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is described where its Situation is")]
pub enum State {
    Invalid,
    Refused,
    NameTaken,
    QuotaExceeded,
    Starting,
    Waiting,
    Restarting,
    Running,
    Suspending,
    Suspended,
    Succeeded,
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [State; 12] = [
        State::Invalid,
        State::Refused,
        State::NameTaken,
        State::QuotaExceeded,
        State::Starting,
        State::Waiting,
        State::Restarting,
        State::Running,
        State::Suspending,
        State::Suspended,
        State::Succeeded,
        State::Failed,
    ];

    /// As the reason of a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Invalid => "Invalid",
            State::Refused => "Refused",
            State::NameTaken => "NameTaken",
            State::QuotaExceeded => "QuotaExceeded",
            State::Starting => "Starting",
            State::Waiting => "Waiting",
            State::Restarting => "Restarting",
            State::Running => "Running",
            State::Suspending => "Suspending",
            State::Suspended => "Suspended",
            State::Succeeded => "Succeeded",
            State::Failed => "Failed",
        }
    }

    /// Ready, Reconciling and Stalled, by the table in ARCHITECTURE.md.
    pub fn standing(self) -> Standing {
        match self {
            State::Invalid | State::Refused | State::NameTaken | State::Failed => (false, false, true),
            State::QuotaExceeded | State::Starting | State::Waiting | State::Restarting | State::Suspending => {
                (false, true, false)
            }
            State::Running | State::Suspended | State::Succeeded => (true, false, false),
        }
    }
}

impl Situation {
    /// The one word for it.
    pub fn state(&self) -> State {
        match self {
            Situation::Invalid(_) => State::Invalid,
            Situation::Refused(refusal) => match refusal.kind {
                RefusalKind::Content | RefusalKind::Overdue => State::Refused,
                RefusalKind::Quota => State::QuotaExceeded,
                RefusalKind::Foreign => State::NameTaken,
                RefusalKind::Leftover | RefusalKind::Unanswered | RefusalKind::Awaited => State::Waiting,
            },
            Situation::Starting { why: None, .. } => State::Starting,
            Situation::Starting { why: Some(_), .. } => State::Waiting,
            Situation::Restarting { .. } => State::Restarting,
            Situation::Running { .. } => State::Running,
            Situation::Suspending { .. } => State::Suspending,
            Situation::Suspended => State::Suspended,
            Situation::Complete(_) => State::Succeeded,
            Situation::Failed { .. } => State::Failed,
        }
    }

    fn message(&self, status: &TrainingJobStatus) -> String {
        match self {
            Situation::Invalid(problems) => told(problems),
            Situation::Refused(refusal) => refusal.told(match status.start_time {
                // Admission takes any edit as long as there has been no pod.
                None => "",
                Some(_) => " (a template can be edited while suspend is true)",
            }),
            Situation::Starting { started: 0, nodes, why: None } => {
                format!("starting {nodes} {}", pods(*nodes as usize))
            }
            Situation::Starting { started, nodes, why: None } => format!("{started} of {nodes} pods have started"),
            Situation::Starting { started: 0, why: Some(why), .. } => why.clone(),
            Situation::Starting { started, why: Some(why), .. } => format!("{why}; {started} have started"),
            Situation::Restarting { next } => {
                let last =
                    status.attempts.last().filter(|record| Some(record.attempt.saturating_add(1)) == status.attempt);
                last.map_or_else(|| next.clone(), |record| format!("{}; {next}", summary(record)))
            }
            Situation::Running { nodes: 1 } => "the pod runs".to_owned(),
            Situation::Running { nodes } => format!("all {nodes} pods run"),
            Situation::Suspending { left } => format!("suspended: waiting for {left} {} to end", pods(*left)),
            Situation::Suspended => "suspended: set suspend to false to go on".to_owned(),
            Situation::Complete(results) => complete_message(status, results),
            Situation::Failed { message, .. } => message.clone(),
        }
    }
}

/// The noun for so many pods.
pub fn pods(count: usize) -> &'static str {
    if count == 1 { "pod" } else { "pods" }
}

fn complete_message(status: &TrainingJobStatus, results: &Result<Option<Reported>, Refused>) -> String {
    let restarts = status.restarts.unwrap_or(0);
    let how = match restarts {
        0 => String::new(),
        1 => " after 1 restart".to_owned(),
        _ => format!(" after {restarts} restarts"),
    };
    let ended = format!("all ranks ended well{how}");
    match results {
        Ok(Some(reported)) => match reported.complaint() {
            Some(complaint) => format!("{ended}; results are kept without {complaint}"),
            None => ended,
        },
        Ok(None) => ended,
        Err(Refused::Truncated(bytes)) => format!(
            "{ended}; results refused: the termination message of rank 0 was cut off at {bytes} bytes, all that the kubelet \
             keeps of it in this pod: write a smaller JSON object"
        ),
        Err(Refused::NotAnObject) => format!(
            "{ended}; results refused: the termination message of rank 0 is not one JSON object: write one, or nothing, to \
             /dev/termination-log"
        ),
    }
}

/// Writes a situation into a status: conditions, message, and what only this situation brings.
pub fn describe(status: &mut TrainingJobStatus, situation: &Situation, seen: Seen) {
    let state = situation.state();
    let message = shorten(&situation.message(status), LONGEST_MESSAGE).to_owned();
    let reason = state.as_str();
    let list = &mut status.conditions;
    set_standing(list, state.standing(), reason, &message, seen);
    if state == State::Suspended {
        conditions::set(list, SUSPENDED, true, reason, &message, seen);
    } else {
        conditions::remove(list, SUSPENDED);
    }
    match situation {
        Situation::Complete(results) => {
            conditions::set(list, COMPLETE, true, "AllRanksSucceeded", &message, seen);
            conditions::set(list, FINISHED, true, COMPLETE, &message, seen);
            let refused = match results {
                Ok(Some(reported)) if !reported.unkept.is_empty() => Some("KeysLeftOut"),
                Ok(_) => None,
                Err(Refused::Truncated(_)) => Some("Truncated"),
                Err(Refused::NotAnObject) => Some("NotAnObject"),
            };
            if let Some(reason) = refused {
                conditions::set(list, RESULTS_REFUSED, true, reason, &message, seen);
            }
            if let Ok(reported) = results {
                status.results = reported.as_ref().map(|reported| reported.values.clone());
            }
            status.finish_time = Some(Time(seen.now));
        }
        Situation::Failed { reason, .. } => {
            conditions::set(list, FAILED, true, reason.as_str(), &message, seen);
            conditions::set(list, FINISHED, true, FAILED, &message, seen);
            status.finish_time = Some(Time(seen.now));
        }
        _ => {}
    }
    status.message = Some(message);
    status.observed_generation = seen.generation;
}

/// Remembers a failed attempt, and forgets the oldest when there are too many. What a node's clock says of the future is
/// taken for now.
pub fn remember(status: &mut TrainingJobStatus, attempt: u32, failure: &Failure, with_log: bool, now: Timestamp) {
    let Failure { cause, time, rank, pod, node, container, exit_code, message, log_tail, may_change: _ } =
        failure.clone();
    status.attempts.push(AttemptRecord {
        attempt,
        cause,
        time: Time(whole_second(time.min(now))),
        rank: Some(rank),
        pod: Some(pod),
        node,
        container,
        exit_code,
        message: shorten(&message, LONGEST_RECORD).to_owned(),
        log_tail: log_tail.filter(|_| with_log),
    });
    let surplus = status.attempts.len().saturating_sub(MAX_ATTEMPT_RECORDS);
    status.attempts.drain(..surplus);
}

/// What happened, with the last line of the log if it may be shown: most often the exception itself.
pub fn summary(record: &AttemptRecord) -> String {
    with_last_line(&record.message, record.log_tail.as_deref())
}

/// The attempt in force: the one on record. The first is implied.
pub fn recorded_attempt(job: &TrainingJob) -> u32 {
    job.status.as_ref().and_then(|status| status.attempt).unwrap_or(1)
}

/// Whether the job is over.
pub fn is_finished(status: &TrainingJobStatus) -> bool {
    conditions::holds(&status.conditions, FINISHED)
}

/// Whether two statuses differ in more than wording and counts, so that the new one cannot wait.
pub fn differs_materially(old: &TrainingJobStatus, new: &TrainingJobStatus) -> bool {
    let bare = |status: &TrainingJobStatus| TrainingJobStatus {
        message: None,
        pods: None,
        launched_attempt: None,
        succeeded_ranks: None,
        effective: None,
        conditions: Vec::new(),
        ..status.clone()
    };
    gist(&old.conditions) != gist(&new.conditions) || bare(old) != bare(new)
}

/// Whether an attempt has come a step closer to running, or has come to run, and nothing else has happened.
pub fn comes_up(old: &TrainingJobStatus, new: &TrainingJobStatus) -> bool {
    let reported = |status: &TrainingJobStatus| conditions::find(&status.conditions, READY).map(|it| it.reason.clone());
    let is_one_of = |status: &TrainingJobStatus, states: &[State]| {
        reported(status).is_some_and(|reason| states.iter().any(|state| state.as_str() == reason))
    };
    let record = |status: &TrainingJobStatus| (status.observed_generation, status.attempt, status.restarts);
    is_one_of(old, &[State::Starting, State::Waiting])
        && is_one_of(new, &[State::Starting, State::Waiting, State::Running])
        && record(old) == record(new)
        && old.attempts == new.attempts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{RECONCILING, STALLED};
    use crate::cluster::port::{ObjectId, Resource};

    fn seen(second: i64) -> Seen {
        Seen { now: Timestamp::from_second(second).unwrap(), generation: Some(1) }
    }

    fn standing(status: &TrainingJobStatus) -> String {
        [READY, RECONCILING, STALLED, FINISHED, COMPLETE, FAILED, SUSPENDED]
            .into_iter()
            .filter(|type_| conditions::holds(&status.conditions, type_))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn every_situation_stands_as_the_design_says() {
        let refusal = |kind| {
            Situation::Refused(Refusal {
                kind,
                id: ObjectId::new(Resource::Pod, "ns", "n"),
                message: "no".into(),
                until: seen(9).now,
                generation: Some(1),
            })
        };
        let cases = [
            (Situation::Invalid(vec![]), "Stalled"),
            (refusal(RefusalKind::Content), "Stalled"),
            (refusal(RefusalKind::Foreign), "Stalled"),
            (refusal(RefusalKind::Quota), "Reconciling"),
            (refusal(RefusalKind::Awaited), "Reconciling"),
            (refusal(RefusalKind::Overdue), "Stalled"),
            (Situation::Starting { started: 0, nodes: 2, why: None }, "Reconciling"),
            (Situation::Starting { started: 0, nodes: 2, why: Some("w".into()) }, "Reconciling"),
            (Situation::Restarting { next: "soon".into() }, "Reconciling"),
            (Situation::Running { nodes: 2 }, "Ready"),
            (Situation::Suspending { left: 1 }, "Reconciling"),
            (Situation::Suspended, "Ready Suspended"),
            (Situation::Complete(Ok(None)), "Ready Finished Complete"),
            (
                Situation::Failed { reason: FailReason::MaxRestartsReached, message: "m".into() },
                "Stalled Finished Failed",
            ),
        ];
        for (situation, expected) in cases {
            let mut status = TrainingJobStatus::default();
            describe(&mut status, &Situation::Suspended, seen(1));
            describe(&mut status, &situation, seen(2));
            assert_eq!(standing(&status), expected, "{situation:?}");
            assert_eq!(status.observed_generation, Some(1));
            assert!(!status.message.unwrap().is_empty() || matches!(situation, Situation::Invalid(_)));
        }
    }

    #[test]
    fn wording_and_counts_can_wait() {
        let mut old = TrainingJobStatus::default();
        describe(&mut old, &Situation::Starting { started: 1, nodes: 4, why: None }, seen(1));
        let mut new = old.clone();
        describe(&mut new, &Situation::Starting { started: 2, nodes: 4, why: None }, seen(2));
        assert_ne!(old, new);
        assert!(!differs_materially(&old, &new));
        describe(&mut new, &Situation::Running { nodes: 4 }, seen(3));
        assert!(differs_materially(&old, &new));
    }
}
