//! What serves goes on, whatever is wrong with the spec, with what is to follow, or with what the apiserver takes.

use super::*;
use crate::api::MAX_LISTED_REVISIONS;
use crate::serving::content::Content;
use crate::serving::status::REVISION_CHANGED;

#[test]
fn an_undo_that_git_has_caught_up_with_is_no_error() {
    let case = Case::new("a:1", json!({"rollout": {"undoTo": 1}, "replicas": 4}));
    let mut case = case.revision(1, "a:1", 2, 2).revision(2, "a:2", 0, 0).with_route().stable(1);
    case.observed.route = None;
    let plan = case.decide();
    assert_eq!(short(&plan), "=pods1:4 +route");
    let mut served =
        Case::new("a:1", json!({"rollout": {"undoTo": 1}})).revision(1, "a:1", 2, 2).with_route().stable(1);
    let plan = served.decide();
    assert_eq!((short(&plan).as_str(), state(&plan)), ("", "Serving"));
    assert!(plan.status.message.unwrap().contains("model and template say the same by now: remove it"));
    served.deployment.spec.rollout = None;
    assert_eq!(short(&served.decide()), "");
}

#[test]
fn what_was_last_asked_for_is_followed_while_the_spec_is_invalid() {
    let no_ports = json!({"template": {"spec": {"containers": [{"name": "c", "image": "a:3"}]}}, "replicas": 4});
    let undo = json!({"rollout": {"undoTo": 9}, "replicas": 4});
    for (image, spec) in [("a:3", no_ports), ("a:3", undo)] {
        let case = Case::new("a:2", json!({})).revision(1, "a:1", 0, 0).revision(2, "a:2", 2, 2).with_route().stable(2);
        let mut case = Case { deployment: Case::new(image, spec.clone()).deployment, ..case }.stable(2);
        case.observed.route = None;
        let plan = case.decide();
        assert_eq!((short(&plan).as_str(), state(&plan)), ("=pods2:4 +route", "Invalid"), "{spec}");
        assert_eq!((plan.status.revision, plan.status.summary.as_deref()), (Some(2), Some("2/4")));
        // A rollout that was under way goes on too.
        let case = case.status(|status| (status.stable_revision, status.revision) = (Some(1), Some(2)));
        let mut half_way = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 1).with_route();
        half_way.deployment = case.deployment;
        half_way.deployment.spec.replicas = 2;
        assert_eq!(short(&half_way.decide()), "=pods1:1 =pods2:2", "{spec}");
    }
    let never_valid = Case::new("a:1", json!({"rollout": {"undoTo": 3}}));
    assert_eq!((short(&never_valid.decide()).as_str(), state(&never_valid.decide())), ("", "Invalid"));
}

#[test]
fn what_serves_is_scaled_and_repaired_though_its_template_is_longer_than_allowed_by_now() {
    let args: serde_json::Value = vec!["word"; 50_000].into();
    let container = json!({"name": "c", "image": "a:1", "ports": [{"containerPort": 8080}], "args": args});
    let spec = json!({"template": {"spec": {"containers": [container]}}, "replicas": 4});
    let mut case = Case { deployment: Case::new("a:1", spec.clone()).deployment, ..serving() }.stable(1);
    let data = json!({"template": spec["template"]}).to_string();
    // Records of the first version had other hashes.
    let hash = Content::of_revision(&data).unwrap().hashes()[1].clone();
    let record = std::sync::Arc::make_mut(&mut case.observed.revisions[0]);
    (record.data, record.hash) = (data.into(), hash.clone());
    case = case.facts(1, |facts| facts.hash = hash);
    case.observed.route = None;
    let plan = case.decide();
    assert_eq!((short(&plan).as_str(), state(&plan)), ("=pods1:4 +route", "Invalid"));
    let message = plan.status.message.unwrap();
    assert!(message.contains("spec.template: 350") && message.contains("make it at most 262144 bytes"), "{message}");
}

