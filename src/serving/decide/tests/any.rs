//! Whatever the CRD admits, a decision is made: no panic, and no more work or words than are due.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::case::seconds;
use crate::api::{MAX_LISTED_REVISIONS, ModelDeployment};
use crate::cluster::index::ChildMeta;
use crate::cluster::workload::{DeploymentFacts, RevisionFacts};
use crate::names;
use crate::serving::decide::decide;
use crate::serving::observe::{Memory, Observed};
use crate::testing::any_json::any_json;

const UID: &str = "0b7d";

/// Whatever may stand within a field that the CRD does not declare.
fn undeclared() -> impl Strategy<Value = Value> {
    any_json(3, "[a-z./~ é]{0,12}", "[a-zA-Z]{1,8}")
}

/// An object of fields that the operator looks at, each of which may hold anything.
fn odd(fields: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((prop::sample::select(fields), undeclared()), 0..4)
        .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn any_port() -> impl Strategy<Value = Value> {
    (1..65_536i32, odd(&["name", "protocol", "hostPort"])).prop_map(|(number, mut port)| {
        port.insert("containerPort".to_owned(), number.into());
        port.into()
    })
}

fn any_container() -> impl Strategy<Value = Value> {
    let fields = odd(&["env", "lifecycle", "volumeMounts", "readinessProbe", "resources", "terminationMessagePolicy"]);
    (prop::sample::select(&["a", "b"][..]), prop::collection::vec(any_port(), 0..4), fields).prop_map(
        |(name, ports, mut container)| {
            container.insert("name".to_owned(), name.into());
            container.insert("ports".to_owned(), ports.into());
            container.into()
        },
    )
}

fn any_amount() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..=i32::MAX).prop_map(Value::from),
        (0..=100i32).prop_map(|part| Value::from(format!("{part}%"))),
        Just(Value::Null),
    ]
}

fn any_spec() -> impl Strategy<Value = Value> {
    let rollout = (
        any_amount(),
        any_amount(),
        prop::option::of(0..=3_600i32),
        prop::option::of(prop::sample::select(&["0s", "1s", "90s", "1h30m", "9999999999h", "1ns"][..])),
        prop::option::of(1..i64::MAX),
    );
    let rollout = rollout.prop_map(|(surge, unavailable, ready, deadline, undo)| {
        json!({"maxSurge": surge, "maxUnavailable": unavailable, "minReadySeconds": ready, "progressDeadline": deadline, "undoTo": undo})
    });
    let pod = odd(&["volumes", "hostNetwork", "initContainers", "terminationGracePeriodSeconds", "schedulingGates"]);
    let template = (prop::collection::vec(any_container(), 1..3), pod, odd(&["labels", "annotations", "name"]));
    let template = template.prop_map(|(containers, mut pod, metadata)| {
        pod.insert("containers".to_owned(), containers.into());
        json!({"metadata": metadata, "spec": pod})
    });
    let rest = (0..=1_000i32, prop::option::of(0..=50i32), any_amount(), any::<bool>());
    (rollout, template, rest).prop_map(|(rollout, template, (replicas, history, budget, with_model))| {
        let mut spec = json!({
            "replicas": replicas, "rollout": rollout, "template": template, "revisionHistoryLimit": history,
            "disruptionBudget": {"maxUnavailable": budget},
        });
        if with_model {
            spec["model"] = json!({"uri": "pvc://models/1"});
        }
        spec
    })
}

/// Revisions as caches may show them, whoever has edited them: the record's data may be anything.
fn any_children() -> impl Strategy<Value = Observed> {
    let child = (any::<bool>(), any::<bool>(), 0..2_000i32, 0..2_000i32, 0..2_000i32, undeclared());
    prop::collection::vec(child, 0..6).prop_map(|children| {
        let mut observed = Observed::default();
        for (number, (recorded, deployed, wanted, ready, available, data)) in (1..).zip(children) {
            let name = names::revision("d", UID, number);
            let meta = ChildMeta { namespace: "ns".into(), uid: format!("uid-{name}"), name, ..ChildMeta::default() };
            if recorded {
                let data = data.to_string().into();
                observed.revisions.push(Arc::new(RevisionFacts {
                    meta: meta.clone(),
                    number,
                    data,
                    ..RevisionFacts::default()
                }));
            }
            if deployed {
                let (ready, available) = (ready.min(wanted), available.min(ready).min(wanted));
                observed.deployments.push(Arc::new(DeploymentFacts {
                    meta,
                    revision: number,
                    wanted,
                    ready,
                    available,
                    replicas: wanted,
                    settled: true,
                    ..DeploymentFacts::default()
                }));
            }
        }
        observed
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_the_crd_admits_is_decided_within_bounds(
        spec in any_spec(), observed in any_children(), stable in prop::option::of(0..8i64),
        revision in prop::option::of(0..8i64), latest in prop::option::of(any::<i64>()), at in 0..100_000i64,
    ) {
        let deployment: ModelDeployment = serde_json::from_str(&json!({
            "apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment",
            "metadata": {"name": "d", "namespace": "ns", "uid": UID, "resourceVersion": "1", "generation": 3},
            "spec": spec,
            "status": {"observedGeneration": 2, "stableRevision": stable, "revision": revision, "latestRevision": latest},
        }).to_string()).expect("what the CRD admits is read");
        let plan = decide(&deployment, &observed, &Memory::default(), seconds(at));
        prop_assert!(plan.actions.len() <= 20, "{} actions", plan.actions.len());
        prop_assert!(plan.status.revisions.len() <= MAX_LISTED_REVISIONS);
        prop_assert!(plan.status.message.as_ref().is_some_and(|message| message.len() <= 2_048));
        prop_assert!(serde_json::to_string(&plan.status).unwrap().len() < 64 * 1024);
        // What was decided is a status that is read again, and decided upon again.
        let mut again = deployment.clone();
        again.status = Some(plan.status);
        decide(&again, &observed, &Memory::default(), seconds(at + 1));
    }
}
