//! Runs that an operator of an earlier release has begun: they go on from their records, by whatever rules these were checked.

use super::*;
use crate::cluster::index::ChildMeta;
use crate::cluster::workload::RevisionFacts;

fn text_over_the_limit() -> Value {
    json!({"run": {"spec": {"containers": [{"name": "c", "args": ["x".repeat(300_000)]}]}}})
}

fn with_argument(argument: &str) -> Value {
    json!({"run": {"spec": {"containers": [{"name": "c", "args": [argument]}]}}})
}

fn training(field: &str, value: Value) -> Value {
    let mut spec = train();
    spec[field] = value;
    json!({"train": spec})
}

#[test]
fn a_run_that_was_begun_goes_on_whatever_rules_came_since() {
    let first = |work: Value| json!({"parameters": [{"name": "x"}], "steps": [step("a", work)]});
    let pattern =
        json!({"parameters": [{"name": "x", "pattern": r"^\w{999}\p{L}{999}$"}], "steps": [step("a", json!({}))]});
    for (pipeline, expected) in [
        (first(training("failureLogs", json!("Off"))), "+TrainingJob a-1"),
        (first(training("node", json!(2))), "+TrainingJob a-1"),
        (first(training("suspend", json!(true))), "+TrainingJob a-1"),
        (first(with_argument("{{params.x}}")), "+Pod a-1"),
        (first(with_argument("$(tasks.b.results.c)")), "+Pod a-1"),
        (first(text_over_the_limit()), "+Pod a-1"),
        (pattern, "+Pod a-1"),
    ] {
        let mut case = Case::begun(pipeline.clone());
        let plan = case.decide();
        assert_eq!(case::short(&plan), expected, "{pipeline}");
        case.publish(&plan);
        assert_eq!(case.steps(), "a Running", "{pipeline}");
    }
    let off = Case::begun(first(training("failureLogs", json!("Off")))).decide();
    assert!(format!("{:?}", off.actions).contains("None"), "the job is made with the present name: {:?}", off.actions);
}

#[test]
fn what_cannot_be_evaluated_any_more_fails_its_step_and_no_other() {
    for (when, expected, message) in [
        ("params.x.matches('^v')", "b Failed, c Running", "when cannot be evaluated: regular expressions are not"),
        ("[1].all(x, x > 0)", "b Failed, c Running", "when cannot be evaluated: loops"),
        ("params.absent == 'y'", "b Failed, c Running", "when cannot be evaluated: params.absent"),
        ("steps.a.state == 'succeeded'", "b Skipped, c Running", "when is false: "),
        ("steps.a.state in ['ok', 'Succeeded']", "b Running, c Running", ""),
    ] {
        let after = json!({"dependsOn": ["a"]});
        let asking = json!({"dependsOn": ["a"], "when": when});
        let pipeline = json!({
            "parameters": [{"name": "x"}], "steps": [step("a", json!({})), step("b", asking), step("c", after)],
        });
        let mut case = Case::begun(pipeline);
        case.succeeds("a", "");
        case.go();
        assert_eq!(case.steps(), format!("a Succeeded, {expected}"), "{when}");
        let told = case.run.status.as_ref().unwrap().steps["b"].message.clone().unwrap_or_default();
        assert!(told.starts_with(message), "{told}");
    }
}

/// A run under way whose record holds this.
fn with_record(data: &str) -> Case {
    let mut case = Case::begun(json!({"steps": [step("a", json!({}))]}));
    case.pod("a", 1, Phase::Running, None);
    let meta = ChildMeta { name: crate::names::family("r", "0b7d"), uid: "odd".into(), ..ChildMeta::default() };
    case.observed.record = Some(std::sync::Arc::new(RevisionFacts { meta, data: data.into(), ..Default::default() }));
    case
}

