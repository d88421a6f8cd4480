//! Tables of decisions: what is there, and what the plan then is.

mod any;
mod case;

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::api::conditions::FINISHED;
use crate::api::conditions::{self, READY, STALLED};
use crate::cluster::body::Body;
use crate::cluster::container::{ContainerState, Ended};
use crate::cluster::plan::{Action, Check};
use crate::cluster::pod::{Phase, PodFacts};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::program::Programs;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::names::{self, AddressFamily};
use crate::training::status::{COMPLETE, FAILED, RESULTS_REFUSED, SUSPENDED};
use case::{Case, UID, at, holds, ready, seconds, short};

#[test]
fn a_fresh_job_is_launched_and_its_first_status_waits() {
    let plan = Case::new(json!({})).plan();
    assert_eq!(short(&plan), ["+Pod 0-1"], "one pod needs no names");
    assert!(matches!(&plan.checks[..], [Check::OwnerIsCurrent { resource_version, .. }] if resource_version == "1"));
    assert_eq!(plan.publish, Publish::By(seconds(2)));
    assert_eq!(ready(&plan), "Starting");

    let plan = Case::new(json!({"nodes": 3})).plan();
    assert_eq!(short(&plan), ["+Service", "+Pod 0-1", "+Pod 1-1", "+Pod 2-1"]);
}

#[test]
fn what_was_created_is_not_created_again_before_the_cache_shows_it() {
    let mut case = Case::new(json!({"nodes": 2})).running(0, 1);
    case.memory.writes.note_created(Resource::Pod, &names::pod("j", UID, names::ROLE_WORKER, 1, 1), seconds(0));
    case.memory.writes.note_created(Resource::Service, &names::service("j", UID), seconds(0));
    case.memory.writes.note_created(
        Resource::EndpointSlice,
        &names::endpoint_slice("j", UID, AddressFamily::V4),
        seconds(0),
    );
    assert!(short(&case.plan()).is_empty());
}

#[test]
fn half_an_attempt_is_completed() {
    let case = Case::new(json!({"nodes": 2})).pod(0, 1, Phase::Pending, None).slice(1, 0..1);
    assert_eq!(short(&case.plan()), ["+Pod 1-1"]);
}

#[test]
fn names_are_published_from_rank_0_on_and_in_waves() {
    let mut case = Case::new(json!({"nodes": 3})).running(1, 1).running(2, 1);
    case.memory.writes.note_created(Resource::Pod, &names::pod("j", UID, names::ROLE_WORKER, 0, 1), seconds(0));
    assert_eq!(short(&case.plan()), ["+Service"], "rank 0 has no address yet");
    let mut case = case.running(0, 1);
    assert_eq!(short(&case.plan()), ["+Service", "+EndpointSlice"]);

    case = case.slice(1, 0..2).at(at(400));
    case.memory.slices_written_at = Some(at(0));
    let plan = case.plan();
    assert_eq!((short(&plan).len(), plan.wake_at), (0, Some(at(500))), "the next wave");
    assert_eq!(short(&case.at(at(500)).plan()), ["~EndpointSlice 3"]);
}

#[test]
fn a_running_job_needs_nothing_and_says_so_unless_it_ends_at_once() {
    let mut case = Case::new(json!({"nodes": 2})).running(0, 1).running(1, 1).slice(1, 0..2).at(at(300));
    case.memory.running_since = Some(at(0));
    assert_eq!(case.plan().publish, Publish::By(at(1_000)), "a quick job tells its end alone");
    let plan = case.status(|status| status.observed_generation = Some(1)).plan();
    assert!(short(&plan).is_empty());
    assert_eq!((ready(&plan), plan.publish, holds(&plan, READY)), ("Running", Publish::Now, true));
    assert_eq!(plan.status.launched_attempt, Some(1));
    assert_eq!(plan.status.pods.unwrap().summary, "2/2");
}