#[test]
fn one_ready_moment_replaces_nothing() {
    let case = |ready: i32, available: i32| {
        let case = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, available);
        case.with_route().stable(1).facts(2, |facts| facts.ready = ready)
    };
    assert_eq!(short(&case(1, 0).decide()), "", "ready, and not yet for minReadySeconds");
    assert_eq!(short(&case(1, 1).decide()), "=pods1:1 =pods2:2");
    let all = Case::new("a:1", json!({})).revision(1, "a:1", 2, 0).with_route().facts(1, |facts| facts.ready = 2);
    let plan = all.decide();
    assert_eq!(
        (state(&plan), plan.status.stable_revision, plan.status.summary.as_deref()),
        ("Starting", None, Some("2/2"))
    );
    assert!(holds(&plan.status.conditions, AVAILABLE), "requests are served");
    assert_eq!(
        plan.status.message.as_deref(),
        Some("2 of 2 pods serve, not yet all of them for 10s (minReadySeconds)")
    );
}

#[test]
fn readiness_that_comes_and_goes_does_not_put_off_the_deadline() {
    let mut case = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 0).with_route().stable(1);
    case = case.pod(2, ContainerState::Running, None);
    for second in 0..600 {
        std::sync::Arc::make_mut(&mut case.observed.pods[0]).0.ready = second % 10 < 5;
        case = case.facts(2, |facts| facts.ready = i32::from(second % 10 < 5)).at(seconds(second));
        let plan = case.decide();
        assert_eq!(short(&plan), "", "nothing moves");
        case.deployment.status = Some(plan.status);
    }
    let plan = case.at(seconds(600)).decide();
    assert_eq!(state(&plan), "RolloutFailed");
}

#[test]
fn an_autoscaler_does_not_put_off_the_deadline_of_what_is_ready_now_and_then() {
    let base = Case::new("a:2", json!({"rollout": {"maxSurge": "100%"}})).revision(1, "a:1", 2, 2);
    let mut case = base.revision(2, "a:2", 2, 0).with_route().stable(1).pod(2, ContainerState::Running, None);
    let mut given_up = None;
    for second in 0..2_400 {
        if second % 180 == 0 {
            // Never so few that what serves would have to go.
            let replicas = 2 + i32::try_from(second / 180).unwrap() % 3;
            case.deployment.spec.replicas = replicas;
            case.deployment.metadata.generation = Some(2 + second);
            case = case.facts(1, |facts| facts.wanted = replicas).facts(2, |facts| facts.wanted = replicas);
        }
        let is_ready = second % 10 >= 5;
        std::sync::Arc::make_mut(&mut case.observed.pods[0]).0.ready = is_ready;
        case = case.facts(2, |facts| facts.ready = if is_ready { facts.wanted } else { 0 }).at(seconds(second));
        let plan = case.decide();
        if state(&plan) == "RolloutFailed" {
            given_up = Some(second);
            break;
        }
        case.deployment.status = Some(plan.status);
    }
    assert!(given_up.is_some_and(|second| second <= 1_800), "{given_up:?}");
}

#[test]
fn an_edit_of_min_ready_seconds_holds_for_what_is_on_its_way() {
    let case = |stable: i64| {
        let case = Case::new("a:2", json!({"rollout": {"minReadySeconds": 30}}));
        case.revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 0).with_route().stable(stable)
    };
    let plan = case(1).decide();
    assert_eq!(short(&plan), "=pods2:1");
    let Action::Apply { object, .. } = &plan.actions[0] else { panic!("{:?}", plan.actions) };
    assert_eq!(object["spec"], json!({"replicas": 1, "minReadySeconds": 30}));
    let proven = Case::new("a:1", json!({"rollout": {"minReadySeconds": 30}})).revision(1, "a:1", 2, 2).with_route();
    assert_eq!(short(&proven.stable(1).decide()), "", "an upgrade writes nothing");
}

#[test]
fn scaling_leaves_the_template_alone() {
    let case = Case::new("a:1", json!({"replicas": 5})).revision(1, "a:1", 2, 2).with_route().stable(1);
    assert!(matches!(case.decide().actions[..], [Action::Scale { replicas: 5, .. }]));
}

