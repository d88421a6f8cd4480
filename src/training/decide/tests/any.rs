//! Whatever job the CRD admits, whatever its status and its pods are: a decision never panics, and keeps its bounds.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::case::{Case, UID, seconds};
use crate::api::TrainingJobStatus;
use crate::api::conditions::{self, FINISHED, Seen};
use crate::cluster::container::{ContainerFacts, ContainerState, Ended};
use crate::cluster::index::ChildMeta;
use crate::cluster::plan::Action;
use crate::cluster::pod::{Phase, PodFacts};
use crate::names;
use crate::training::status::recorded_attempt;

/// A number that is likely small, and now and then as large as can be.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..5, 1 => 9_990u32..10_010, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,3}(s|m|h)", "[0-9]{10}h"]
}

fn time() -> impl Strategy<Value = Time> {
    let whole = prop_oneof![-100_000i64..100_000, Just(-9_000_000_000), Just(250_000_000_000)];
    whole.prop_map(|second| Time(jiff::Timestamp::from_second(second).unwrap()))
}

fn field<T: Into<Value>>(values: impl Strategy<Value = T>) -> impl Strategy<Value = Value> {
    prop::option::of(values).prop_map(|value| value.map_or(Value::Null, Into::into))
}

fn spec() -> impl Strategy<Value = Value> {
    let nodes = field(prop_oneof![1i32..4, 1i32..=1_000]);
    let processes = prop_oneof![Just(Value::Null), Just(json!("auto")), (1..=1_024).prop_map(Value::from)];
    let policy = (field(0i32..=1_000), field(duration()), field(duration()));
    let ends = (field(duration()), field(duration()), field(duration()));
    (any::<bool>(), nodes, processes, field(any::<bool>()), policy, ends).prop_map(
        |(torch, nodes, processes, suspend, (restarts, initial, max), (deadline, pods_after, delete_after))| {
            json!({
                "framework": if torch { "torch" } else { "none" },
                "processesPerNode": if torch { processes } else { Value::Null },
                "nodes": nodes, "suspend": suspend, "activeDeadline": deadline,
                "podsAfterFinished": pods_after, "deleteAfterFinished": delete_after,
                "failurePolicy": {"maxRestarts": restarts, "backoff": {"initial": initial, "max": max}},
            })
        },
    )
}

fn status() -> impl Strategy<Value = TrainingJobStatus> {
    let numbers = (prop::option::of(number()), prop::option::of(number()), prop::option::of(any::<i32>()));
    let times = (prop::option::of(time()), prop::option::of(time()), prop::option::of(time()));
    (numbers, times, prop::option::of("[-0-9,x]{0,12}"), prop::bool::weighted(0.2)).prop_map(
        |((attempt, launched_attempt, restarts), (start_time, finish_time, retry_time), succeeded_ranks, finished)| {
            let mut status = TrainingJobStatus {
                attempt,
                launched_attempt,
                restarts,
                start_time,
                finish_time,
                retry_time,
                succeeded_ranks,
                ..TrainingJobStatus::default()
            };
            if finished {
                let seen = Seen { now: seconds(0), generation: None };
                conditions::set(&mut status.conditions, FINISHED, true, "r", "m", seen);
            }
            status
        },
    )
}

fn pod() -> impl Strategy<Value = PodFacts> {
    let phase = prop_oneof![Just(Phase::Pending), Just(Phase::Running), Just(Phase::Succeeded), Just(Phase::Failed)];
    let container = prop::option::of((any::<i32>(), prop::option::of(time()), ".{0,40}"));
    (number(), number(), phase, container, prop::option::of(time()), any::<bool>()).prop_map(
        |(rank, attempt, phase, ended, deleted, alike)| {
            let name = names::pod("j", UID, names::ROLE_WORKER, rank, attempt);
            let ended = ended.map(|(exit_code, finished_at, message)| {
                ContainerState::Ended(Ended { exit_code, finished_at, message: Some(message), ..Ended::default() })
            });
            let state = ended.unwrap_or(ContainerState::Running);
            let mut pod = PodFacts {
                meta: ChildMeta { namespace: "ns".into(), uid: format!("uid-{name}"), name, ..ChildMeta::default() },
                rank,
                attempt,
                phase,
                delete_asked_at: deleted.map(|time| time.0),
                addresses: vec!["10.0.0.1".into()],
                containers: vec![ContainerFacts { name: "c".into(), state, ..ContainerFacts::default() }],
                ..PodFacts::default()
            };
            if alike {
                let template = json!({"containers": [{"name": "c", "image": "i"}]});
                pod.programs = crate::cluster::program::Programs::of_spec(&template);
            }
            pod
        },
    )
}

proptest! {
    #[test]
    fn a_decision_keeps_its_bounds(spec in spec(), status in status(), pods in prop::collection::vec(pod(), 0..6), now in 0i64..100_000) {
        let mut case = Case::new(spec).at(seconds(now));
        case.job.status = Some(status.clone());
        case.observed.pods = pods.into_iter().map(Arc::new).collect();
        let attempt = recorded_attempt(&case.job);
        case.memory.catch_up(&case.observed, attempt, case.now);
        let plan = case.plan();

        prop_assert!(plan.actions.len() <= 128 + 3 + case.observed.pods.len());
        let raised = plan.status.attempt.unwrap_or(1);
        prop_assert!(raised == attempt || raised == attempt.saturating_add(1) && plan.actions.is_empty() && raised <= 9_999);
        let suffix = format!("-{attempt}");
        for action in &plan.actions {
            prop_assert!(!action.creates_pod() || action.id().name.ends_with(&suffix));
            if let Action::Create { object, .. } = action {
                prop_assert!(object.text().len() < 10_000);
            }
        }
        let allowed = case.job.spec.failure_policy.and_then(|policy| policy.max_restarts).unwrap_or(3);
        let (before, after) = (status.restarts.unwrap_or(0), plan.status.restarts.unwrap_or(0));
        prop_assert!(after == before || after == before + 1 && after <= allowed, "{before} {after}");
        prop_assert!(plan.status.attempts.len() <= 10);
        prop_assert!(plan.status.message.as_ref().is_none_or(|message| message.len() <= 2_048));
    }
}
