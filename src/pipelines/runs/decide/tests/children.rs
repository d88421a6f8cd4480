//! What other objects are to a run: jobs, deployments, claims, and what others made under our names.

use super::*;

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
fn a_step_waits_while_its_deployment_serves_an_earlier_revision() {
    let undone = || ServingFacts { progress: ServingProgress::Undone, revision: 3, ..ServingFacts::default() };
    let mut case = Case::started(deploying());
    case.go();
    case.deployment("m", undone());
    case.go();
    assert_eq!((case.steps().as_str(), case.state()), ("d Running", "Waiting"));
    let message = case.step_message("d");
    assert!(
        message.contains("serves revision 3") && message.ends_with("remove spec.rollout.undoTo from it"),
        "{message}"
    );
    case.deployment("m", ServingFacts { progress: ServingProgress::Ready, revision: 8, ..ServingFacts::default() });
    case.go();
    assert_eq!(case.state(), "Succeeded");

    let mut asked = deploying();
    asked["steps"][0]["deploy"]["spec"]["rollout"] = json!({"undoTo": 3});
    let mut case = Case::started(asked);
    case.go();
    case.deployment("m", undone());
    case.go();
    assert_eq!(case.state(), "Succeeded", "the step itself asks for it");
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
fn a_deployment_that_was_never_seen_as_ours_was_taken_by_another() {
    let mut case = Case::started(deploying());
    let plan = case.decide();
    case.memory.acted(&plan.actions, case.now);
    case.go();
    assert!(case.step_message("d").contains("was deployed by another run"), "{}", case.step_message("d"));
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
