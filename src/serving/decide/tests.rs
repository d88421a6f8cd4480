//! Tables of decisions: what is there, and what the plan then is.

mod any;
mod case;
mod forged;
mod steady;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::api::RolloutStatus;
use crate::api::conditions::{STALLED, find, holds};
use crate::cluster::container::{ContainerState, Ended};
use crate::cluster::plan::{Action, Check};
use crate::cluster::port::{ObjectId, Resource};
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::names;
use crate::serving::observe::ClaimFacts;
use crate::serving::status::{AVAILABLE, CLAIM_NOT_SHAREABLE};
use case::{Case, UID, seconds, short, state};

fn serving() -> Case {
    Case::new("a:1", json!({})).revision(1, "a:1", 2, 2).with_route().stable(1)
}

/// A rollout of revision 2 that last came further at second 0.
fn rolling(failed: Option<&str>) -> RolloutStatus {
    let (start_time, progress_time) = (Time(seconds(0)), Time(seconds(0)));
    let failed = failed.map(str::to_owned);
    RolloutStatus { revision: 2, start_time, progress_time, progress: 9, counting: Some(2), failed }
}

#[test]
fn a_fresh_deployment_gets_all_it_needs_at_once() {
    let plan = Case::new("a:1", json!({})).decide();
    assert_eq!(short(&plan), "+record1 +pods1:2 +route +budget");
    assert!(matches!(plan.checks[0], Check::OwnerIsCurrent { .. }));
    assert!(matches!(&plan.checks[1], Check::RevisionIsNew { number: 1, .. }));
    assert_eq!((state(&plan), plan.status.revision, plan.status.latest_revision), ("Starting", Some(1), Some(1)));
    assert_eq!(short(&Case::new("a:1", json!({"replicas": 1})).decide()), "+record1 +pods1:1 +route");
    let no_budget = json!({"disruptionBudget": {"maxUnavailable": "100%"}});
    assert_eq!(short(&Case::new("a:1", no_budget).decide()), "+record1 +pods1:2 +route");
}

#[test]
fn what_serves_needs_nothing() {
    let plan = serving().decide();
    assert_eq!((short(&plan).as_str(), state(&plan), plan.wake_at), ("", "Serving", None));
    assert!(holds(&plan.status.conditions, AVAILABLE));
    assert_eq!(plan.status.url.as_deref(), Some("http://d.ns.svc"));
    let mut again = serving();
    again.deployment.status = Some(plan.status.clone());
    assert_eq!(again.decide().status, plan.status);
}

#[test]
fn revisions_follow_each_other() {
    let changed = |pods: &[(i64, &str, i32, i32)]| {
        let case = pods.iter().fold(Case::new("a:2", json!({})), |case, &(number, image, wanted, available)| {
            case.revision(number, image, wanted, available)
        });
        case.with_route().stable(1)
    };
    let cases = [
        ("a new one", changed(&[(1, "a:1", 2, 2)]), "+record2 +pods2:1", "RollingOut"),
        ("on its way", changed(&[(1, "a:1", 2, 2), (2, "a:2", 1, 0)]), "", "RollingOut"),
        ("one serves", changed(&[(1, "a:1", 2, 2), (2, "a:2", 1, 1)]), "=pods1:1 =pods2:2", "RollingOut"),
        ("all serve", changed(&[(1, "a:1", 1, 1), (2, "a:2", 2, 2)]), "=pods1:0", "RollingOut"),
        ("done", changed(&[(1, "a:1", 0, 0), (2, "a:2", 2, 2)]), "", "Serving"),
        (
            "an earlier one is reused",
            changed(&[(1, "a:2", 0, 0), (2, "a:3", 2, 2)]).stable(2),
            "=pods1:1",
            "RollingOut",
        ),
        (
            "a third waits for the first",
            changed(&[(1, "a:1", 1, 1), (2, "a:0", 2, 1)]),
            "=pods2:1 +record3 =pods1:2",
            "RollingOut",
        ),
        ("a third begins", changed(&[(1, "a:1", 2, 2), (2, "a:0", 0, 0)]), "+record3 +pods3:1", "RollingOut"),
    ];
    for (what, case, expected, expected_state) in cases {
        let plan = case.decide();
        assert_eq!((short(&plan).as_str(), state(&plan)), (expected, expected_state), "{what}");
    }
    let done = changed(&[(1, "a:1", 0, 0), (2, "a:2", 2, 2)]).decide();
    assert_eq!((done.status.stable_revision, done.status.rollout), (Some(2), None));
}

