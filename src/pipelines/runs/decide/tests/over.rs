//! What becomes of pods and jobs of attempts that are over.

use std::sync::Arc;

use serde_json::json;

use super::case::{Case, seconds, short, step};
use crate::cluster::container::{ContainerFacts, ContainerState};
use crate::cluster::plan::Check;
use crate::cluster::pod::Phase;
use crate::pipelines::runs::facts::{JobFacts, JobProgress};

#[test]
fn what_still_runs_of_an_attempt_that_is_over_is_stopped() {
    let sidecar = |case: &mut Case, step: &str| {
        let pod = case.observed.pods.iter_mut().find(|pod| pod.meta.name.contains(step)).unwrap();
        let facts = Arc::make_mut(pod);
        let state = ContainerState::Running;
        facts.containers.push(ContainerFacts { name: "sidecar".into(), state, ..ContainerFacts::default() });
    };
    let mut case = Case::started(json!({"steps": [step("a", json!({"retries": {"limit": 1}})), step("b", json!({}))]}));
    case.pod("a", 1, Phase::Running, Some((3, "boom")));
    sidecar(&mut case, "-a-");
    assert_eq!(case.go(), "+Pod b-1", "nothing is stopped before its end is on record");
    case.pod("b", 1, Phase::Running, Some((0, "")));
    sidecar(&mut case, "-b-");
    assert_eq!(case.go(), "-Pod a-1");
    assert_eq!(case.steps(), "a Running 2, b Succeeded");
    case.fails("a", 1);
    case.fails("a", 2);
    assert_eq!(case.go(), "-Pod b-1");
    assert_eq!(case.state(), "Failed");
    assert_eq!(case.go(), "-Pod b-1", "a run that has finished leaves none behind either");

    let mut case = Case::started(json!({"steps": [step("a", json!({}))]}));
    case.pod("a", 1, Phase::Running, Some((0, "")));
    assert_eq!((case.go(), case.state()), (String::new(), "Succeeded"));
    assert_eq!(case.go(), "", "a pod is given the time to end by itself");
    assert_eq!(case.decide().wake_at, Some(seconds(60)));
    case.now = seconds(60);
    assert_eq!(case.go(), "-Pod a-1", "but not for ever");
}

#[test]
fn an_attempt_that_waits_for_the_one_before_loses_neither_its_time_nor_its_turn() {
    let mut case = Case::started(
        json!({"steps": [step("a", json!({"timeout": "10s", "retries": {"limit": 2, "backoff": {"initial": "1s"}}}))]}),
    );
    case.pod("a", 1, Phase::Running, Some((3, "boom")));
    case.go();
    assert_eq!(case.steps(), "a Running 2");
    case.now = seconds(11);
    assert_eq!(case.go(), "");
    assert_eq!(case.steps(), "a Running 2", "the pod of the first attempt goes on: the second has not begun");
    assert_eq!(case.message(), "step a: pods of attempt 1 have not ended yet");
    case.now = seconds(100);
    assert_eq!(Some(case.decide().status), case.run.status, "however long that takes, it is written once");
    case.fails("a", 1);
    assert_eq!(case.go(), "", "its time begins");
    assert!(case.step_message("a").contains("boom; retry 1 of 2"), "{}", case.step_message("a"));
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), plan.wake_at), ("+Pod a-2", Some(seconds(110))));
    // As far as the caches show; the cluster itself is asked before the third may come.
    case.now = seconds(110);
    let plan = case.decide();
    assert!(plan.checks.iter().any(|check| matches!(check, Check::PodHasEnded { .. })), "{:?}", plan.checks);
    case.publish(&plan);
    assert_eq!(case.steps(), "a Running 3");
}

#[test]
fn a_job_that_stalled_is_stopped_once_its_failure_is_on_record() {
    let train = json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let mut case = Case::started(json!({"steps": [step("t", json!({"train": train, "retries": {"limit": 1}}))]}));
    case.job("t", JobFacts { progress: JobProgress::Stalled, ..JobFacts::default() });
    assert_eq!((case.go(), case.steps().as_str()), (String::new(), "t Running 2"));
    case.now = seconds(10);
    assert_eq!(case.go(), "~TrainingJob t-1", "the next is not made beside one that may begin after all");
    case.job("t", JobFacts { progress: JobProgress::Stopped, is_asked_to_stop: true, ..JobFacts::default() });
    assert_eq!(case.go(), "+TrainingJob t-2");
}

#[test]
fn pods_of_a_job_that_was_deleted_have_to_be_gone_before_the_next_is_made() {
    let train = json!({"framework": "none", "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let mut case = Case::started(json!({"steps": [step("t", json!({"train": train, "retries": {"limit": 1}}))]}));
    case.go();
    case.job("t", JobFacts::default());
    case.go();
    case.observed.jobs.clear();
    case.go();
    assert_eq!(case.steps(), "t Running 2");
    case.now = seconds(10);
    let plan = case.decide();
    assert_eq!(short(&plan), "+TrainingJob t-2");
    let of_any_life = |check: &Check| matches!(check, Check::PodsAreGone { owner_uid: None, owner, .. } if owner.name.ends_with("t-1"));
    assert!(plan.checks.iter().any(of_any_life), "{:?}", plan.checks);
}
