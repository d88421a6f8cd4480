//! How runs end, and what is left of them.

use super::*;

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
fn a_run_without_its_record_says_so_and_stops_there() {
    let mut case = Case::started(chain());
    case.observed.record = None;
    assert_eq!(case.go(), "");
    assert_eq!(case.state(), "RecordNotFound");
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
fn a_run_that_is_cancelled_before_it_starts_never_does() {
    let mut case = Case::new(chain());
    case.run.spec.cancel = Some(true);
    assert_eq!(case.go(), "");
    assert_eq!((case.steps().as_str(), case.state()), ("", "Cancelled"));
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
    let mut case = Case::of_pipeline("nightly");
    let read_at = |at| {
        let pipeline = Ok(None);
        Some(crate::pipelines::runs::observe::PipelineRead {
            pipeline,
            read_at: seconds(at),
            reads: 1,
            is_recorded: false,
        })
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

    let mut case = Case::started(chain());
    case.observed.record = None;
    case.run.spec.cancel = Some(true);
    let plan = case.decide();
    assert!(matches!(plan.checks[..], [Check::IsAbsent { .. }]), "a cache may lag: {:?}", plan.checks);
    case.publish(&plan);
    assert_eq!((case.steps().as_str(), case.state()), ("a Cancelled", "Cancelled"));
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

    // One of a Pipeline that is there still, which has just finished, looks after them too.
    case.run.spec = Case::of_pipeline("kept").run.spec;
    case.observed.of_no_pipeline.retain(|run| run.meta.name != "r");
    let oldest = std::sync::Arc::make_mut(&mut case.observed.of_no_pipeline[0]);
    let owner = crate::cluster::index::Owner { kind: "Pipeline".into(), name: "deleted".into(), uid: "deleted".into() };
    oldest.meta.owner = Some(owner);
    let plan = case.decide();
    assert_eq!(case::short(&plan), "-PipelineRun s0, -PipelineRun s1, -PipelineRun s2");
    assert_eq!(plan.checks, [Check::IsGone { id: ObjectId::new(Resource::Pipeline, "ns", "deleted") }]);
}