#[test]
fn a_number_is_never_given_twice_and_none_is_left_out() {
    // The record was refused: the number is still to be given.
    let mut refused = Case::new("a:1", json!({}));
    let refusal = refusal(RefusalKind::Content, Resource::ControllerRevision, &names::revision("d", UID, 1));
    refused.memory.refused.insert(refusal.id.clone(), refusal);
    refused.deployment.status = Some(refused.decide().status);
    refused.memory.refused.clear();
    assert_eq!(short(&refused.decide()), "+record1 +pods1:2 +route +budget");
    let case = serving().status(|status| status.latest_revision = Some(7));
    let mut case = Case { deployment: Case::new("a:9", json!({})).deployment, ..case };
    case.deployment.status = Some(ModelDeploymentStatus { latest_revision: Some(7), ..serving().decide().status });
    assert_eq!(short(&case.decide()), "+record8 +pods8:1");
}

#[test]
fn undo_leads_to_a_revision_that_is_kept() {
    let undo = |number: i64| Case::new("a:2", json!({"rollout": {"undoTo": number}}));
    let kept = |case: Case| case.revision(1, "a:1", 0, 0).revision(2, "a:2", 2, 2).with_route().stable(2);
    assert_eq!(short(&kept(undo(1)).decide()), "=pods1:1");
    let plan = kept(undo(7)).decide();
    assert_eq!((short(&plan).as_str(), state(&plan)), ("", "Invalid"));
    let remedy = "spec.rollout.undoTo: 7: it is not kept: use 1, or remove undoTo";
    assert_eq!(plan.status.message.as_deref(), Some(remedy), "2 is what serves");
}

#[test]
fn a_revision_that_comes_no_further_is_given_up() {
    let crashed = Ended { exit_code: 3, message: Some("ValueError: x".into()), ..Ended::default() };
    let backing_off = ContainerState::Waiting("CrashLoopBackOff".into(), String::new());
    let stuck = || {
        let case = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 0);
        let case = case.pod(2, backing_off.clone(), Some(crashed.clone()));
        case.with_route().stable(1).status(|status| status.rollout = Some(rolling(None)))
    };
    let before = stuck().at(seconds(599)).decide();
    assert_eq!((state(&before), before.wake_at), ("Crashing", Some(seconds(600))));
    assert!(!holds(&before.status.conditions, STALLED));

    let given_up = stuck().at(seconds(600)).decide();
    assert_eq!((short(&given_up).as_str(), state(&given_up)), ("", "RolloutFailed"), "first it is put on record");
    assert!(holds(&given_up.status.conditions, STALLED) && holds(&given_up.status.conditions, AVAILABLE));
    let message = given_up.status.message.clone().unwrap();
    assert!(message.contains("exit code 3: ValueError: x; revision 1 serves with 2 of 2 pods"), "{message}");

    let mut recorded = stuck().at(seconds(601));
    recorded.deployment.status = Some(given_up.status);
    let restored = recorded.decide();
    assert_eq!((short(&restored).as_str(), state(&restored)), ("=pods2:0", "RolloutFailed"));
    assert_eq!(restored.status.failure.unwrap().exit_code, Some(3));
}

#[test]
fn asleep_nothing_is_proven_and_nothing_forgiven() {
    let asleep = |failed: Option<&str>| {
        let case = Case::new("a:2", json!({"replicas": 0})).revision(1, "a:1", 0, 0).revision(2, "a:2", 0, 0);
        let mut case = case.with_route().stable(1).status(|status| status.rollout = Some(rolling(failed)));
        case.observed.budget = None;
        case.decide()
    };
    let untried = asleep(None);
    assert_eq!(
        (state(&untried), untried.status.stable_revision, &untried.status.rollout),
        ("ScaledToZero", Some(1), &None)
    );
    let given_up = asleep(Some("why"));
    assert_eq!((state(&given_up), given_up.status.stable_revision), ("ScaledToZero", Some(1)));
    assert!(given_up.status.rollout.is_some_and(|rollout| rollout.failed.is_some()));
}

#[test]
fn a_stable_revision_that_does_not_come_back_is_no_obstacle() {
    let case = Case::new("a:3", json!({})).revision(1, "a:1", 1, 0).revision(2, "a:2", 2, 2).record(3, "a:3");
    let rollout = RolloutStatus { revision: 3, counting: Some(1), ..rolling(None) };
    let mut case = case.with_route().stable(1).status(|status| status.rollout = Some(rollout)).at(seconds(600));
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), plan.status.stable_revision), ("", None), "first it is put on record");
    case.deployment.status = Some(plan.status);
    assert_eq!(short(&case.decide()), "=pods1:0 +pods3:1");
}

