//! What the cluster refuses, and what comes later.

use super::*;

#[test]
fn what_is_refused_fails_its_step_and_what_is_late_is_waited_for() {
    let steps = json!({"steps": [step("a", json!({})), step("b", json!({}))]});
    let name = step_child("r", "0b7d", "a", 1);
    let mut case = Case::started(steps.clone());
    case.memory.writes.refusal = Some(refusal(RefusalKind::Content, Resource::Pod, &name));
    assert_eq!(case.go(), "+Pod b-1", "the others are made");
    assert_eq!(case.steps(), "a Failed, b Running");
    let mut case = Case::started(steps);
    case.memory.writes.refusal = Some(refusal(RefusalKind::Quota, Resource::Pod, &name));
    assert_eq!(case.go(), "+Pod b-1", "one that waits holds up no other");
    assert_eq!((case.steps().as_str(), case.state()), ("a Running, b Running", "Waiting"));
    case.memory.writes.refusal = Some(refusal(RefusalKind::Unanswered, Resource::Pod, "another"));
    assert_eq!(case.go(), "+Pod b-1", "it is remembered when another is refused");
    case.now = seconds(61);
    assert_eq!(case.go(), "+Pod a-1, +Pod b-1");
}

#[test]
fn what_comes_later_is_waited_for_and_fails_its_step_only_when_overdue() {
    let steps = json!({"steps": [step("a", json!({})), step("b", json!({}))]});
    let name = step_child("r", "0b7d", "a", 1);
    let mut case = Case::started(steps);
    case.memory.writes.refusal = Some(refusal(RefusalKind::Awaited, Resource::Pod, &name));
    assert_eq!(case.go(), "+Pod b-1", "it holds up no other");
    assert_eq!((case.steps().as_str(), case.state()), ("a Running, b Running", "Waiting"));
    assert!(case.step_message("a").contains("create it, or correct the name"), "{}", case.step_message("a"));
    case.now = seconds(61);
    assert_eq!(case.go(), "+Pod a-1, +Pod b-1", "it is asked for again");
    let overdue = Refusal { until: seconds(120), ..refusal(RefusalKind::Overdue, Resource::Pod, &name) };
    case.memory.writes.refusal = Some(overdue);
    case.go();
    assert_eq!(case.steps(), "a Failed, b Running");
}

#[test]
fn a_refused_claim_fails_the_steps_that_need_it_and_no_other() {
    let mut pipeline = deploying();
    pipeline["files"] = json!({"size": "1Gi"});
    pipeline["steps"].as_array_mut().unwrap().push(step("a", json!({})));
    let claim = crate::names::family("r", "0b7d");
    let mut case = Case::started(pipeline.clone());
    case.memory.writes.refusal = Some(refusal(RefusalKind::Content, Resource::PersistentVolumeClaim, &claim));
    assert_eq!(case.go(), "!ModelDeployment m");
    assert_eq!(case.steps(), "a Failed, d Running");
    let mut case = Case::started(pipeline);
    case.memory.writes.refusal = Some(refusal(RefusalKind::Quota, Resource::PersistentVolumeClaim, &claim));
    assert_eq!(case.go(), "!ModelDeployment m");
    assert_eq!(case.steps(), "a Running, d Running");
}

#[test]
fn what_the_cluster_says_of_one_step_holds_up_no_other() {
    let mut case = Case::started(json!({"steps": [step("a", json!({})), step("b", json!({}))]}));
    case.pod("a", 1, Phase::Running, None);
    case.go();
    case.observed.pods.clear();
    let checks = case.decide().checks;
    let absent: Vec<Check> = checks.into_iter().filter(|check| matches!(check, Check::IsAbsent { .. })).collect();
    assert_eq!(absent.len(), 1);
    assert!(Remembers::<PipelineRunStatus>::doubted(&mut case.memory, &absent, case.now));
    let plan = case.decide();
    assert_eq!((case::short(&plan).as_str(), plan.checks.len()), ("+Pod b-1", 1));
    assert_eq!(plan.wake_at, Some(seconds(2)));
    let owner = [Check::OwnerIsCurrent {
        id: ObjectId::new(Resource::PipelineRun, "ns", "r"),
        uid: "u".into(),
        resource_version: "1".into(),
    }];
    assert!(!Remembers::<PipelineRunStatus>::doubted(&mut case.memory, &owner, case.now));
}

