mod case;
mod children;
mod ends;
mod over;
mod recorded;
mod refused;

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

fn deploying() -> Value {
    let spec = json!({"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}});
    json!({"steps": [step("d", json!({"deploy": {"name": "m", "spec": spec}}))]})
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

fn train() -> Value {
    json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}})
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
fn attempts_have_a_second_between_them_whatever_the_pipeline_says() {
    let retries = json!({"limit": 100, "backoff": {"initial": "0s", "max": "0s"}});
    let mut case = Case::started(json!({"steps": [step("a", json!({"retries": retries}))]}));
    case.fails("a", 1);
    let plan = case.decide();
    assert_eq!(plan.wake_at, Some(seconds(1)));
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
