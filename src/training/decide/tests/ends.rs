//! How jobs end, and what an edit afterwards changes.

use super::*;

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
fn a_deadline_is_kept_while_old_pods_end() {
    let case = Case::new(json!({"activeDeadline": "60s"})).running(0, 1).at(seconds(9)).status(|status| {
        status.attempt = Some(2);
        status.start_time = Some(Time(seconds(1)));
    });
    assert_eq!(case.plan().wake_at, Some(seconds(61)));
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