#[test]
fn all_ranks_must_end_well() {
    let one = Case::new(json!({"nodes": 2})).ended(0, 1, 0, 5).running(1, 1).slice(1, 0..2).plan();
    assert_eq!((ready(&one), holds(&one, FINISHED)), ("Running", false));
    let both = Case::new(json!({"nodes": 2})).ended(0, 1, 0, 5).ended(1, 1, 0, 6).slice(1, 0..2).plan();
    assert!(holds(&both, FINISHED) && holds(&both, COMPLETE) && holds(&both, READY));
    assert!(short(&both).is_empty(), "the end is on record before anything is tidied up");
}

#[test]
fn a_finished_job_is_tidied_up_and_nothing_else() {
    let about_to_end = Some(ContainerState::Ended(Ended::default()));
    let case = Case::new(json!({"nodes": 3, "podsAfterFinished": "10s"}))
        .sidecar_only(0, 1)
        .ended(1, 1, 0, 6)
        .pod(2, 1, Phase::Running, about_to_end)
        .slice(1, 0..3)
        .at(seconds(7));
    let status = case.plan().status;
    let case = case.status(|old| *old = status);
    let plan = case.plan();
    assert_eq!(short(&plan), ["~EndpointSlice 0", "-Pod 0-1"], "names first, then the pod that goes on");
    assert_eq!(plan.wake_at, Some(seconds(17)));
    let plan = case.at(seconds(17)).plan();
    assert_eq!(plan.actions.len(), 5, "slice, service and all pods: {:?}", short(&plan));

    let mut spent = Case::new(json!({"deleteAfterFinished": "1s"})).status(|status| {
        conditions::set(&mut status.conditions, FINISHED, true, "r", "m", Seen { now: seconds(0), generation: None });
        status.finish_time = Some(Time(seconds(0)));
    });
    assert_eq!((short(&spent.plan()).len(), spent.plan().wake_at), (0, Some(seconds(1))), "no pod is made again");
    spent = spent.at(seconds(1));
    let plan = spent.plan();
    assert_eq!(short(&plan), ["-TrainingJob j"]);
    let bound = |action: &Action| matches!(action, Action::Delete { version, .. } if version.as_deref() == Some("1"));
    assert!(plan.actions.iter().all(bound), "an edit that keeps the job comes first: {:?}", plan.actions);
}

#[test]
fn an_edit_of_a_finished_job_is_observed_by_every_condition_in_one_write() {
    for exit_code in [0, 1] {
        let spec = json!({"failurePolicy": {"maxRestarts": 0}});
        let mut case = Case::new(spec).ended(0, 1, exit_code, 5).at(seconds(9));
        let finished = case.plan().status;
        case = case.status(|old| *old = finished.clone());
        assert_eq!(case.plan().status, finished, "nothing is left to be written");
        case.job.metadata.generation = Some(2);
        let plan = case.plan();
        assert_eq!((plan.status.observed_generation, plan.publish), (Some(2), Publish::Now));
        let of_old = plan.status.conditions.iter().find(|condition| condition.observed_generation != Some(2));
        assert_eq!(of_old, None);
        let expected = TrainingJobStatus { observed_generation: Some(2), conditions: Vec::new(), ..finished.clone() };
        assert_eq!(TrainingJobStatus { conditions: Vec::new(), ..plan.status.clone() }, expected);
        assert_eq!(conditions::gist(&plan.status.conditions), conditions::gist(&finished.conditions));
        case = case.status(|old| *old = plan.status.clone());
        assert_eq!(case.plan().status, plan.status, "one write");
    }
}

#[test]
fn a_failed_rank_raises_the_attempt_in_a_step_of_its_own() {
    let case = Case::new(json!({"nodes": 2})).ended(0, 1, 1, 10).running(1, 1).slice(1, 0..2);
    let settling = case.plan();
    assert_eq!(settling.wake_at, None, "a failure of the future is another clock's: {:?}", settling.status.attempt);
    let case = case.at(seconds(10));
    assert_eq!(case.plan().wake_at, Some(at(11_500)), "the real cause may still be on its way");
    assert_eq!(case.plan().status.attempt, None);
    let plan = case.at(seconds(12)).plan();
    assert!(plan.actions.is_empty());
    assert_eq!((plan.status.attempt, plan.status.restarts), (Some(2), Some(1)));
    assert_eq!(ready(&plan), "Restarting");
    let record = &plan.status.attempts[0];
    assert_eq!((record.attempt, record.rank, record.exit_code), (1, Some(0), Some(1)));
}

