//! What serves goes on, whatever is wrong with what is to follow it: cases that were met in other systems.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::manifest::Serving;
use crate::objects::{
    DEPLOYMENTS, MODEL_DEPLOYMENTS, MUTATING_BINDINGS, MUTATING_POLICIES, PODS, SERVICES, holds, is_live, label,
    message, name, state, uid,
};
use crate::space::{Space, now};
use crate::wait::eventually;

const CONTAINER: &str = "spec.template.spec.containers.0";
/// The apiserver takes a moment to notice a policy.
const UNTIL_IN_FORCE: Duration = Duration::from_secs(5);

fn model(version: &str, replicas: u32) -> Serving {
    Serving::new("digits", replicas).annotated("model", version)
}

/// Pods of `digits` that are not about to go: their model, their UID.
async fn live_pods(space: &Space) -> Result<Vec<(String, String)>> {
    let pods = space.objects.list(PODS, "trainyard.dev/deployment=digits").await?;
    let told = |pod: &Value| {
        let model = pod["metadata"]["annotations"]["model"].as_str().unwrap_or_default();
        (model.to_owned(), uid(pod).to_owned())
    };
    let mut pods: Vec<_> = pods.iter().filter(|pod| is_live(pod)).map(told).collect();
    pods.sort();
    Ok(pods)
}

