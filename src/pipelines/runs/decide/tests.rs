mod case;
mod over;

use serde_json::{Value, json};

use super::*;
use crate::api::pipeline_run::StepState;
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
    assert_eq!(case.go(), "+Pod a-2");
}
