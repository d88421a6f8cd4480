//! ModelDeployments on fake nodes: revisions, undo, scaling, and what is left of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::sleep;
use trainyard::names;

use crate::manifest::Serving;
use crate::objects::{
    AUTOSCALERS, BUDGETS, DEPLOYMENTS, MODEL_DEPLOYMENTS, PODS, REVISIONS, SERVICES, SERVING_CHILDREN, holds, is_live,
    label, message, name, owner, text, uid,
};
use crate::space::Space;
use crate::wait::eventually;

const IMAGE: &str = "spec.template.spec.containers.0.image";

/// A deployment of two pods with this image.
fn with_image(image: &str) -> Serving {
    Serving::new("digits", 2).set(IMAGE, image)
}

/// Pods that each Deployment of `digits` should have, by revision.
async fn shares(space: &Space) -> Result<Vec<(String, i64)>> {
    let deployments = space.objects.list(DEPLOYMENTS, "trainyard.dev/deployment=digits").await?;
    let share = |child: &Value| {
        (label(child, "trainyard.dev/revision").to_owned(), child["spec"]["replicas"].as_i64().unwrap_or(-1))
    };
    Ok(deployments.iter().map(share).collect())
}

async fn ensure_shares(space: &Space, expected: &[(&str, i64)]) -> Result<()> {
    let shares = shares(space).await?;
    let found: Vec<(&str, i64)> = shares.iter().map(|(revision, pods)| (revision.as_str(), *pods)).collect();
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

pub(crate) async fn revisions_follow_each_other_and_can_be_gone_back_to(space: Space) -> Result<()> {
    space.submit(&with_image("example/server:1")).await?;
    let first = space.until_serving("digits").await?;
    let status = &first["status"];
    ensure!(status["revision"] == 1 && status["stableRevision"] == 1 && status["summary"] == "2/2", "{status}");
    ensure!(status["url"] == format!("http://digits.{}.svc", space.namespace), "{status}");
    let service = space.objects.get(SERVICES, "digits").await?;
    ensure!(
        service["spec"]["ports"][0]["port"] == 80 && service["spec"]["ports"][0]["targetPort"] == "trainyard",
        "{service}"
    );
    let budgets = space.objects.list(BUDGETS, "trainyard.dev/deployment=digits").await?;
    ensure!(budgets.len() == 1 && budgets[0]["spec"]["maxUnavailable"] == 1, "{budgets:?}");

    space.change(&with_image("example/server:2")).await?;
    let second = space.until_serving("digits").await?;
    ensure!(second["status"]["stableRevision"] == 2, "{}", second["status"]);
    ensure_shares(&space, &[("1", 0), ("2", 2)]).await?;
    let change = text(&second, "/status/revisions/1/change");
    ensure!(change == "template.spec.containers[0].image: example/server:1 -> example/server:2", "{change}");
    let line = space.kubectl(&["get", "md", "digits", "--no-headers"]).await?.good()?;
    ensure!(line.contains("Serving") && line.contains("2/2") && line.contains("all 2 pods serve revision 2"), "{line}");
    let records = space.kubectl(&["get", "controllerrevisions", "--no-headers"]).await?.good()?;
    ensure!(records.lines().count() == 2, "{records}");

    space.change(&with_image("example/server:2").set("spec.rollout.undoTo", 1)).await?;
    let undone = space.until_serving("digits").await?;
    ensure!(undone["status"]["revision"] == 1, "{}", undone["status"]);
    ensure_shares(&space, &[("1", 2), ("2", 0)]).await?;
    space.change(&with_image("example/server:1").set("spec.rollout", Value::Null)).await?;
    let back = space.until_serving("digits").await?;
    ensure!(back["status"]["revision"] == 1 && back["status"]["latestRevision"] == 2, "{}", back["status"]);

    space.change(&with_image("example/server:3").set("spec.revisionHistoryLimit", 0)).await?;
    let third = space.until_serving("digits").await?;
    ensure!(third["status"]["revision"] == 3, "numbers are not given twice: {}", third["status"]);
    eventually("the others are forgotten", async || {
        ensure_shares(&space, &[("3", 2)]).await?;
        let records = space.objects.list(REVISIONS, "trainyard.dev/deployment=digits").await?;
        ensure!(records.len() == 1, "{} records", records.len());
        Ok(())
    })
    .await?;
    ensure!(third["metadata"]["generation"] == 5, "nothing of ours writes a spec: {}", third["metadata"]);
    let events = space.kubectl(&["events", "--for", "md/digits", "--no-headers"]).await?.good()?;
    let told = |reason: &str| events.lines().filter(|line| line.contains(reason)).count();
    ensure!(told("Serving") == 4 && told("RollingOut") == 3 && told("Warning") == 0, "{events}");
    Ok(())
}

pub(crate) async fn people_and_autoscalers_scale_it(space: Space) -> Result<()> {
    space.submit(&with_image("example/server:1")).await?;
    space.until_serving("digits").await?;
    space.kubectl(&["scale", "md", "digits", "--replicas=3"]).await?.good()?;
    space.until_serving("digits").await?;
    ensure_shares(&space, &[("1", 3)]).await?;

    // It has no metrics to go by, and raises what is below its minimum all the same.
    let target = json!({"apiVersion": "trainyard.dev/v1alpha1", "kind": "ModelDeployment", "name": "digits"});
    let scaler =
        json!({"metadata": {"name": "digits"}, "spec": {"scaleTargetRef": target, "minReplicas": 5, "maxReplicas": 7}});
    space.objects.create(AUTOSCALERS, &scaler).await?;
    let raised = |deployment: &Value| deployment["status"]["summary"] == "5/5" && holds(deployment, "Ready");
    let deployment = space.until(MODEL_DEPLOYMENTS, "digits", "the autoscaler is followed", raised).await?;
    ensure!(deployment["spec"]["replicas"] == 5, "{}", deployment["spec"]);
    // A new revision keeps what the autoscaler asks for.
    space.change(&with_image("example/server:2").set("spec.replicas", 5)).await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(
        deployment["spec"]["replicas"] == 5 && deployment["status"]["summary"] == "5/5",
        "{}",
        deployment["status"]
    );
    space.objects.delete(AUTOSCALERS, "digits").await?;

    space.kubectl(&["scale", "md", "digits", "--replicas=0"]).await?.good()?;
    let asleep = space.until_deployment("digits", "ScaledToZero").await?;
    ensure!(holds(&asleep, "Ready") && holds(&asleep, "Available"), "{}", asleep["status"]);
    space.until_none_of(&[BUDGETS], "trainyard.dev/deployment").await
}

/// A revision whose image cannot be pulled is given up; the one before it never loses a pod, and a third one follows.
pub(crate) async fn a_revision_that_never_starts_leaves_the_old_one_serving(space: Space) -> Result<()> {
    let good = |image| with_image(image).set("spec.rollout.progressDeadline", "3s");
    space.submit(&good("example/server:1")).await?;
    space.until_serving("digits").await?;
    let pods = |space: &Space| {
        let objects = space.objects.clone();
        async move {
            let pods = objects.list(PODS, "trainyard.dev/revision=1").await?;
            let mut uids: Vec<String> = pods.iter().filter(|pod| is_live(pod)).map(|pod| uid(pod).to_owned()).collect();
            uids.sort();
            anyhow::Ok(uids)
        }
    };
    let before = pods(&space).await?;
    space.change(&good("example/server:2").fake("waiting-reason", "ImagePullBackOff")).await?;
    let deployment = space.until_deployment("digits", "ImageNotPulled").await?;
    ensure!(holds(&deployment, "Reconciling") && holds(&deployment, "Available"), "{}", deployment["status"]);
    let deployment = space.until_deployment("digits", "RolloutFailed").await?;
    ensure!(holds(&deployment, "Stalled") && holds(&deployment, "Available"), "{}", deployment["status"]);
    for words in ["revision 2 was given up", "container server: ImagePullBackOff", "revision 1 serves with 2 of 2 pods"]
    {
        ensure!(message(&deployment).contains(words), "no {words:?} in {}", message(&deployment));
    }
    eventually("revision 2 has no pods", async || ensure_shares(&space, &[("1", 2), ("2", 0)]).await).await?;
    ensure!(pods(&space).await? == before, "revision 1 lost pods");

    let mended = with_image("example/server:3")
        .set("spec.rollout.progressDeadline", "5m")
        .annotated("fake.trainyard.dev/waiting-reason", "");
    let mut mended = mended.value().clone();
    mended["spec"]["template"]["metadata"] = Value::Null;
    space.change(&Serving::from(mended)).await?;
    let third = space.until_serving("digits").await?;
    ensure!(third["status"]["stableRevision"] == 3 && third["status"]["rollout"].is_null(), "{}", third["status"]);
    ensure!(third["status"]["failure"].is_null(), "{}", third["status"]);
    Ok(())
}

/// What the second has is taken back before the third begins.
pub(crate) async fn a_third_revision_starts_from_the_stable_one(space: Space) -> Result<()> {
    let slow = |image| with_image(image).set("spec.replicas", 4).fake("start-after", "2s");
    space.submit(&slow("example/server:1")).await?;
    space.until_serving("digits").await?;
    space.change(&slow("example/server:2")).await?;
    eventually("two pods of the second serve", async || {
        let shares = shares(&space).await?;
        ensure!(shares.iter().any(|(revision, pods)| revision == "2" && *pods >= 2), "{shares:?}");
        Ok(())
    })
    .await?;
    space.change(&slow("example/server:3")).await?;
    eventually("the third begins", async || {
        let shares = shares(&space).await?;
        let of = |wanted: &str| shares.iter().find(|(revision, _)| revision == wanted).map_or(0, |(_, pods)| *pods);
        ensure!(of("3") > 0 && of("2") == 0, "{shares:?}");
        ensure!(of("1") >= 3, "the first is not back: {shares:?}");
        Ok(())
    })
    .await?;
    let third = space.until_serving("digits").await?;
    ensure!(third["status"]["stableRevision"] == 3, "{}", third["status"]);
    ensure_shares(&space, &[("1", 0), ("2", 0), ("3", 4)]).await
}

pub(crate) async fn a_deployment_deleted_at_any_moment_leaves_nothing(space: Space) -> Result<()> {
    let lives = (0..6_u32).map(|number| {
        let space = &space;
        async move {
            let name = format!("short-{number}");
            space.submit(&Serving::new(&name, 1 + number % 3)).await?;
            sleep(Duration::from_millis(rand::random_range(0..1_500))).await;
            space.change(&Serving::new(&name, 1 + number % 3).set(IMAGE, "example/server:2")).await?;
            sleep(Duration::from_millis(rand::random_range(0..1_500))).await;
            space.objects.delete(MODEL_DEPLOYMENTS, &name).await
        }
    });
    try_join_all(lives).await?;
    space.until_none_of(&SERVING_CHILDREN, "trainyard.dev/deployment").await
}

/// Deleted and made again at once: the Service of the past self is waited for, and nothing else of it is met.
pub(crate) async fn a_deployment_made_again_never_meets_its_past_self(space: Space) -> Result<()> {
    space.submit(&with_image("example/server:1")).await?;
    space.until_serving("digits").await?;
    // Something outside holds the Service, as a cloud's load balancer does.
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    space.objects.patch(SERVICES, "digits", &held).await?;
    space.objects.delete(MODEL_DEPLOYMENTS, "digits").await?;
    let present = space.submit(&with_image("example/server:2")).await?;
    let waits = |deployment: &Value| message(deployment).contains("belongs to an earlier deployment of the same name");
    let deployment = space.until(MODEL_DEPLOYMENTS, "digits", "it waits for the Service", waits).await?;
    ensure!(holds(&deployment, "Reconciling") && !holds(&deployment, "Stalled"), "{}", deployment["status"]);
    space.objects.patch(SERVICES, "digits", &json!({"metadata": {"finalizers": null}})).await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(deployment["status"]["revision"] == 1, "{}", deployment["status"]);
    for kind in [DEPLOYMENTS, SERVICES, BUDGETS, REVISIONS] {
        eventually("its past self is gone", async || {
            let children = space.objects.list(kind, "trainyard.dev/deployment=digits").await?;
            ensure!(!children.is_empty(), "there is none");
            ensure!(children.iter().all(|child| owner(child) == uid(&present)), "some are left");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn deployments_with_names_of_63_characters_do_not_collide(space: Space) -> Result<()> {
    let prefix = format!("a{}", "-long-name".repeat(7));
    let names = ["x", "y"].map(|last| format!("{}{last}", &prefix[..62]));
    for name in &names {
        space.submit(&Serving::new(name, 2)).await?;
    }
    for name in &names {
        let deployment = space.until_serving(name).await?;
        let expected = names::revision(name, uid(&deployment), 1);
        ensure!(space.objects.get(DEPLOYMENTS, &expected).await?["spec"]["replicas"] == 2, "{expected}");
    }
    Ok(())
}

/// A revision's Deployment is not for editing: what it says would not be what its record says.
pub(crate) async fn a_revision_never_changes(space: Space) -> Result<()> {
    space.submit(&with_image("example/server:1")).await?;
    let deployments = eventually("its Deployment is there", async || {
        let deployments = space.objects.list(DEPLOYMENTS, "trainyard.dev/deployment=digits").await?;
        ensure!(!deployments.is_empty(), "there is none");
        Ok(deployments)
    })
    .await?;
    let child = name(deployments.first().context("no Deployment")?);
    let said = space.kubectl(&["set", "image", &format!("deploy/{child}"), "server=example/server:9"]).await?;
    ensure!(!said.ok && said.err.contains("edit ModelDeployment digits"), "{}{}", said.out, said.err);
    let record = json!({"data": {"model": {"uri": "pvc://another/model"}}});
    ensure!(space.objects.patch(REVISIONS, child, &record).await.is_err(), "a record was changed");
    // Its number of pods is the operator's.
    space.kubectl(&["scale", "deploy", child, "--replicas=7"]).await?.good()?;
    eventually("the number of pods is as it should be", async || ensure_shares(&space, &[("1", 2)]).await).await
}