/// Cases 23 and 24.
pub(crate) async fn ports_with_and_without_names_work_on_the_host_too(space: Space) -> Result<()> {
    let ports = |name: &str, ports: Value| Serving::new(name, 1).set(&format!("{CONTAINER}.ports"), ports);
    let deployments = [
        ports("grpc-first", json!([{"containerPort": 9000}, {"containerPort": 8080, "name": "http"}])),
        ports(
            "many-ports",
            json!([{"containerPort": 9000, "name": "grpc"}, {"containerPort": 9090},
                {"containerPort": 9091, "name": "tcp-9090"}, {"containerPort": 8080, "name": "trainyard"}]),
        ),
        ports("on-the-host", json!([{"containerPort": 8080, "name": "http"}]))
            .set("spec.template.spec.hostNetwork", true)
            .set("spec.template.spec.dnsPolicy", "ClusterFirstWithHostNet"),
    ];
    for deployment in &deployments {
        space.submit(deployment).await?;
    }
    let expected = [
        ("grpc-first", "http-2 80 \"trainyard\", http 8080 \"http\""),
        (
            "many-ports",
            "grpc 80 \"grpc\", trainyard 8080 \"trainyard\", tcp-9090-2 9090 9090, tcp-9090 9091 \"tcp-9090\"",
        ),
        ("on-the-host", "http 80 \"http\""),
    ];
    for (name, expected) in expected {
        space.until_serving(name).await?;
        eventually("the Service has its ports", async || {
            let service = space.objects.get(SERVICES, name).await?;
            let mut ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
            ports.sort_by_key(|port| port["port"].as_i64());
            let told = |port: &&Value| {
                format!("{} {} {}", port["name"].as_str().unwrap_or_default(), port["port"], port["targetPort"])
            };
            let found = ports.iter().map(told).collect::<Vec<_>>().join(", ");
            ensure!(found == expected, "{name}: {found} instead of {expected}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Case 27.
pub(crate) async fn what_was_changed_while_asleep_wakes_as_the_new_revision(space: Space) -> Result<()> {
    let slow = |version: &str, replicas| model(version, replicas).fake("start-after", "3s");
    space.submit(&slow("one", 2)).await?;
    space.until_serving("digits").await?;
    space.kubectl(&["scale", "md", "digits", "--replicas=0"]).await?.good()?;
    space.until_deployment("digits", "ScaledToZero").await?;
    eventually("no pod is left", async || {
        ensure!(live_pods(&space).await?.is_empty(), "some are left");
        Ok(())
    })
    .await?;
    space.change(&slow("two", 0)).await?;
    space.until_deployment("digits", "ScaledToZero").await?;
    space.kubectl(&["scale", "md", "digits", "--replicas=2"]).await?.good()?;
    for _ in 0..20 {
        let pods = live_pods(&space).await?;
        ensure!(pods.iter().all(|(model, _)| model == "two"), "the old model is back: {pods:?}");
        sleep(Duration::from_millis(300)).await;
    }
    let woken = space.until_serving("digits").await?;
    ensure!(woken["status"]["stableRevision"] == 2, "{}", woken["status"]);
    Ok(())
}

/// Case 32, and a spec that no policy has refused.
pub(crate) async fn scaling_and_the_service_outlive_an_undo_that_cannot_be(space: Space) -> Result<()> {
    space.submit(&model("one", 2)).await?;
    space.until_serving("digits").await?;
    space.change(&model("two", 2)).await?;
    space.until_serving("digits").await?;
    space.change(&model("two", 2).set("spec.rollout.undoTo", 9)).await?;
    let invalid = space.until_deployment("digits", "Invalid").await?;
    let said = "spec.rollout.undoTo: 9: it is not kept: use 1, or remove undoTo";
    ensure!(message(&invalid) == said, "{}", message(&invalid));
    space.kubectl(&["scale", "md", "digits", "--replicas=4"]).await?.good()?;
    space.objects.delete(SERVICES, "digits").await?;
    let followed = |deployment: &Value| deployment["status"]["summary"] == "4/4" && state(deployment) == "Invalid";
    space.until(MODEL_DEPLOYMENTS, "digits", "scaling is followed", followed).await?;
    eventually("the Service is back", async || space.objects.get(SERVICES, "digits").await).await?;

    space.change(&model("two", 4).set("spec.rollout.undoTo", 1)).await?;
    space.until_serving("digits").await?;
    let before = live_pods(&space).await?;
    // Git catches up with the undo, and the undo is removed later.
    for undo in [json!(1), Value::Null] {
        space.change(&model("one", 4).set("spec.rollout.undoTo", undo)).await?;
        let deployment = space.until_serving("digits").await?;
        ensure!(deployment["status"]["revision"] == 1, "{}", deployment["status"]);
    }
    ensure!(live_pods(&space).await? == before, "pods were replaced");
    Ok(())
}

/// Case 29: this test plays the readiness probe of revision 2, which succeeds for 2 s of every 4.
pub(crate) async fn readiness_that_comes_and_goes_replaces_nothing_and_is_given_up(space: Space) -> Result<()> {
    let flapping =
        |version: &str| model(version, 3).set("spec.rollout", json!({"progressDeadline": "20s", "minReadySeconds": 6}));
    space.submit(&flapping("one")).await?;
    space.until_serving("digits").await?;
    space.change(&flapping("two")).await?;
    let (mut shares, mut moves) = (Vec::new(), 0);
    for round in 0..60 {
        let ready = if round % 4 < 2 { "True" } else { "False" };
        for pod in space.objects.list(PODS, "trainyard.dev/revision=2").await?.iter().filter(|pod| is_live(pod)) {
            if pod["status"]["phase"] != "Running" {
                continue;
            }
            let condition = |kind: &str| json!({"type": kind, "status": ready, "lastTransitionTime": now()});
            let patch = json!({"status": {"conditions": [condition("Ready"), condition("ContainersReady")]}});
            space.objects.patch(PODS, &format!("{}/status", name(pod)), &patch).await?;
        }
        let deployments = space.objects.list(DEPLOYMENTS, "trainyard.dev/deployment=digits").await?;
        let share =
            |child: &Value| (label(child, "trainyard.dev/revision").to_owned(), child["spec"]["replicas"].clone());
        let present: Vec<_> = deployments.iter().map(share).collect();
        let stable = present.iter().find(|(revision, _)| revision == "1");
        ensure!(stable.is_some_and(|(_, pods)| *pods == 3), "the stable revision gave way: {present:?}");
        moves += i32::from(present != shares);
        shares = present;
        if state(&space.objects.get(MODEL_DEPLOYMENTS, "digits").await?) == "RolloutFailed" {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let deployment = space.until_deployment("digits", "RolloutFailed").await?;
    ensure!(holds(&deployment, "Available"), "{}", deployment["status"]);
    ensure!(moves <= 4, "{moves} moves");
    Ok(())
}

/// Case 36. The policy is of the whole cluster, and matches this namespace alone.
pub(crate) async fn a_policy_that_edits_deployments_stops_nothing(space: Space) -> Result<()> {
    space.submit(&model("one", 2)).await?;
    space.until_serving("digits").await?;
    let before = live_pods(&space).await?;
    let policy = format!("cost-center-{}", space.namespace);
    let patch = "[JSONPatch{op: \"add\", path: \"/spec/template/metadata/labels/cost-center\", value: \"ml\"}]";
    let rules = json!([{
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"],
    }]);
    let cluster = space.cluster();
    let object = json!({
        "metadata": {"name": policy},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.namespace}},
                "resourceRules": rules,
            },
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        },
    });
    cluster.create(MUTATING_POLICIES, &object).await?;
    let binding = json!({"metadata": {"name": policy}, "spec": {"policyName": policy}});
    cluster.create(MUTATING_BINDINGS, &binding).await?;
    sleep(UNTIL_IN_FORCE).await;
    let outcome = governed(&space, &before).await;
    cluster.delete(MUTATING_BINDINGS, &policy).await?;
    cluster.delete(MUTATING_POLICIES, &policy).await?;
    outcome
}

/// Scaled up and down and replaced while the policy is in force.
async fn governed(space: &Space, before: &[(String, String)]) -> Result<()> {
    for replicas in [4, 1] {
        space.kubectl(&["scale", "md", "digits", &format!("--replicas={replicas}")]).await?.good()?;
        let scaled = format!("{replicas}/{replicas}");
        let is = |deployment: &Value| deployment["status"]["summary"] == *scaled && state(deployment) == "Serving";
        space.until(MODEL_DEPLOYMENTS, "digits", "scaling is followed", is).await?;
        let pods = live_pods(space).await?;
        let kept = before.iter().filter(|pod| pods.contains(pod)).count();
        ensure!(kept == before.len().min(replicas), "pods were replaced: {before:?}, then {pods:?}");
    }
    space.change(&model("two", 1)).await?;
    let second = space.until_serving("digits").await?;
    ensure!(second["status"]["stableRevision"] == 2, "{}", second["status"]);
    let governed = space.objects.list(PODS, "trainyard.dev/deployment=digits,cost-center=ml").await?;
    ensure!(governed.iter().any(is_live), "the policy has edited no pod");
    Ok(())
}