#[test]
fn an_older_attempt_leaves_dns_first_and_is_gone_before_the_next_one_starts() {
    let raised = |case: Case| {
        case.status(|status| {
            status.attempt = Some(2);
            status.restarts = Some(1);
        })
    };
    let case = raised(Case::new(json!({"nodes": 2})).ended(0, 1, 1, 10).running(1, 1).slice(1, 0..2));
    assert_eq!(short(&case.plan()), ["~EndpointSlice 0", "-Pod 1-1"]);

    let mut ending = raised(Case::new(json!({"nodes": 2})).ended(0, 1, 1, 10).running(1, 1).slice(1, 0..0));
    Arc::make_mut(&mut ending.observed.pods[1]).delete_asked_at = Some(seconds(11));
    assert!(short(&ending.plan()).is_empty(), "a deletionTimestamp is not gone");

    let about_to_end = Some(ContainerState::Ended(Ended { exit_code: 1, ..Ended::default() }));
    let case = Case::new(json!({"nodes": 2})).ended(0, 1, 1, 10).pod(1, 1, Phase::Running, about_to_end);
    let mut case = raised(case.slice(1, 0..0)).at(seconds(20));
    case.memory.catch_up(&case.observed, 2, case.now);
    let plan = case.plan();
    assert!(short(&plan).is_empty(), "it is waited for, and kept for its log");
    assert_eq!(plan.wake_at, Some(seconds(80)));
    let case = case.at(seconds(80));
    assert_eq!(short(&case.plan()), ["-Pod 1-1"], "its kubelet will never say so");

    let gone = raised(Case::new(json!({"nodes": 2})).ended(0, 1, 1, 10).slice(1, 0..0));
    let plan = gone.plan();
    assert_eq!(short(&plan), ["+Pod 0-2", "+Pod 1-2"], "the ended pod stays for its log");
    assert!(matches!(&plan.checks[1], Check::NamesAreCleared { attempt: 2, .. }));
    assert!(matches!(&plan.checks[2], Check::PodsAreGone { below_attempt: 2, .. }));
}

#[test]
fn restarts_wait_and_run_out() {
    let spec = json!({"failurePolicy": {"maxRestarts": 1, "backoff": {"initial": "30s"}}});
    let case = Case::new(spec).ended(0, 1, 3, 10).at(seconds(20)).then();
    let plan = case.plan();
    assert!(short(&plan).is_empty());
    assert_eq!(plan.wake_at, Some(seconds(40)), "counted from the failure");
    let case = case.at(seconds(40));
    assert_eq!(short(&case.plan()), ["+Pod 0-2"]);
    let plan = case.ended(0, 2, 3, 50).at(seconds(60)).plan();
    assert!(holds(&plan, FAILED) && holds(&plan, FINISHED) && holds(&plan, STALLED));
    assert_eq!(plan.status.attempts.len(), 2);
    assert!(plan.status.message.unwrap().contains("exit code 3; 1 of 1 restarts used"));
}

#[test]
fn a_pod_that_was_there_and_is_gone_is_lost_once_the_cluster_says_so_too() {
    let launched = |attempt| {
        Case::new(json!({"nodes": 2})).running(0, 1).slice(1, 0..1).status(move |s| s.launched_attempt = Some(attempt))
    };
    let plan = launched(1).plan();
    let expected = names::pod("j", UID, names::ROLE_WORKER, 1, 1);
    assert!(matches!(&plan.checks[..], [Check::PodsAreGone { absent, .. }] if absent == &[expected]));
    assert_eq!((plan.status.attempt, plan.status.attempts[0].rank), (Some(2), Some(1)));
    assert_eq!(short(&launched(0).plan()), ["+Pod 1-1"], "not all were there yet");
}

