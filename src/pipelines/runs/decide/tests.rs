mod case;
mod over;

use serde_json::{Value, json};

use super::*;
use crate::cluster::managed::Remembers;
use crate::cluster::pod::Phase;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::names::step_child;
use crate::pipelines::runs::facts::{JobFacts, JobProgress, ServingFacts, ServingProgress};
use case::{Case, seconds, step};

fn chain() -> Value {
    json!({"steps": [
        step("a", json!({"outputs": [{"name": "n", "type": "integer"}]})),
        step("b", json!({"dependsOn": ["a"], "when": "steps.a.outputs.n > 1"})),
        step("c", json!({"dependsOn": ["b"]})),
    ]})
}

#[test]
fn a_run_is_recorded_then_started_then_launched() {
    let mut case = Case::new(chain());
    let plan = case.decide();
    assert_eq!(case::short(&plan), format!("+ControllerRevision {}", crate::names::family("r", "0b7d")));
    assert_eq!(plan.checks.len(), 1, "the live run is looked at first");
    assert_eq!(plan.status.start_time, None);
    let mut case = Case::started(chain());
    assert_eq!((case.steps().as_str(), case.state()), ("a Running", "Running"));
    assert_eq!(case.go(), "+Pod a-1");
}

#[test]
fn what_a_step_reported_is_on_record_before_the_next_is_made() {
    let mut case = Case::started(chain());
    case.succeeds("a", r#"{"n": 2}"#);
    assert_eq!(case.go(), "", "nothing is made for what is not on record yet");
    assert_eq!(case.steps(), "a Succeeded, b Running");
    assert_eq!(case.run.status.as_ref().unwrap().steps["a"].outputs["n"], 2);
    assert_eq!(case.go(), "+Pod b-1");
    case.succeeds("b", "");
    case.go();
    case.succeeds("c", "");
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Succeeded, b Succeeded, c Succeeded", "Succeeded"));
    assert_eq!(case.run.status.as_ref().unwrap().summary.as_deref(), Some("3/3"));
    let finished = case.run.status.clone();
    case.observed.pods.clear();
    assert_eq!((case.go(), case.run.status), (String::new(), finished), "a finished run is left alone");
}

#[test]
fn a_false_when_skips_and_the_run_succeeds() {
    let mut case = Case::started(chain());
    case.succeeds("a", r#"{"n": 1}"#);
    assert_eq!(case.go(), "");
    assert_eq!((case.steps().as_str(), case.state()), ("a Succeeded, b Skipped, c Skipped", "Succeeded"));
    assert_eq!(case.step_message("b"), "when is false: steps.a.outputs.n > 1");
    assert_eq!(case.step_message("c"), "step b was skipped");
}

#[test]
fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    let mut case = Case::started(json!({"steps": [
        step("a", json!({})), step("b", json!({"dependsOn": ["a"]})), step("x", json!({})), step("y", json!({"dependsOn": ["x"]})),
    ]}));
    case.fails("a", 1);
    case.pod("x", 1, Phase::Running, None);
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Failed, b Skipped, x Running", "Running"));
    assert!(case.message().starts_with("step a failed: pod r-"), "{}", case.message());
    case.succeeds("x", "");
    case.go();
    case.succeeds("y", "");
    case.go();
    assert_eq!(case.state(), "Failed");
    assert_eq!(case.step_message("b"), "step a failed");
}

#[test]
fn a_failed_attempt_is_on_record_before_the_next_is_made_and_waited_for() {
    let retried = json!({"steps": [step("a", json!({"retries": {"limit": 1, "backoff": {"initial": "10s"}}}))]});
    let mut case = Case::started(retried);
    case.pod("a", 1, Phase::Running, Some((3, "boom")));
    assert_eq!(case.go(), "");
    assert_eq!(case.steps(), "a Running 2");
    assert!(
        case.step_message("a").contains("ended with exit code 3: boom; retry 1 of 1"),
        "{}",
        case.step_message("a")
    );
    assert_eq!(case.go(), "", "the wait is not over");
    case.now = seconds(11);
    assert_eq!(case.go(), "", "the pod of the first attempt has not ended: a sidecar goes on");
    case.fails("a", 1);
    let plan = case.decide();
    assert_eq!(case::short(&plan), "+Pod a-2");
    assert!(plan.checks.iter().any(|check| matches!(check, Check::PodHasEnded { .. })), "{:?}", plan.checks);
    case.fails("a", 2);
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Failed 2", "Failed"));
}

#[test]
fn a_timeout_stops_the_pod_and_counts_when_it_is_over() {
    let mut case = Case::started(json!({"steps": [step("a", json!({"timeout": "60s"}))]}));
    case.pod("a", 1, Phase::Running, None);
    assert_eq!(case.decide().wake_at, Some(seconds(60)));
    case.now = seconds(60);
    assert_eq!(case.go(), "-Pod a-1");
    assert!(case.is_in("a", StepState::Running), "it still runs");
    case.observed.pods.clear();
    let plan = case.decide();
    assert!(plan.checks.iter().any(|check| matches!(check, Check::IsAbsent { .. })), "{:?}", plan.checks);
    case.publish(&plan);
    assert_eq!((case.steps().as_str(), case.state()), ("a Failed", "Failed"));
    assert!(case.step_message("a").starts_with("not finished 1m after its start"), "{}", case.step_message("a"));
}

#[test]
fn cancel_stops_what_runs_and_finally_runs_still() {
    let mut case = Case::started(json!({
        "steps": [step("a", json!({})), step("b", json!({"dependsOn": ["a"]}))],
        "finally": [step("z", json!({"when": "steps.a.state == 'Cancelled'"}))],
    }));
    case.pod("a", 1, Phase::Running, None);
    case.run.spec.cancel = Some(true);
    assert_eq!(case.go(), "-Pod a-1");
    assert_eq!((case.steps().as_str(), case.state()), ("a Running, b Skipped", "Stopping"));
    case.observed.pods.clear();
    case.go();
    assert_eq!(case.steps(), "a Cancelled, b Skipped, z Running");
    assert_eq!(case.go(), "+Pod z-1");
    case.succeeds("z", "");
    case.go();
    assert_eq!(case.state(), "Cancelled");
}

#[test]
fn finally_runs_after_a_failure_and_its_own_failure_is_not_hidden() {
    let pipeline = json!({"steps": [step("a", json!({}))], "finally": [step("z", json!({}))]});
    let mut case = Case::started(pipeline.clone());
    case.fails("a", 1);
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Failed, z Running", "Running"));
    case.succeeds("z", "");
    case.go();
    assert_eq!(case.state(), "Failed");
    let mut case = Case::started(pipeline);
    case.succeeds("a", "");
    case.go();
    case.fails("z", 1);
    case.go();
    assert_eq!(case.state(), "Failed");
}

#[test]
fn the_time_of_a_run_ends_it() {
    let mut case = Case::started(json!({"timeout": "1m", "steps": [step("a", json!({}))]}));
    case.pod("a", 1, Phase::Running, None);
    case.now = seconds(61);
    assert_eq!(case.go(), "-Pod a-1");
    case.observed.pods.clear();
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Cancelled", "Failed"));
    assert_eq!(case.message(), "the run's time ran out (timeout); 0 of 1 steps succeeded, 1 stopped");
}

#[test]
fn a_job_is_watched_and_suspended_to_stop_it() {
    let train = json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c"}]}}});
    let pipeline = json!({"steps": [step("t", json!({"train": train, "timeout": "60s", "outputs": [{"name": "loss", "type": "number"}]}))]});
    let mut case = Case::started(pipeline.clone());
    assert_eq!(case.go(), "+TrainingJob t-1");
    case.job("t", JobFacts::default());
    assert_eq!(case.go(), "");
    case.now = seconds(60);
    assert_eq!(case.go(), "~TrainingJob t-1");
    case.job("t", JobFacts { is_asked_to_stop: true, ..JobFacts::default() });
    assert_eq!((case.go(), case.steps().as_str()), (String::new(), "t Running"));
    case.job("t", JobFacts { is_asked_to_stop: true, progress: JobProgress::Stopped, ..JobFacts::default() });
    case.go();
    assert_eq!(case.steps(), "t Failed");

    let mut case = Case::started(pipeline);
    let results = [("loss".to_owned(), json!(0.1))].into();
    case.job("t", JobFacts { progress: JobProgress::Complete, results, ..JobFacts::default() });
    case.go();
    assert_eq!(case.run.status.as_ref().unwrap().steps["t"].outputs["loss"], 0.1);
    assert_eq!(case.state(), "Succeeded");
}

fn deploying() -> Value {
    let spec = json!({"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}});
    json!({"steps": [step("d", json!({"deploy": {"name": "m", "spec": spec}}))]})
}

#[test]
fn a_deployment_is_waited_for_until_it_is_ready() {
    let mut case = Case::started(deploying());
    assert_eq!(case.go(), "!ModelDeployment m");
    case.deployment("m", ServingFacts::default());
    assert_eq!((case.go(), case.steps().as_str()), (String::new(), "d Running"));
    case.deployment("m", ServingFacts { progress: ServingProgress::Ready, revision: 3, ..ServingFacts::default() });
    case.go();
    assert_eq!(
        (case.state(), &case.run.status.as_ref().unwrap().steps["d"].outputs["revision"]),
        ("Succeeded", &json!(3))
    );
}

#[test]
fn a_deployment_that_another_run_took_or_that_is_not_ours_fails_the_step() {
    let mut case = Case::started(deploying());
    case.deployment("m", ServingFacts::default());
    case.go();
    case.observed.deployments.clear();
    case.go();
    assert!(
        case.step_message("d").contains("was deployed by another run or step, or deleted"),
        "{}",
        case.step_message("d")
    );

    let mut case = Case::started(deploying());
    let id = case::short(&case.decide());
    assert_eq!(id, "!ModelDeployment m");
    case.memory.writes.refusal = Some(refusal(RefusalKind::Foreign, Resource::ModelDeployment, "m"));
    case.go();
    assert!(case.step_message("d").contains("set deploy.adopt: true"), "{}", case.step_message("d"));
    assert_eq!(case.state(), "Failed");
}

#[test]
fn two_steps_may_deploy_one_model_one_after_the_other() {
    let deploy = |name: &str, replicas: i32, further: Value| {
        let spec = json!({
            "replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}},
        });
        let mut step = step(name, json!({"deploy": {"name": "m", "spec": spec}}));
        json_patch::merge(&mut step, &further);
        step
    };
    let ready =
        |step: &str| ServingFacts { step: step.into(), progress: ServingProgress::Ready, ..ServingFacts::default() };
    let mut case =
        Case::started(json!({"steps": [deploy("d", 1, json!({})), deploy("e", 5, json!({"dependsOn": ["d"]}))]}));
    assert_eq!(case.go(), "!ModelDeployment m");
    case.deployment("m", ready("d"));
    case.go();
    assert_eq!(case.steps(), "d Succeeded, e Running");
    assert_eq!(case.go(), "!ModelDeployment m", "what the step before has made says nothing of this one");
    case.deployment("m", ready("e"));
    case.go();
    assert_eq!(case.state(), "Succeeded");
}

fn refusal(kind: RefusalKind, resource: Resource, name: &str) -> Refusal {
    Refusal {
        kind,
        id: ObjectId::new(resource, "ns", name),
        message: "no".into(),
        until: seconds(60),
        generation: Some(1),
    }
}

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
fn a_step_quotes_its_log_if_it_may() {
    for (logs, quoted) in [(json!(null), true), (json!("Tail"), true), (json!("None"), false)] {
        let mut case = Case::started(json!({"steps": [step("a", json!({"failureLogs": logs}))]}));
        case.go();
        case.fails("a", 1);
        case.go();
        let message = case.step_message("a");
        assert_eq!((message.contains("exit code 3"), message.contains("boom")), (true, quoted), "{message}");
    }
}

#[test]
fn a_pod_that_vanished_is_a_failed_attempt_once_the_cluster_says_so_too() {
    let mut case = Case::started(json!({"steps": [step("a", json!({}))]}));
    case.pod("a", 1, Phase::Running, None);
    case.go();
    case.observed.pods.clear();
    let plan = case.decide();
    assert!(plan.checks.iter().any(|check| matches!(check, Check::IsAbsent { .. })));
    case.publish(&plan);
    assert!(case.step_message("a").contains("vanished before it ended"), "{}", case.step_message("a"));
}

#[test]
fn files_have_their_claim_before_any_pod() {
    let mut case = Case::started(json!({"files": {"size": "1Gi"}, "steps": [step("a", json!({}))]}));
    let claim = crate::names::family("r", "0b7d");
    assert_eq!(case.go(), format!("+PersistentVolumeClaim {claim}, +Pod a-1"));
    assert_eq!(case.run.status.as_ref().unwrap().claim.as_deref(), Some(claim.as_str()));
}

#[test]
fn a_run_without_its_record_says_so_and_stops_there() {
    let mut case = Case::started(chain());
    case.observed.record = None;
    assert_eq!(case.go(), "");
    assert_eq!(case.state(), "RecordNotFound");
}

#[test]
fn ends_of_many_steps_are_written_together() {
    let steps: Vec<Value> = (0..100).map(|index| step(&format!("s{index}"), json!({}))).collect();
    let mut case = Case::started(json!({"steps": steps}));
    case.memory.writes.published_at = Some(seconds(0));
    case.succeeds("s1", "");
    let plan = case.decide();
    assert_eq!(plan.publish, Publish::By(seconds(0) + SignedDuration::from_millis(200)));
    assert_eq!(plan.actions.len(), 99, "what the record says is running is made meanwhile");
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
fn steps_that_ended_in_time_are_not_late() {
    let mut case = Case::started(json!({"timeout": "1m", "steps": [step("a", json!({}))]}));
    case.succeeds("a", "");
    case.now = seconds(600);
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("a Succeeded", "Succeeded"));
}

#[test]
fn outputs_that_end_together_share_what_there_is_room_for() {
    let declared: Vec<Value> = (0..4).map(|index| json!({"name": format!("o{index}")})).collect();
    let steps: Vec<Value> = (0..80).map(|index| step(&format!("s{index}"), json!({"outputs": declared}))).collect();
    let mut case = Case::started(json!({"steps": steps}));
    let reported: serde_json::Map<String, Value> =
        (0..4).map(|index| (format!("o{index}"), "x".repeat(1_000).into())).collect();
    for index in 0..80 {
        case.succeeds(&format!("s{index}"), &Value::from(reported.clone()).to_string());
    }
    let status = case.decide().status;
    let failed = status.steps.values().filter(|step| step.state == StepState::Failed).count();
    assert!((10..20).contains(&failed), "{failed} of 80 are too much");
}

#[test]
fn a_deployment_that_was_never_seen_as_ours_was_taken_by_another() {
    let mut case = Case::started(deploying());
    let plan = case.decide();
    case.memory.acted(&plan.actions, case.now);
    case.go();
    assert!(case.step_message("d").contains("was deployed by another run"), "{}", case.step_message("d"));
}

#[test]
fn a_run_that_is_cancelled_before_it_starts_never_does() {
    let mut case = Case::new(chain());
    case.run.spec.cancel = Some(true);
    assert_eq!(case.go(), "");
    assert_eq!((case.steps().as_str(), case.state()), ("", "Cancelled"));
}

#[test]
fn a_claim_and_a_deployment_of_one_name_are_two_things() {
    let mut pipeline = deploying();
    pipeline["files"] = json!({"claim": "m"});
    pipeline["finally"] = json!([step("z", json!({}))]);
    let mut case = Case::started(pipeline);
    case.memory.writes.refusal = Some(refusal(RefusalKind::Foreign, Resource::ModelDeployment, "m"));
    case.go();
    assert_eq!(case.steps(), "d Failed, z Running");
    assert_eq!((case.go().as_str(), case.steps().as_str()), ("+Pod z-1", "d Failed, z Running"));
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
fn a_child_that_somebody_else_made_counts_for_nothing() {
    let pipeline = || json!({"steps": [step("a", json!({"outputs": [{"name": "n", "type": "integer"}]}))]});
    let forged = |case: &mut Case| {
        case.succeeds("a", r#"{"n": 7}"#);
        std::sync::Arc::make_mut(&mut case.observed.pods[0]).launch_token = "forged".into();
    };
    let mut case = Case::started(pipeline());
    forged(&mut case);
    let plan = case.decide();
    assert_eq!(case::short(&plan), "-Pod a-1");
    assert!(
        plan.checks
            .contains(&Check::owner_is_current(ObjectId::new(Resource::PipelineRun, "ns", "r"), &case.run.metadata))
    );
    assert_eq!(plan.wake_at, Some(seconds(60)));
    case.publish(&plan);
    assert_eq!((case.steps().as_str(), case.state()), ("a Running", "Waiting"));
    assert!(case.message().contains("was made by somebody else"), "{}", case.message());
    case.observed.pods.clear();
    assert_eq!(case.go(), "+Pod a-1", "it was not the attempt: nothing is lost");
    case.succeeds("a", r#"{"n": 1}"#);
    case.go();
    assert_eq!(case.run.status.as_ref().unwrap().steps["a"].outputs["n"], 1);

    let mut case = Case::started(pipeline());
    forged(&mut case);
    case.now = seconds(60);
    assert_eq!(case.go(), "");
    assert_eq!(case.state(), "Failed");
    assert!(case.step_message("a").contains("did not become free within 1m"), "{}", case.step_message("a"));

    let mut case = Case::started(json!({"steps": [step("t", json!({"train": train()}))]}));
    case.job("t", JobFacts { progress: JobProgress::Stopped, ..JobFacts::default() });
    std::sync::Arc::make_mut(&mut case.observed.jobs[0]).launch_token = String::new();
    assert_eq!(case.go(), "-TrainingJob t-1");
}

#[test]
fn a_new_process_recognises_children_and_puts_its_own_token_on_record_before_it_makes_any() {
    let pipeline = || json!({"steps": [step("a", json!({}))]});
    let mut case = Case::started(pipeline());
    case.succeeds("a", "");
    case.memory = crate::pipelines::runs::observe::Memory::default();
    case.go();
    assert_eq!(case.state(), "Succeeded", "the child was made before the restart");
    assert_eq!(case.run.status.as_ref().unwrap().steps["a"].launch, None);

    let mut case = Case::started(pipeline());
    case.memory = crate::pipelines::runs::observe::Memory::default();
    let plan = case.decide();
    assert_eq!((case::short(&plan).as_str(), plan.publish), ("", Publish::Now));
    assert!(matches!(plan.checks[..], [Check::IsAbsent { .. }]), "{:?}", plan.checks);
    case.publish(&plan);
    assert_eq!(case.go(), "+Pod a-1");
    assert_eq!(case.steps(), "a Running");

    let mut case = Case::started(pipeline());
    case.run.status.as_mut().unwrap().steps.get_mut("a").unwrap().launch = None;
    case.succeeds("a", "");
    std::sync::Arc::make_mut(&mut case.observed.pods[0]).launch_token = String::new();
    case.go();
    assert_eq!(case.state(), "Succeeded", "an earlier version of the operator put nothing on record");
}

fn train() -> Value {
    json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}})
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

#[test]
fn a_final_step_that_refers_to_what_did_not_run_is_skipped_and_the_cause_comes_first() {
    let tell = |name: &str, further: Value| {
        let container = json!({"name": "c", "args": ["accuracy $(steps.train.outputs.accuracy)"]});
        let mut told = step(name, json!({"run": {"spec": {"containers": [container]}}}));
        json_patch::merge(&mut told, &further);
        told
    };
    let pipeline = |when: &str| {
        let outputs = json!([{"name": "accuracy", "type": "number"}]);
        json!({
            "steps": [step("train", json!({"outputs": outputs, "when": when}))],
            "finally": [
                tell("a-tells", json!({})),
                step("b-asks", json!({"when": "steps.train.outputs.accuracy > 0.5"})),
                step("clean", json!({})),
            ],
        })
    };
    let mut case = Case::started(pipeline("1 > 2"));
    assert_eq!(case.steps(), "a-tells Skipped, b-asks Skipped, clean Running, train Skipped");
    assert_eq!(case.step_message("a-tells"), "$(steps.train.outputs.accuracy) has no value: step train is Skipped");
    case.succeeds("clean", "");
    case.go();
    assert_eq!(case.state(), "Succeeded", "nothing has failed");

    let mut case = Case::started(pipeline("1 < 2"));
    case.fails("train", 1);
    case.go();
    case.now = seconds(2);
    case.fails("clean", 1);
    case.go();
    assert_eq!(case.state(), "Failed");
    let (first, second) = (case.message().find("step train failed"), case.message().find("step clean failed"));
    assert!(first.is_some() && first < second, "{}", case.message());

    let mut case = Case::started(
        json!({"steps": [step("z", json!({})), step("a", json!({"dependsOn": ["z"]}))], "finally": [step("b", json!({}))]}),
    );
    case.fails("z", 1);
    case.go();
    case.fails("b", 1);
    case.go();
    assert!(case.message().starts_with("step z failed"), "in one second, the pipeline's order: {}", case.message());
}

#[test]
fn an_edit_after_the_end_is_seen_and_changes_nothing_else() {
    let mut case = Case::started(json!({"steps": [step("a", json!({}))]}));
    case.succeeds("a", "");
    case.go();
    let before = case.run.status.clone().unwrap();
    case.run.spec.cancel = Some(true);
    case.run.metadata.generation = Some(2);
    case.now = seconds(9);
    let plan = case.decide();
    assert_eq!(plan.publish, Publish::Now);
    case.publish(&plan);
    let after = case.run.status.clone().unwrap();
    assert_eq!(after.observed_generation, Some(2));
    assert!(after.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    let mut same = after.clone();
    status::observe(&mut same, Some(1));
    assert_eq!(same, before);
    assert_eq!(case.decide().status, after, "once");
}

#[test]
fn attempts_have_a_second_between_them_whatever_the_pipeline_says() {
    let retries = json!({"limit": 100, "backoff": {"initial": "0s", "max": "0s"}});
    let mut case = Case::started(json!({"steps": [step("a", json!({"retries": retries}))]}));
    case.fails("a", 1);
    let plan = case.decide();
    assert_eq!(plan.wake_at, Some(seconds(1)));
}

#[test]
fn an_invalid_run_ends_after_a_while() {
    let invalid = || json!({"steps": [step("a", json!({"dependsOn": ["none"]}))]});
    let mut case = Case::new(invalid());
    assert_eq!(case.decide().wake_at, Some(seconds(30)));
    case.go();
    assert_eq!(case.state(), "Invalid");
    assert!(!status::is_finished(case.run.status.as_ref().unwrap()));
    case.now = seconds(29);
    case.go();
    assert!(!status::is_finished(case.run.status.as_ref().unwrap()), "it may be corrected");
    case.now = seconds(30);
    let before = case.run.status.clone().unwrap();
    case.go();
    let after = case.run.status.clone().unwrap();
    let condition = |type_: &str| {
        let found = crate::api::conditions::find(&after.conditions, type_).unwrap();
        (found.status.clone(), found.reason.clone())
    };
    let is = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(condition("Failed"), is("True", "Invalid"));
    assert_eq!(condition("Finished"), is("True", "Failed"));
    assert_eq!(condition("Stalled"), is("True", "Invalid"));
    assert!(
        case.message().contains("dependsOn") && case.message().ends_with("given up after 30s: create the run again")
    );
    let told = crate::pipelines::runs::events::events(&before, &after);
    assert_eq!(told.len(), 1, "{told:?}");
    let corrected = Case::new(json!({"steps": [step("a", json!({}))]}));
    case.run.spec = corrected.run.spec;
    assert_eq!(case.go(), "", "its end stays");
}

#[test]
fn a_run_without_its_pipeline_ends_after_ten_minutes() {
    let mut case = Case::new(json!({"steps": []}));
    case.run.spec.pipeline = None;
    case.run.spec.pipeline_ref = serde_json::from_value(json!({"name": "nightly"})).unwrap();
    let read_at = |at| {
        let pipeline = Ok(None);
        Some(crate::pipelines::runs::observe::PipelineRead { pipeline, read_at: seconds(at), reads: 1 })
    };
    case.memory.pipeline = read_at(0);
    case.go();
    assert_eq!(case.state(), "PipelineNotFound");
    case.now = seconds(599);
    case.memory.pipeline = read_at(599);
    case.go();
    assert!(!status::is_finished(case.run.status.as_ref().unwrap()));
    case.now = seconds(600);
    case.go();
    assert!(status::is_finished(case.run.status.as_ref().unwrap()));
    assert_eq!(case.state(), "PipelineNotFound");
    let facts = crate::pipelines::definitions::facts::RunFacts::from(case.run.clone());
    assert_eq!(facts.meta.owner.unwrap().uid, crate::pipelines::definitions::facts::NO_PIPELINE);
}

#[test]
fn a_run_whose_record_is_gone_ends_too() {
    let mut case = Case::started(chain());
    case.observed.record = None;
    case.go();
    case.now = seconds(600);
    let plan = case.decide();
    assert!(matches!(plan.checks[..], [Check::IsAbsent { .. }]), "{:?}", plan.checks);
    case.publish(&plan);
    assert_eq!(case.steps(), "a Cancelled");
    assert!(status::is_finished(case.run.status.as_ref().unwrap()));
}

#[test]
fn the_last_run_of_no_pipeline_prunes_the_oldest() {
    use crate::pipelines::definitions::facts::{Finished, RunFacts};
    let mut case = Case::started(json!({"steps": [step("a", json!({}))]}));
    case.succeeds("a", "");
    case.go();
    let run = |name: &str, at, result| {
        let meta = crate::cluster::index::ChildMeta { name: name.into(), ..Default::default() };
        let finished = Some(Finished { at: seconds(at), result });
        std::sync::Arc::new(RunFacts { meta, finished, is_deleted: false })
    };
    let mut runs: Vec<_> = (0..103).map(|at| run(&format!("s{at}"), at, status::State::Succeeded)).collect();
    runs.extend((0..100).map(|at| run(&format!("f{at}"), at, status::State::Failed)));
    case.observed.of_no_pipeline = runs.clone();
    assert_eq!(case.go(), "", "another finished last");
    runs.push(run("r", 500, status::State::Succeeded));
    case.observed.of_no_pipeline = runs;
    assert_eq!(case.go(), "-PipelineRun s0, -PipelineRun s1, -PipelineRun s2, -PipelineRun s3");
}

#[test]
fn an_ended_pod_that_holds_claims_goes_before_the_next_attempt() {
    let retries = json!({"limit": 1, "backoff": {"initial": "0s"}});
    let mut case = Case::started(json!({"steps": [step("a", json!({"retries": retries}))]}));
    case.go();
    case.fails("a", 1);
    std::sync::Arc::make_mut(&mut case.observed.pods[0]).has_claims = true;
    let mut gone = Vec::new();
    while gone.last().is_none_or(|told: &String| told.is_empty()) && gone.len() < 5 {
        gone.push(case.go());
    }
    assert_eq!(gone.last().map(String::as_str), Some("-Pod a-1"), "{gone:?}");
    case.observed.pods.clear();
    case.now = seconds(10);
    assert_eq!(case.go(), "+Pod a-2");
}

#[test]
fn what_may_go_wrong_later_is_said_at_the_start() {
    let mut pipeline = deploying();
    pipeline["files"] = json!({"size": "1Gi"});
    for name in ["a", "b"] {
        pipeline["steps"].as_array_mut().unwrap().push(step(name, json!({})));
    }
    let found = |case: &Case, type_: &str| {
        let conditions = &case.run.status.as_ref().unwrap().conditions;
        crate::api::conditions::find(conditions, type_).map(|condition| condition.message.clone())
    };
    let case = Case::started(pipeline.clone());
    let message = found(&case, "ClaimNotShareable").unwrap();
    assert!(message.contains("(ReadWriteOnce)") && message.contains("steps a and b may run"), "{message}");
    assert_eq!(found(&case, status::MODEL_NOT_OURS), None);

    pipeline["files"] = json!({"claim": "shared"});
    let mut case = Case::new(pipeline);
    let modes = vec!["ReadWriteMany".to_owned()];
    case.memory.ahead =
        Some(crate::pipelines::runs::ahead::Ahead { foreign_models: vec!["m".into()], access_modes: modes });
    let case = case.start();
    assert_eq!(found(&case, "ClaimNotShareable"), None);
    assert!(found(&case, status::MODEL_NOT_OURS).unwrap().contains("set deploy.adopt: true"));
    let told = crate::pipelines::runs::events::events(&PipelineRunStatus::default(), case.run.status.as_ref().unwrap());
    assert!(told.iter().any(|event| event.reason == status::MODEL_NOT_OURS), "{told:?}");
}
