//! Whose a pod is, and what became of it.

use super::*;

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
    let made = ObjectId::new(Resource::Pod, "ns", &names::pod("j", UID, names::ROLE_WORKER, 0, 1));
    let uid = case.observed.pods[0].meta.uid.clone();
    for (uid_of_ours, is_complete) in [("another", false), (uid.as_str(), true)] {
        case.memory.writes.note_made(&made, uid_of_ours, seconds(0));
        case.memory.catch_up(&case.observed, 1, seconds(0));
        assert_eq!(holds(&case.plan(), COMPLETE), is_complete, "{uid_of_ours}");
    }
    let launched = forged(Case::new(json!({})), 0, 1, 0).status(|status| status.launched_attempt = Some(1));
    assert!(holds(&launched.plan(), COMPLETE));

    // A rank that the job does not have.
    let plan = forged(Case::new(json!({})).running(0, 1), 7, 1, 1).plan();
    assert_eq!((ready(&plan), short(&plan)), ("Running", vec!["-Pod 7-1".to_owned()]));

    let suspended = forged(Case::new(json!({"suspend": true})), 0, 1, 0).plan();
    assert_eq!((ready(&suspended), short(&suspended)), ("Suspending", vec!["-Pod 0-1".to_owned()]));
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
fn what_no_cache_ever_shows_is_doubted_in_the_end() {
    let mut case = Case::new(json!({})).at(seconds(5));
    case.memory.writes.note_created(Resource::Pod, &names::pod("j", UID, names::ROLE_WORKER, 0, 1), seconds(1));
    assert_eq!(case.plan().wake_at, Some(seconds(31)));
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
fn an_ended_pod_that_holds_claims_goes_before_the_next_attempt() {
    let older = |has_claims| {
        let case = changed(Case::new(json!({})).ended(0, 1, 1, 5), |pod| pod.has_claims = has_claims);
        case.status(|status| status.attempt = Some(2)).plan()
    };
    assert_eq!(short(&older(true)), ["-Pod 0-1"]);
    assert_eq!(short(&older(false)), ["+Pod 0-2"], "it is kept for its log");
}