#[test]
fn time_runs_out_for_jobs_that_are_not_finished() {
    let mut case = Case::new(json!({"activeDeadline": "60s"})).running(0, 1).at(seconds(60));
    case.memory.launched_at = Some(seconds(1));
    assert_eq!(case.plan().wake_at, Some(seconds(61)), "counted from the first pod");
    let plan = case.at(seconds(61)).plan();
    assert_eq!(conditions::find(&plan.status.conditions, FAILED).unwrap().reason, "DeadlineExceeded");
    let ended = Case::new(json!({"activeDeadline": "60s"})).ended(0, 1, 0, 59).at(seconds(99));
    let ended = ended.status(|status| status.start_time = Some(Time(seconds(1)))).plan();
    assert!(holds(&ended, COMPLETE), "it was finished in time, we only saw it late");
}

#[test]
fn suspending_leaves_the_attempt_behind_and_costs_no_restart() {
    let case = Case::new(json!({"suspend": true})).running(0, 1);
    let plan = case.plan();
    assert!(plan.actions.is_empty());
    assert_eq!((plan.status.attempt, plan.status.restarts, ready(&plan)), (Some(2), Some(0), "Suspending"));
    let mut case = case.then().running(0, 1);
    assert_eq!(short(&case.plan()), ["-Pod 0-1"]);
    case.observed.pods.clear();
    let plan = case.plan();
    assert!(holds(&plan, SUSPENDED) && holds(&plan, READY) && plan.actions.is_empty());
    let mut case = case.then();
    case.job.spec.suspend = Some(false);
    let plan = case.plan();
    assert_eq!(short(&plan), ["+Pod 0-2"]);
    assert!(!holds(&plan, SUSPENDED));
}

#[test]
fn an_edit_while_suspended_starts_all_pods_again() {
    let mut case = Case::new(json!({})).running(0, 1);
    case.job.spec.nodes = Some(2);
    let plan = case.plan();
    assert_eq!((plan.status.attempt, plan.status.restarts, ready(&plan)), (Some(2), Some(0), "Restarting"));
}

#[test]
fn a_hash_that_is_stripped_or_of_another_release_is_no_edit() {
    for kept in ["", "5jhxpgtgb2", "v2:rbgxprjftibqmjzj"] {
        let mut case = Case::new(json!({})).running(0, 1);
        Arc::make_mut(&mut case.observed.pods[0]).launch_hash = kept.to_owned();
        let plan = case.plan();
        assert_eq!((plan.status.attempt, ready(&plan), short(&plan).len()), (Some(1), "Running", 0), "{kept:?}");
    }
}

/// A pod under the name of a child, made by somebody else.
fn forged(case: Case, rank: u32, attempt: u32, exit_code: i32) -> Case {
    let mut case = case.ended(rank, attempt, exit_code, 5);
    let forged = Arc::make_mut(case.observed.pods.last_mut().unwrap());
    forged.programs = Programs::of_spec(&json!({"containers": [{"name": "c", "image": "forged"}]}));
    case
}

#[test]
fn a_pod_of_an_attempt_that_is_not_on_record_counts_for_nothing() {
    for (attempt, exit_code) in [(2, 0), (2, 1), (9_999, 0), (u32::MAX, 1)] {
        // Even what looks just like ours.
        let case = Case::new(json!({})).running(0, 1).ended(0, attempt, exit_code, 5);
        let plan = case.plan();
        assert_eq!((plan.status.attempt, ready(&plan), short(&plan).len()), (Some(1), "Running", 0), "{attempt}");
        assert_eq!((&plan.status.results, plan.status.restarts), (&None, Some(0)));
    }
    let plan = Case::new(json!({"nodes": 2})).running(0, 1).running(0, 2).slice(1, 0..1).plan();
    assert_eq!(short(&plan), ["+Pod 1-1"]);
    assert_eq!(plan.checks.len(), 1, "our copy of the job may be an old one: {:?}", plan.checks);
    let case = Case::new(json!({"nodes": 2})).running(0, 1).running(1, 1).running(0, 2).slice(1, 0..1);
    let plan = case.plan();
    assert_eq!(short(&plan), ["~EndpointSlice 2"]);
    assert!(matches!(plan.checks[..], [Check::OwnerIsCurrent { .. }]), "{:?}", plan.checks);
}