#[test]
fn what_was_changed_while_asleep_wakes_as_the_new_revision() {
    let case = |pods: &[(i64, &str, i32, i32)]| {
        let case = Case::new("a:2", json!({}));
        pods.iter().fold(case, |case, &(number, image, wanted, serves)| case.revision(number, image, wanted, serves))
    };
    let woken = |pods: &[(i64, &str, i32, i32)]| short(&case(pods).with_route().stable(1).decide());
    assert_eq!(woken(&[(1, "a:1", 0, 0), (2, "a:2", 0, 0)]), "=pods2:2");
    assert_eq!(woken(&[(1, "a:1", 0, 0), (2, "a:2", 2, 0)]), "");
    assert_eq!(woken(&[(1, "a:1", 0, 0), (2, "a:2", 2, 1)]), "");
    let given_up = case(&[(1, "a:1", 0, 0), (2, "a:2", 2, 0)]).with_route().stable(1);
    let given_up = given_up.status(|status| status.rollout = Some(rolling(Some("why"))));
    assert_eq!(short(&given_up.decide()), "=pods2:0 =pods1:2");
}

#[test]
fn what_found_no_room_is_tried_again() {
    let stuck = |refused: bool| {
        let case = Case::new("a:2", json!({})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 0).with_route().stable(1);
        let case = case.facts(2, |facts| facts.refused = refused.then(|| "exceeded quota".to_owned()));
        case.status(|status| status.rollout = Some(rolling(None))).at(seconds(600))
    };
    let failed = stuck(false).decide().status;
    assert_eq!(failed.rollout.unwrap().counting, Some(2));
    let plan = stuck(true).decide();
    assert_eq!((state(&plan), plan.wake_at), ("RolloutFailed", Some(seconds(1_200))));
    assert!(plan.status.message.clone().unwrap().contains("it is tried again at 1970-01-01T00:36:40Z; change model"));
    let mut case = stuck(true).facts(2, |facts| (facts.wanted, facts.replicas) = (0, 0));
    case.deployment.status = Some(plan.status);
    assert_eq!(short(&case.decide()), "");
    let again = case.at(seconds(1_200)).decide();
    assert_eq!((short(&again).as_str(), state(&again)), ("=pods2:1", "PodsRefused"));
    let rollout = again.status.rollout.unwrap();
    assert_eq!((rollout.failed, rollout.counting, rollout.progress_time.0), (None, Some(2), seconds(1_200)));
}

#[test]
fn autoscalers_read_the_number_that_they_asked_for() {
    let surge = Case::new("a:2", json!({"replicas": 10, "rollout": {"maxSurge": 5}}));
    let surge = surge.revision(1, "a:1", 10, 10).revision(2, "a:2", 5, 0).with_route().stable(1);
    assert_eq!(surge.decide().status.replicas, Some(10));
    let growing = Case::new("a:1", json!({"replicas": 10})).revision(1, "a:1", 4, 4).with_route().stable(1);
    assert_eq!(growing.decide().status.replicas, Some(4));
}

#[test]
fn the_url_is_only_of_a_service_of_ours() {
    let mut case = serving();
    case.observed.route = None;
    assert_eq!(case.decide().status.url, None);
    case.memory.writes.note_created(Resource::Service, "d", seconds(0));
    assert!(case.decide().status.url.is_some());
}

#[test]
fn a_template_that_was_changed_after_it_was_made_is_reported() {
    let plan = serving().facts(1, |facts| facts.was_changed = true).decide();
    let changed = find(&plan.status.conditions, REVISION_CHANGED).expect("it is reported");
    assert!(changed.message.starts_with("the pod template of revision 1 was changed in its Deployment (d-"));
    assert!(find(&serving().decide().status.conditions, REVISION_CHANGED).is_none());
}

#[test]
fn a_record_with_the_hash_of_another_version_is_compared_by_what_it_holds() {
    for hash in ["v9:x", "", "qqllkujzdl"] {
        let mut case = serving();
        std::sync::Arc::make_mut(&mut case.observed.revisions[0]).hash = hash.to_owned();
        assert_eq!((short(&case.decide()).as_str(), state(&case.decide())), ("", "Serving"), "{hash}");
    }
}