#[test]
fn a_run_whose_record_cannot_be_read_ends_and_can_be_cancelled() {
    let nothing_to_do = json!({"pipeline": {"hash": ""}, "parameters": {}, "spec": {"steps": [{"name": "a"}]}});
    for data in ["", "7", r#"{"spec": {}}"#, &nothing_to_do.to_string()] {
        let mut case = with_record(data);
        assert_eq!((case.go(), case.state()), (String::new(), "RecordNotFound"), "{data}");
        case.now = seconds(599);
        case.go();
        assert!(!status::is_finished(case.run.status.as_ref().unwrap()), "{data}");
        case.now = seconds(600);
        assert_eq!(case.go(), "", "nothing is stopped before the end is on record");
        assert!(status::is_finished(case.run.status.as_ref().unwrap()), "{data}");
        let conditions = &case.run.status.as_ref().unwrap().conditions;
        assert!(crate::api::conditions::holds(conditions, status::FAILED));
        assert_eq!((case.steps().as_str(), case.go()), ("a Cancelled", "-Pod a-1".to_owned()));

        let mut case = with_record(data);
        case.run.spec.cancel = Some(true);
        let plan = case.decide();
        assert_eq!(plan.checks, [], "the record is there: nothing to look up");
        case.publish(&plan);
        assert_eq!((case.steps().as_str(), case.state()), ("a Cancelled", "Cancelled"), "{data}");
        assert!(status::is_finished(case.run.status.as_ref().unwrap()), "{data}");
        assert_eq!(case.go(), "-Pod a-1");
    }
}

#[test]
fn a_record_is_read_once() {
    let mut case = with_record("7");
    case.decide();
    // The apiserver keeps a record's data, so that reading it again would find the same.
    let readable = Case::begun(json!({"steps": [step("a", json!({}))]}));
    let data = readable.observed.record.as_ref().unwrap().data.clone();
    let meta = case.observed.record.as_ref().unwrap().meta.clone();
    case.observed.record = Some(std::sync::Arc::new(RevisionFacts { meta, data, ..Default::default() }));
    case.decide();
    assert!(case.memory.prepared().is_none(), "it was not looked at again");
    let mut other = (**case.observed.record.as_ref().unwrap()).clone();
    other.meta.uid = "another".into();
    case.observed.record = Some(std::sync::Arc::new(other));
    case.decide();
    let prepared = case.memory.prepared().unwrap().clone();
    case.decide();
    assert!(std::sync::Arc::ptr_eq(&prepared, case.memory.prepared().unwrap()));
}

#[test]
fn a_run_begins_by_no_record_that_it_would_not_write() {
    let own = chain();
    let forged = json!({"steps": [step("a", with_argument("rm -rf /"))]});
    let recorded = |pipeline: &Value| {
        let plan = Case::new(pipeline.clone()).decide();
        let Some(crate::cluster::plan::Action::Create { object, .. }) = plan.actions.first() else {
            panic!("{plan:?}")
        };
        object.object()["data"].clone()
    };
    let mut values = recorded(&own);
    values["parameters"] = json!({"x": "theirs"});
    let mut steps = recorded(&forged);
    steps["pipeline"] = recorded(&own)["pipeline"].clone();
    for data in [json!(7), steps, values] {
        let mut case = Case::new(own.clone());
        let meta = ChildMeta { name: crate::names::family("r", "0b7d"), uid: "odd".into(), ..ChildMeta::default() };
        case.observed.record =
            Some(std::sync::Arc::new(RevisionFacts { meta, data: data.to_string().into(), ..Default::default() }));
        let plan = case.decide();
        assert_eq!(case::short(&plan), format!("-ControllerRevision {}", crate::names::family("r", "0b7d")), "{data}");
        assert_eq!(plan.checks.len(), 1, "the live run is looked at first");
        case.publish(&plan);
        assert_eq!((case.state(), case.steps().as_str()), ("NameTaken", ""), "{data}");
        assert!(case.message().contains("somebody else made it"), "{}", case.message());
        case.now = seconds(600);
        assert_eq!(case.go(), "");
        assert!(status::is_finished(case.run.status.as_ref().unwrap()), "it is given up");
    }
}