#[test]
fn a_pod_of_the_attempt_in_force_that_runs_something_else_is_removed() {
    let raised = |case: Case| case.status(|status| status.attempt = Some(2));
    for exit_code in [0, 1] {
        let mut case = forged(raised(Case::new(json!({}))), 0, 2, exit_code);
        let plan = case.plan();
        assert_eq!((plan.status.attempt, ready(&plan)), (Some(2), "Waiting"));
        assert!(plan.status.message.as_ref().unwrap().contains("was not made by the operator"), "{plan:?}");
        assert_eq!(short(&plan), ["-Pod 0-2"]);
        assert!(matches!(plan.checks[..], [Check::OwnerIsCurrent { .. }]));
        Arc::make_mut(&mut case.observed.pods[0]).delete_asked_at = Some(seconds(0));
        assert_eq!(short(&case.plan()), [""; 0], "its name is not free yet");
        case.memory.catch_up(&case.observed, 2, seconds(0));
        case.observed.pods.clear();
        assert_eq!(short(&case.plan()), ["+Pod 0-2"], "it was none of ours, so none of ours is lost");
    }

    // What this process has created is ours, whatever a webhook has made of it; and so is all of an attempt that was launched.
    let mut case = forged(Case::new(json!({})), 0, 1, 0);
    case.memory.writes.note_created(Resource::Pod, &names::pod("j", UID, names::ROLE_WORKER, 0, 1), seconds(0));
    case.memory.catch_up(&case.observed, 1, seconds(0));
    assert!(holds(&case.plan(), COMPLETE));
    let launched = forged(Case::new(json!({})), 0, 1, 0).status(|status| status.launched_attempt = Some(1));
    assert!(holds(&launched.plan(), COMPLETE));

    // A rank that the job does not have.
    let plan = forged(Case::new(json!({})).running(0, 1), 7, 1, 1).plan();
    assert_eq!((ready(&plan), short(&plan)), ("Running", vec!["-Pod 7-1".to_owned()]));

    let suspended = forged(Case::new(json!({"suspend": true})), 0, 1, 0).plan();
    assert_eq!((ready(&suspended), short(&suspended)), ("Suspending", vec!["-Pod 0-1".to_owned()]));
}

#[test]
fn what_was_refused_is_not_asked_for_again_at_once() {
    let mut case = Case::new(json!({}));
    case.memory.writes.refusal = Some(Refusal {
        id: ObjectId::new(Resource::Pod, "ns", "n"),
        kind: RefusalKind::Content,
        message: "no such field".into(),
        until: seconds(300),
        generation: Some(1),
    });
    let plan = case.plan();
    assert!(short(&plan).is_empty() && holds(&plan, STALLED));
    assert_eq!(plan.wake_at, Some(seconds(300)));
    assert!(plan.status.message.unwrap().contains("no such field"));
    case.job.metadata.generation = Some(2);
    assert_eq!(short(&case.plan()), ["+Pod 0-1"], "an edited job is tried at once");
}

#[test]
fn bad_specs_and_jobs_on_their_way_out_are_left_alone() {
    let invalid = Case::new(json!({"nodes": 0})).plan();
    assert!(invalid.actions.is_empty() && holds(&invalid, STALLED));
    assert!(invalid.status.message.unwrap().starts_with("spec.nodes: 0: "));
    let mut leaving = Case::new(json!({}));
    leaving.job.metadata.deletion_timestamp = Some(Time(seconds(0)));
    let plan = leaving.plan();
    assert!(plan.actions.is_empty() && Some(plan.status) == leaving.job.status);
}