#[test]
fn many_steps_are_made_in_several_goes_and_none_while_many_are_refused() {
    let steps: Vec<Value> = (0..200).map(|index| step(&format!("s{index}"), json!({}))).collect();
    let mut case = Case::started(json!({"files": {"size": "1Gi"}, "steps": steps}));
    let plan = case.decide();
    assert_eq!((plan.actions.len(), plan.wake_at), (1 + 128, Some(case.now)));
    let claim = crate::names::family("r", "0b7d");
    case.memory.writes.refusal = Some(refusal(RefusalKind::Quota, Resource::PersistentVolumeClaim, &claim));
    let plan = case.decide();
    assert_eq!((plan.actions.len(), plan.wake_at), (0, Some(seconds(60))), "nothing can be made without the claim");
}

#[test]
fn a_timeout_does_not_hide_what_the_step_waited_for() {
    let waiting = |case: &mut Case| {
        case.pod("a", 1, Phase::Pending, None);
        let pod = std::sync::Arc::make_mut(&mut case.observed.pods[0]);
        pod.containers[0].state =
            crate::cluster::container::ContainerState::Waiting("ImagePullBackOff".into(), String::new());
    };
    let cause = "its pod is waiting in container c: ImagePullBackOff";
    let mut case = Case::started(json!({"steps": [step("a", json!({"timeout": "10s"}))]}));
    waiting(&mut case);
    case.go();
    assert_eq!(case.message(), format!("step a: {cause}"), "a step that waits is not said to run");
    case.now = seconds(10);
    assert_eq!(case.go(), "-Pod a-1");
    let told = format!("not finished 10s after its start (timeout); {cause}");
    assert_eq!(case.step_message("a"), format!("{told}; it is being stopped"));
    assert_eq!(case.go(), "-Pod a-1");
    case.observed.pods.clear();
    case.go();
    assert_eq!(case.step_message("a"), told);

    let mut case = Case::started(json!({"timeout": "10s", "steps": [step("a", json!({}))]}));
    waiting(&mut case);
    case.now = seconds(10);
    case.go();
    case.observed.pods.clear();
    case.go();
    assert_eq!(
        case.message(),
        format!("the run's time ran out (timeout); step a: {cause}; 0 of 1 steps succeeded, 1 stopped")
    );

    let mut case = Case::started(json!({"steps": [step("t", json!({"train": train(), "timeout": "10s"}))]}));
    let message = "1 of 1 pods waiting in container c: ErrImagePull".to_owned();
    case.job("t", JobFacts { waits: true, message: message.clone(), ..JobFacts::default() });
    case.go();
    assert!(case.message().ends_with(&message), "{}", case.message());
    case.now = seconds(10);
    case.go();
    case.observed.jobs.clear();
    case.go();
    assert!(case.step_message("t").ends_with(&message), "{}", case.step_message("t"));
}

#[test]
fn every_step_that_waits_is_named() {
    let steps: Vec<Value> = ["a", "b", "c", "d", "e"].iter().map(|name| step(name, json!({}))).collect();
    let mut case = Case::started(json!({"steps": steps}));
    case.pod("c", 1, Phase::Running, None);
    for name in ["a", "b", "d", "e"] {
        case.pod(name, 1, Phase::Pending, None);
        let pods = case.observed.pods.iter_mut();
        let pod = pods.filter(|pod| pod.meta.name.contains(&format!("-{name}-"))).map(std::sync::Arc::make_mut);
        pod.for_each(|pod| {
            pod.containers.clear();
            pod.unschedulable = Some("0/1 nodes are available: 1 Insufficient cpu.".into());
        });
    }
    case.go();
    assert_eq!(
        case.message(),
        "running c; step a: its pod is unschedulable: insufficient cpu; step b: its pod is unschedulable: insufficient cpu; \
         step d: its pod is unschedulable: insufficient cpu; waiting too: e"
    );
}