#[test]
fn pods_that_are_going_are_not_taken_for_pods_that_stay() {
    let mut case = Case::new("a:1", json!({})).revision(1, "a:1", 0, 0).revision(2, "a:2", 2, 2).with_route().stable(2);
    std::sync::Arc::make_mut(&mut case.observed.deployments[0]).settled = false;
    assert_eq!(short(&case.decide()), "");
}

#[test]
fn an_undone_revision_is_what_its_record_says() {
    let mut case = Case::new("a:9", json!({"rollout": {"undoTo": 1}})).revision(1, "a:1", 2, 2).with_route().stable(1);
    case.observed.deployments.clear();
    let plan = case.decide();
    let image = plan.actions.iter().find_map(|action| match action {
        crate::cluster::plan::Action::Create { object, .. } => {
            object.object()["spec"]["template"]["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
        }
        _ => None,
    });
    assert_eq!((short(&plan).as_str(), image.as_deref()), ("+pods1:2", Some("a:1")));
}

#[test]
fn a_first_revision_is_never_given_up() {
    let case = Case::new("a:1", json!({})).revision(1, "a:1", 2, 0).with_route();
    let rollout = RolloutStatus { revision: 1, counting: Some(1), ..rolling(None) };
    let case = case.status(|status| status.rollout = Some(rollout)).at(seconds(9_999));
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), state(&plan)), ("", "Starting"));
    assert!(holds(&plan.status.conditions, STALLED) && !holds(&plan.status.conditions, AVAILABLE));
    assert!(plan.status.message.unwrap().ends_with("no progress for 10m (progressDeadline)"));
}

#[test]
fn what_was_given_up_is_tried_again_only_as_another_revision() {
    let given_up = |image: &str| {
        let case = Case::new(image, json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 0, 0).with_route();
        case.stable(1).status(|status| status.rollout = Some(rolling(Some("why"))))
    };
    let still = given_up("a:2").decide();
    assert_eq!((short(&still).as_str(), state(&still)), ("", "RolloutFailed"));
    let fixed = given_up("a:3").decide();
    assert_eq!((short(&fixed).as_str(), state(&fixed)), ("+record3 +pods3:1", "RollingOut"));
    let back = given_up("a:1").decide();
    assert_eq!((short(&back).as_str(), state(&back)), ("", "Serving"));
}

#[test]
fn nothing_moves_before_the_caches_show_the_last_move() {
    let mut case = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 1).with_route().stable(1);
    let plan = case.decide();
    case.memory.writes.note(&plan.actions, seconds(0));
    assert_eq!(short(&case.decide()), "");
    let mut case = Case::new("a:2", json!({})).revision(1, "a:1", 3, 3).with_route().stable(1);
    case.memory.writes.note_created(Resource::ControllerRevision, &names::revision("d", UID, 2), seconds(0));
    case.memory.writes.note_created(Resource::Deployment, &names::revision("d", UID, 2), seconds(0));
    assert_eq!(short(&case.decide()), "");
}

#[test]
fn a_number_that_was_just_given_is_not_taken_for_what_the_spec_says_now() {
    let mut case = Case::new("a:3", json!({})).revision(1, "a:1", 2, 2).with_route().stable(1);
    case.memory.writes.note_created(Resource::ControllerRevision, &names::revision("d", UID, 2), seconds(0));
    assert_eq!(short(&case.decide()), "", "revision 2 may be of a:2");
}

#[test]
fn scaling_is_followed() {
    let scaled = |replicas: i32| {
        let case = Case::new("a:1", json!({"replicas": replicas})).revision(1, "a:1", 2, 2);
        case.with_route().stable(1)
    };
    assert_eq!(short(&scaled(5).decide()), "=pods1:5");
    assert_eq!(short(&scaled(1).decide()), "=pods1:1 -budget");
    assert_eq!(short(&scaled(0).decide()), "=pods1:0 -budget");
    let zero = Case::new("a:1", json!({"replicas": 0})).revision(1, "a:1", 0, 0).with_route().stable(1);
    assert_eq!(state(&zero.decide()), "ScaledToZero");
}

#[test]
fn what_was_changed_or_deleted_by_hand_is_mended() {
    let mut case = serving().status(|status| status.latest_revision = Some(1));
    case.observed.route = None;
    case.observed.budget = None;
    assert_eq!(short(&case.decide()), "+route +budget");
    case.observed.revisions.clear();
    assert_eq!(short(&case.decide()), "+record1 +route +budget");
    case.observed.deployments.clear();
    // Nothing tells any more which number it had.
    assert_eq!(short(&case.decide()), "+record2 +pods2:2 +route +budget");
    let ported = Case::new("a:1", json!({"disruptionBudget": {"maxUnavailable": "50%"}}));
    let mut ported = ported.revision(1, "a:1", 2, 2).with_route().stable(1);
    std::sync::Arc::make_mut(ported.observed.route.as_mut().unwrap()).ports.clear();
    assert_eq!(short(&ported.decide()), "=route =budget");
}