#[test]
fn progress_is_written_at_intervals() {
    let mut case = Case::new(json!({"nodes": 2})).pod(0, 1, Phase::Pending, None).pod(1, 1, Phase::Pending, None);
    case = case.slice(1, 0..2);
    let status = case.plan().status;
    case = case.status(|old| *old = status);
    case.memory.writes.published_at = Some(seconds(3));
    case.observed.pods.remove(0);
    let plan = case.running(0, 1).at(seconds(4)).plan();
    assert_eq!(plan.status.message.as_deref(), Some("1 of 2 pods have started"));
    assert_eq!(plan.publish, Publish::By(seconds(3) + SignedDuration::from_secs(5)));
}

#[test]
fn a_busy_controller_writes_the_way_to_running_later_and_ends_at_once() {
    let extra = SignedDuration::from_secs(20);
    let mut case = Case::new(json!({})).pod(0, 1, Phase::Pending, None);
    case.memory.writes.extra_wait = extra;
    assert_eq!(case.plan().publish, Publish::By(seconds(2) + extra), "starting");
    case = Case::new(json!({})).running(0, 1);
    case.memory.writes.extra_wait = extra;
    assert_eq!(case.plan().publish, Publish::By(seconds(1) + extra), "running, and nothing was written yet");

    let starting = Case::new(json!({})).pod(0, 1, Phase::Pending, None).plan().status;
    case = case.status(|old| *old = starting);
    case.memory.writes.published_at = Some(seconds(0));
    let progress = Publish::By(seconds(5) + extra);
    assert_eq!((ready(&case.plan()), case.plan().publish), ("Running", progress));
    case.memory.writes.extra_wait = SignedDuration::ZERO;
    assert_eq!(case.plan().publish, Publish::Now, "an idle one says it at once");

    for (what, exit_code, state) in [("an end", 0, "Succeeded"), ("a failure", 1, "Failed")] {
        let mut ended = Case::new(json!({"failurePolicy": {"maxRestarts": 0}})).ended(0, 1, exit_code, 0);
        ended.memory.writes.extra_wait = extra;
        let plan = ended.at(seconds(9)).plan();
        assert_eq!((ready(&plan), plan.publish), (state, Publish::Now), "{what}");
    }
    let mut edited = case.status(|_| ());
    edited.memory.writes.extra_wait = extra;
    edited.job.metadata.generation = edited.job.metadata.generation.map(|generation| generation + 1);
    assert_eq!(edited.plan().publish, Publish::Now, "a change of the spec is acknowledged");
}

#[test]
fn a_rank_that_ended_well_is_not_forgotten_with_its_pod() {
    let mut case = Case::new(json!({"nodes": 2})).ended(0, 1, 0, 5).running(1, 1).slice(1, 0..2);
    let status = case.plan().status;
    assert_eq!(status.succeeded_ranks.as_deref(), Some("0"));
    case = case.status(|old| *old = status);
    case.observed.pods.remove(0);
    let plan = case.plan();
    assert_eq!(
        (ready(&plan), plan.status.attempt, plan.status.pods.as_ref().unwrap().succeeded),
        ("Running", Some(1), 1)
    );
    case.observed.pods.clear();
    assert!(holds(&case.ended(1, 1, 0, 9).plan(), COMPLETE), "both have ended, each in its time");
}

#[test]
fn an_end_that_was_seen_stays_one_whatever_a_later_deletion_says() {
    let mut case = Case::new(json!({"nodes": 2})).ended(0, 1, 0, 5).running(1, 1).slice(1, 0..2);
    case.memory.succeeded = Some((1, "0".into()));
    Arc::make_mut(&mut case.observed.pods[0]).delete_asked_at = Some(seconds(4));
    assert_eq!(case.plan().status.attempt, Some(1));
}

