//! Tables of decisions: what is there, and what the plan then is.

mod any;
mod case;
mod ends;
mod pods;

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

/// The pod of rank 0 of the last attempt, changed.
fn changed(mut case: Case, change: impl FnOnce(&mut PodFacts)) -> Case {
    change(Arc::make_mut(case.observed.pods.last_mut().unwrap()));
    case
}

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
fn a_job_is_called_suspended_only_when_the_cluster_says_so_too() {
    let plan = Case::new(json!({"suspend": true})).plan();
    assert!(matches!(&plan.checks[..], [Check::PodsAreGone { below_attempt: 2, .. }]));
}

#[test]
fn a_large_attempt_is_created_in_parts() {
    let plan = Case::new(json!({"nodes": 300})).plan();
    assert_eq!(plan.actions.iter().filter(|action| action.creates_pod()).count(), 128);
    assert_eq!(plan.wake_at, Some(seconds(0)), "more at once");
    let later = |action: &&Action| matches!(action, Action::Create { object: Body::Later(_), .. });
    assert_eq!(plan.actions.iter().filter(later).count(), 128, "a pod is built when it is sent, one tree at a time");
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