#[test]
fn revisions_never_pile_up() {
    let many = |count: i64| {
        let case =
            (1..=count).fold(Case::new("a:new", json!({})), |case, number| case.record(number, &format!("a:{number}")));
        case.with_route().stable(1)
    };
    let plan = many(100).decide();
    assert_eq!((state(&plan), plan.status.revisions.len()), ("Invalid", MAX_LISTED_REVISIONS));
    assert_eq!(plan.status.revisions.last().unwrap().revision, 100);
    assert!(plan.status.message.as_ref().unwrap().contains("besides 100 that are kept"), "{:?}", plan.status.message);
    assert!(!short(&plan).contains("+record") && short(&plan).contains("-record2 "), "old ones are still forgotten");
    assert!(short(&many(99).decide()).starts_with("+record100 "));
}

#[test]
fn a_port_that_no_service_finds_beside_the_stable_one_is_reported() {
    let on_host = |number: i32, name: &str| {
        let container = json!({"name": "c", "image": "a:2", "ports": [{"containerPort": number, "name": name}]});
        json!({"template": {"spec": {"hostNetwork": true, "containers": [container]}}})
    };
    let base = || Case::new("a:1", json!({})).revision(1, "a:1", 2, 2).with_route().stable(1);
    let edited = |spec| Case { deployment: Case::new("a:1", spec).deployment, ..base() }.stable(1).decide();
    let fine = edited(on_host(8080, "http"));
    assert_eq!((short(&fine).as_str(), state(&fine)), ("+record2 +pods2:1 =route", "RollingOut"), "both by number");
    let plan = edited(on_host(9000, "http"));
    assert_eq!((short(&plan).as_str(), state(&plan)), ("", "Invalid"));
    let message = plan.status.message.unwrap();
    assert!(
        message.contains("ports[0]: http 9000: give this port the number 8080 that it has in revision 1"),
        "{message}"
    );
}

#[test]
fn what_is_refused_holds_up_only_what_depends_on_it() {
    let fresh = || Case::new("a:1", json!({}));
    let family = names::family("d", UID);
    let revision = |number| names::revision("d", UID, number);
    let rolling = || {
        let case =
            Case::new("a:2", json!({"revisionHistoryLimit": 0})).revision(1, "a:1", 2, 2).revision(2, "a:2", 1, 1);
        let mut case = case.record(3, "a:0").with_route().stable(1);
        case.observed.route = None;
        case
    };
    let edited = || {
        let case =
            Case::new("a:3", json!({"revisionHistoryLimit": 0})).revision(1, "a:1", 2, 2).revision(2, "a:2", 0, 0);
        case.with_route().stable(1).status(|status| status.revision = Some(2))
    };
    use Resource::{ControllerRevision, Deployment, PodDisruptionBudget, Service};
    type Refused = Vec<(Resource, String)>;
    let cases: [(Case, Refused, &str); 9] = [
        (fresh(), vec![(PodDisruptionBudget, family.clone())], "+record1 +pods1:2 +route"),
        (fresh(), vec![(Service, "d".into())], "+record1 +pods1:2 +budget"),
        (fresh(), vec![(Service, "d".into()), (PodDisruptionBudget, family)], "+record1 +pods1:2"),
        (fresh(), vec![(Deployment, revision(1))], "+record1 +route +budget"),
        (rolling(), vec![], "=pods1:1 =pods2:2 +route -record3"),
        (rolling(), vec![(Deployment, revision(1))], "+route -record3"),
        (rolling(), vec![(Deployment, revision(2)), (ControllerRevision, revision(3))], "=pods1:1 +route"),
        (edited(), vec![], "+record3 +pods3:1 -pods2 -record2"),
        (edited(), vec![(ControllerRevision, revision(3))], ""),
    ];
    for (mut case, refused, expected) in cases {
        for (resource, name) in &refused {
            let refusal = refusal(RefusalKind::Content, *resource, name);
            case.memory.refused.insert(refusal.id.clone(), refusal);
        }
        assert_eq!(short(&case.decide()), expected, "{refused:?}");
    }
}