#[test]
fn a_deadline_starts_anew_after_a_suspension_that_met_no_pods() {
    let spec = json!({"activeDeadline": "1h", "suspend": true});
    let mut case = Case::new(spec).at(seconds(10)).status(|status| {
        status.attempt = Some(2);
        status.start_time = Some(Time(seconds(1)));
    });
    case = case.then();
    assert_eq!(case.job.status.as_ref().unwrap().start_time, None);
    case.job.spec.suspend = Some(false);
    assert_eq!(short(&case.at(seconds(9_999)).plan()), ["+Pod 0-2"]);
}

#[test]
fn a_job_is_called_suspended_only_when_the_cluster_says_so_too() {
    let plan = Case::new(json!({"suspend": true})).plan();
    assert!(matches!(&plan.checks[..], [Check::PodsAreGone { below_attempt: 2, .. }]));
}

#[test]
fn what_no_cache_ever_shows_is_doubted_in_the_end() {
    let mut case = Case::new(json!({})).at(seconds(5));
    case.memory.writes.note_created(Resource::Pod, &names::pod("j", UID, names::ROLE_WORKER, 0, 1), seconds(1));
    assert_eq!(case.plan().wake_at, Some(seconds(31)));
}

#[test]
fn a_deadline_is_kept_while_old_pods_end() {
    let case = Case::new(json!({"activeDeadline": "60s"})).running(0, 1).at(seconds(9)).status(|status| {
        status.attempt = Some(2);
        status.start_time = Some(Time(seconds(1)));
    });
    assert_eq!(case.plan().wake_at, Some(seconds(61)));
}

#[test]
fn a_large_attempt_is_created_in_parts() {
    let plan = Case::new(json!({"nodes": 300})).plan();
    assert_eq!(plan.actions.iter().filter(|action| action.creates_pod()).count(), 128);
    assert_eq!(plan.wake_at, Some(seconds(0)), "more at once");
    let later = |action: &&Action| matches!(action, Action::Create { object: Body::Later(_), .. });
    assert_eq!(plan.actions.iter().filter(later).count(), 128, "a pod is built when it is sent, one tree at a time");
}

/// The pod of rank 0 of the last attempt, changed.
fn changed(mut case: Case, change: impl FnOnce(&mut PodFacts)) -> Case {
    change(Arc::make_mut(case.observed.pods.last_mut().unwrap()));
    case
}