#[test]
fn only_so_many_unused_revisions_are_kept() {
    let case = |limit: i32| {
        let case = Case::new("a:4", json!({"revisionHistoryLimit": limit})).revision(1, "a:1", 0, 0);
        let case = case.revision(2, "a:2", 0, 0).record(3, "a:3").revision(4, "a:4", 2, 2);
        case.with_route().stable(4)
    };
    assert_eq!(short(&case(2).decide()), "-pods1 -record1");
    assert_eq!(short(&case(0).decide()), "-pods1 -record1 -pods2 -record2 -record3");
    let on_its_way = Case::new("a:5", json!({"revisionHistoryLimit": 0})).revision(1, "a:1", 0, 0);
    let on_its_way = on_its_way.revision(4, "a:4", 2, 2).revision(5, "a:5", 1, 0).with_route().stable(4);
    assert_eq!(short(&on_its_way.decide()), "-pods1 -record1", "the stable one is in use");
    let mut with_pods_by_now = case(2);
    let id = ObjectId::new(Resource::Deployment, "ns", &names::revision("d", UID, 1));
    let object = json!({"metadata": {"resourceVersion": "5"}});
    with_pods_by_now.memory.writes.note(&[Action::Apply { id, object }], seconds(0));
    assert_eq!(short(&with_pods_by_now.decide()), "", "the cache shows it as it was before it got pods");
}

#[test]
fn what_was_refused_is_not_asked_for_again_at_once() {
    let kinds =
        [(RefusalKind::Content, "Refused"), (RefusalKind::Foreign, "NameTaken"), (RefusalKind::Leftover, "Starting")];
    for (kind, expected) in kinds {
        let mut case = Case::new("a:1", json!({}));
        case.memory.writes.refusal = Some(refusal(kind, Resource::ControllerRevision, &names::revision("d", UID, 1)));
        let plan = case.decide();
        assert_eq!((short(&plan).as_str(), state(&plan), plan.wake_at.is_some()), ("+route +budget", expected, true));
    }
}

fn refusal(kind: RefusalKind, resource: Resource, name: &str) -> Refusal {
    let id = ObjectId::new(resource, "ns", name);
    Refusal { kind, id, message: "no".into(), until: seconds(60), generation: Some(1) }
}

#[test]
fn a_claim_that_is_missing_or_cannot_be_shared_is_told() {
    let claim = |exists: bool, mode: &str| ClaimFacts {
        name: "models".into(),
        exists,
        access_modes: vec![mode.to_owned()],
        read_at: seconds(0),
    };
    let model = json!({"model": {"uri": "pvc://models/1"}});
    let mut case = Case::new("a:1", model);
    case.memory.claim = Some(claim(false, ""));
    let missing = case.decide();
    assert_eq!((state(&missing), missing.wake_at), ("ClaimNotFound", Some(seconds(15))));
    assert!(
        missing
            .status
            .message
            .unwrap()
            .starts_with("spec.model.uri: pvc://models/1: there is no PersistentVolumeClaim models")
    );
    for (mode, warned) in [("ReadWriteOnce", true), ("ReadWriteOncePod", true), ("ReadOnlyMany", false)] {
        case.memory.claim = Some(claim(true, mode));
        assert_eq!(find(&case.decide().status.conditions, CLAIM_NOT_SHAREABLE).is_some(), warned, "{mode}");
    }
}

#[test]
fn news_is_written_at_once_and_counts_at_intervals() {
    let mut case = Case::new("a:1", json!({})).revision(1, "a:1", 2, 0).with_route();
    case = case.status(|status| status.observed_generation = Some(-1));
    case.memory.writes.noticed_at = Some(seconds(0));
    assert_eq!(case.decide().publish, Publish::By(seconds(2)), "pods that serve by then are told of once");
    let first = case.decide().status;
    case.deployment.status = Some(first);
    case.memory.writes.published_at = Some(seconds(3));
    std::sync::Arc::make_mut(&mut case.observed.deployments[0]).available = 1;
    assert_eq!(case.decide().publish, Publish::By(seconds(8)));
    std::sync::Arc::make_mut(&mut case.observed.deployments[0]).available = 2;
    assert_eq!(case.decide().publish, Publish::Now);
}

#[test]
fn a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut case = Case::new("a:1", json!({}));
    case.deployment.metadata.deletion_timestamp = Some(Time(seconds(0)));
    assert_eq!(short(&case.decide()), "");
}