#[test]
fn a_pod_over_its_own_deadline_has_not_succeeded() {
    let ended = |exit_code| {
        let state = Ended {
            exit_code,
            message: Some(r#"{"epoch": 3}"#.into()),
            finished_at: Some(Time(seconds(8))),
            ..Ended::default()
        };
        let case = Case::new(json!({"failurePolicy": {"maxRestarts": 0}})).at(seconds(9));
        let case = case.pod(0, 1, Phase::Running, Some(ContainerState::Ended(state)));
        changed(case, |pod| pod.own_deadline = Some(seconds(8)))
    };
    for exit_code in [0, 137] {
        let case = ended(exit_code);
        let plan = case.plan();
        assert!(!holds(&plan, FINISHED) && plan.status.results.is_none(), "the kubelet has not said why: {exit_code}");
        let case = changed(case, |pod| {
            pod.phase = Phase::Failed;
            pod.reason = Some("DeadlineExceeded".into());
            pod.message = Some("Pod was active on the node longer than the specified deadline".into());
        });
        let plan = case.plan();
        assert!(holds(&plan, FAILED), "{exit_code}");
        assert_eq!((plan.status.attempts[0].cause, plan.status.results), (crate::api::Cause::LimitExceeded, None));
        let message = plan.status.message.unwrap();
        assert!(message.contains("Pod was active on the node longer than the specified deadline"), "{message}");
    }
}

#[test]
fn what_a_killed_rank_died_of_is_waited_for() {
    let killed = Ended { exit_code: 137, finished_at: Some(Time(seconds(5))), ..Ended::default() };
    let mut case = Case::new(json!({"nodes": 2})).pod(0, 1, Phase::Running, Some(ContainerState::Ended(killed)));
    case = case.ended(1, 1, 1, 6).slice(1, 0..2).at(seconds(8));
    case.observed.pods.rotate_left(1);
    case.memory.catch_up(&case.observed, 1, seconds(8));
    let plan = case.plan();
    assert_eq!((plan.status.attempts.len(), plan.wake_at), (0, Some(seconds(68))), "its peer's exit code 1 is an echo");
    let case = changed(case, |pod| {
        pod.phase = Phase::Failed;
        pod.reason = Some("Evicted".into());
        pod.message = Some("Usage of EmptyDir volume \"scratch\" exceeds the limit \"16Mi\". ".into());
    });
    let message = &case.plan().status.attempts[0].message;
    assert!(message.contains("Usage of EmptyDir volume \"scratch\" exceeds the limit \"16Mi\""), "{message}");
}

#[test]
fn results_are_kept_or_named() {
    let reports = |message: &str, containers| {
        let state = Ended { message: Some(message.into()), finished_at: Some(Time(seconds(5))), ..Ended::default() };
        let case = Case::new(json!({})).pod(0, 1, Phase::Succeeded, Some(ContainerState::Ended(state)));
        changed(case, |pod| pod.container_count = containers).plan()
    };
    let long = format!(r#"{{"losses": "{}"#, "x".repeat(3_100));
    let cases = [
        (
            reports(r#"{"loss": 0.5, "zero": -0.0}"#, 1),
            None,
            Some(json!({"loss": 0.5, "zero": 0})),
            "all ranks ended well",
        ),
        (
            reports(r#"{"loss": NaN, "epochs": 3}"#, 1),
            Some("KeysLeftOut"),
            Some(json!({"epochs": 3})),
            "loss: NaN is not a number",
        ),
        (reports(&long[..3_072], 4), Some("Truncated"), None, "was cut off at 3072 bytes"),
        (reports(&long[..3_072], 3), Some("NotAnObject"), None, "is not one JSON object"),
    ];
    for (plan, refused, results, words) in cases {
        let condition = conditions::find(&plan.status.conditions, RESULTS_REFUSED);
        assert_eq!(condition.map(|condition| condition.reason.as_str()), refused, "{words}");
        assert_eq!(plan.status.results.clone().map(|results| json!(results)), results);
        assert!(
            holds(&plan, COMPLETE) && plan.status.message.as_ref().unwrap().contains(words),
            "{:?}",
            plan.status.message
        );
    }
}

#[test]
fn what_holds_a_pod_up_is_named() {
    let gated = changed(Case::new(json!({})).pod(0, 1, Phase::Pending, None), |pod| {
        pod.gates = vec!["example.com/queue".into()];
    });
    let plan = gated.plan();
    assert_eq!((ready(&plan), holds(&plan, STALLED)), ("Waiting", false));
    assert_eq!(plan.status.message.as_deref(), Some("1 of 1 pods held by scheduling gate example.com/queue"));

    for (kind, state) in [(RefusalKind::Awaited, "Waiting"), (RefusalKind::Overdue, "Refused")] {
        let mut case = Case::new(json!({}));
        case.memory.writes.refusal = Some(Refusal {
            id: ObjectId::new(Resource::Pod, "ns", "n"),
            kind,
            message: "serviceaccount \"trainer\" not found".into(),
            until: seconds(2),
            generation: Some(1),
        });
        let plan = case.plan();
        assert_eq!((ready(&plan), holds(&plan, STALLED), plan.wake_at), (state, state == "Refused", Some(seconds(2))));
        assert!(plan.status.message.unwrap().contains("serviceaccount \"trainer\" not found: create it"));
        assert_eq!(short(&case.plan()).len(), 0, "it is not asked for before its time");
    }
}

#[test]
fn an_ended_pod_that_holds_claims_goes_before_the_next_attempt() {
    let older = |has_claims| {
        let case = changed(Case::new(json!({})).ended(0, 1, 1, 5), |pod| pod.has_claims = has_claims);
        case.status(|status| status.attempt = Some(2)).plan()
    };
    assert_eq!(short(&older(true)), ["-Pod 0-1"]);
    assert_eq!(short(&older(false)), ["+Pod 0-2"], "it is kept for its log");
}
