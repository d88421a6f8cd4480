//! ModelDeployments that cannot be, or not yet: each with field, value and remedy.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;
use trainyard::names;

use crate::manifest::Serving;
use crate::objects::{
    BUDGETS, CLAIMS, DEPLOYMENTS, Kind, MODEL_DEPLOYMENTS, NAMESPACES, REVISIONS, SERVICES, VOLUMES, condition, holds,
    is_observed, message, name, state, uid,
};
use crate::space::Space;
use crate::wait::eventually_within;

/// A name that is taken is looked at again every minute.
const UNTIL_FREED: Duration = Duration::from_secs(90);
const CONTAINER: &str = "spec.template.spec.containers.0";

/// A manifest, and what `kubectl apply` must say about it: the field, and what to do.
type Case = (&'static str, Serving, &'static [&'static str]);

/// Every case is one change to a deployment that would be taken.
fn bad_specs() -> Vec<Case> {
    let bad = || Serving::new("bad", 2);
    let two = json!([{"name": "server", "ports": [{"containerPort": 8080}]}, {"name": "proxy"}]);
    let env = json!([{"name": "TRAINYARD_REVISION", "value": "0"}]);
    vec![
        ("-1 replicas", bad().set("spec.replicas", -1), &["spec.replicas", "-1", "greater than or equal to 0"]),
        ("1001 replicas", bad().set("spec.replicas", 1_001), &["spec.replicas", "less than or equal to 1000"]),
        (
            "no port",
            bad().set(&format!("{CONTAINER}.ports"), json!([])),
            &["containers", "name the port", "containerPort"],
        ),
        ("two containers", bad().set("spec.template.spec.containers", two), &["default-container", "serves"]),
        ("a scheme", bad().set("spec.model.uri", "s3://a/b"), &["spec.model.uri", "s3://a/b", "pvc://CLAIM/PATH"]),
        ("..", bad().set("spec.model.uri", "pvc://a/../b"), &["spec.model.uri", "pvc://a/../b", ".."]),
        ("env", bad().set(&format!("{CONTAINER}.env"), env), &["env", "TRAINYARD_REVISION", "remove it"]),
        ("restarts", bad().set("spec.template.spec.restartPolicy", "Never"), &["restartPolicy", "Always or left out"]),
        (
            "no room",
            bad().set("spec.rollout", json!({"maxSurge": 0, "maxUnavailable": 0})),
            &["maxUnavailable", "maxSurge"],
        ),
        ("surge", bad().set("spec.rollout.maxSurge", "lots"), &["spec.rollout.maxSurge", "lots", "25%"]),
        ("undo", bad().set("spec.rollout.undoTo", 0), &["spec.rollout.undoTo", "greater than or equal to 1"]),
        (
            "a selector's label",
            bad().set("spec.template.metadata.labels", json!({"trainyard.dev/revision": "9"})),
            &["spec.template.metadata", "trainyard.dev/revision", "remove it"],
        ),
        (
            "a digit first",
            bad().set("metadata.name", "1bad"),
            &["name", "start with a letter", "rename the deployment"],
        ),
    ]
}

pub(crate) async fn bad_deployments_are_refused_with_field_and_remedy(space: Space) -> Result<()> {
    let mut wrong = Vec::new();
    for (what, deployment, words) in bad_specs() {
        let said = space.kubectl_with(&["apply", "-f", "-"], &deployment.value().to_string()).await?;
        let missing: Vec<&str> = words.iter().copied().filter(|word| !said.err.contains(word)).collect();
        if said.ok || !missing.is_empty() {
            wrong.push(format!("{what}: taken: {}, without {missing:?}: {}{}", said.ok, said.out, said.err));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(space.objects.list(MODEL_DEPLOYMENTS, "").await?.is_empty(), "a bad deployment is stored");
    Ok(())
}

/// What is wrong only in view of what there is.
pub(crate) async fn an_undo_that_cannot_be_is_told_and_what_serves_goes_on(space: Space) -> Result<()> {
    let undo = |number: i64| Serving::new("digits", 1).set("spec.rollout.undoTo", number);
    space.submit(&Serving::new("digits", 1)).await?;
    let before = space.until_serving("digits").await?;
    space.change(&undo(1)).await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(message(&deployment).contains("say the same by now: remove it"), "{}", message(&deployment));
    space.change(&undo(7)).await?;
    let deployment = space.until_deployment("digits", "Invalid").await?;
    ensure!(holds(&deployment, "Stalled") && holds(&deployment, "Available"), "{}", deployment["status"]);
    let said = message(&deployment);
    ensure!(said == "spec.rollout.undoTo: 7: no other revision is kept: remove undoTo", "{said}");
    ensure!(deployment["status"]["availableReplicas"] == before["status"]["availableReplicas"], "{said}");
    space.change(&undo(1).set("spec.rollout", Value::Null)).await?;
    space.until_serving("digits").await.map(drop)
}

/// One deployment for each kind of child; each finds another's object under the name that the child would have.
pub(crate) async fn a_foreign_object_under_a_revisions_name_is_left_alone(space: Space) -> Result<()> {
    let kinds = [("service", SERVICES), ("pods", DEPLOYMENTS), ("record", REVISIONS), ("budget", BUDGETS)];
    let mut planted = Vec::new();
    for (what, kind) in kinds {
        // It cannot be undone yet, so that its children's names are known before it makes them.
        let deployment = Serving::new(&format!("robbed-of-{what}"), 2).set("spec.rollout.undoTo", 7);
        let deployment_uid = uid(&space.submit(&deployment).await?).to_owned();
        let foreign = space.objects.create(kind, &foreign(deployment.name(), &deployment_uid, kind)).await?;
        space.change(&deployment.clone().set("spec.rollout", Value::Null)).await?;
        planted.push((deployment, kind, foreign));
    }
    for (deployment, _, foreign) in &planted {
        let deployment = space.until_deployment(deployment.name(), "NameTaken").await?;
        ensure!(
            holds(&deployment, "Stalled") && message(&deployment).contains(name(foreign)),
            "{}",
            deployment["status"]
        );
        ensure!(message(&deployment).contains("delete it or rename the deployment"), "{}", message(&deployment));
    }
    for (_, kind, foreign) in &planted {
        let now = space.objects.get(*kind, name(foreign)).await?;
        ensure!(uid(&now) == uid(foreign) && now["metadata"]["ownerReferences"].is_null(), "{}", now["metadata"]);
        ensure!(now["spec"] == foreign["spec"] && now["data"] == foreign["data"], "it was changed: {now}");
        space.objects.delete(*kind, name(foreign)).await?;
    }
    for (deployment, ..) in &planted {
        eventually_within(UNTIL_FREED, &format!("{} goes on", deployment.name()), async || {
            let deployment = space.objects.get(MODEL_DEPLOYMENTS, deployment.name()).await?;
            ensure!(state(&deployment) == "Serving", "{}", message(&deployment));
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Somebody else's object with the name of a child of the deployment.
fn foreign(deployment: &str, deployment_uid: &str, kind: Kind) -> Value {
    let revision = names::revision(deployment, deployment_uid, 1);
    let selector = json!({"matchLabels": {"app": "other"}});
    if kind == SERVICES {
        json!({"metadata": {"name": deployment}, "spec": {"ports": [{"port": 80}]}})
    } else if kind == REVISIONS {
        json!({"metadata": {"name": revision}, "revision": 1, "data": {"other": true}})
    } else if kind == BUDGETS {
        let family = names::family(deployment, deployment_uid);
        json!({"metadata": {"name": family}, "spec": {"maxUnavailable": 1, "selector": selector}})
    } else {
        let pod = json!({"containers": [{"name": "other", "image": "example/other:1"}]});
        let template = json!({"metadata": {"labels": {"app": "other"}}, "spec": pod});
        json!({"metadata": {"name": revision}, "spec": {"replicas": 0, "selector": selector, "template": template}})
    }
}

/// A template that the apiserver will not take, and pods that it will not make.
pub(crate) async fn what_the_apiserver_refuses_is_told_in_its_own_words(space: Space) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    space.cluster().patch(NAMESPACES, &space.namespace, &json!({"metadata": {"labels": labels}})).await?;
    space.submit(&Serving::new("typo", 1).set(&format!("{CONTAINER}.imagee"), "x")).await?;
    space.submit(&Serving::new("rooted", 1)).await?;
    space.submit(&Serving::new("modest", 1).restricted()).await?;
    let typo = space.until_deployment("typo", "Refused").await?;
    ensure!(holds(&typo, "Stalled") && message(&typo).contains("imagee"), "{}", typo["status"]);
    let rooted = space.until_deployment("rooted", "PodsRefused").await?;
    ensure!(message(&rooted).contains("violates PodSecurity \"restricted:latest\""), "{}", message(&rooted));
    // Nothing that the operator adds breaks the rules.
    if space.suite.has_fake_nodes {
        space.until_serving("modest").await?;
    }
    space.change(&Serving::new("typo", 1).restricted().set(&format!("{CONTAINER}.imagee"), Value::Null)).await?;
    let mended = |deployment: &Value| is_observed(deployment) && !holds(deployment, "Stalled");
    space.until(MODEL_DEPLOYMENTS, "typo", "it is mended", mended).await.map(drop)
}

/// A claim that is not there yet, and one that two pods cannot share.
pub(crate) async fn a_missing_claim_is_named_and_waited_for(space: Space) -> Result<()> {
    let deployment = Serving::new("digits", 2).set("spec.model.uri", "pvc://models/digits/7");
    space.submit(&deployment).await?;
    let told = space.until_deployment("digits", "ClaimNotFound").await?;
    ensure!(holds(&told, "Reconciling") && !holds(&told, "Stalled"), "{}", told["status"]);
    for words in ["spec.model.uri", "pvc://models/digits/7", "no PersistentVolumeClaim models", "make it"] {
        ensure!(message(&told).contains(words), "{}", message(&told));
    }
    let volume = format!("{}-models", space.namespace);
    let modes = json!(["ReadWriteOnce"]);
    let claim = json!({"name": "models", "namespace": space.namespace});
    let size = json!({"storage": "1Gi"});
    let spec = json!({"accessModes": modes, "capacity": size, "claimRef": claim, "hostPath": {"path": "/nowhere"}});
    space.cluster().create(VOLUMES, &json!({"metadata": {"name": volume}, "spec": spec})).await?;
    let spec =
        json!({"accessModes": modes, "storageClassName": "", "volumeName": volume, "resources": {"requests": size}});
    space.objects.create(CLAIMS, &json!({"metadata": {"name": "models"}, "spec": spec})).await?;
    let outcome = space.until_serving("digits").await;
    space.cluster().delete(VOLUMES, &volume).await?;
    let served = outcome?;
    ensure!(served["status"]["summary"] == "2/2", "{}", served["status"]);
    // A claim that was missing is looked at every 15 s.
    let warned = |deployment: &Value| message_of(deployment, "ClaimNotShareable").contains("ReadWriteOnce");
    space.until(MODEL_DEPLOYMENTS, "digits", "it is warned", warned).await?;
    let events = space.kubectl(&["events", "--for", "md/digits", "--no-headers"]).await?.good()?;
    ensure!(events.contains("ClaimNotShareable"), "{events}");
    space.change(&deployment.set("spec.replicas", 1).set("spec.rollout.maxSurge", 0)).await?;
    let alone = |deployment: &Value| is_observed(deployment) && condition(deployment, "ClaimNotShareable").is_null();
    space.until(MODEL_DEPLOYMENTS, "digits", "one pod shares with nobody", alone).await.map(drop)
}

fn message_of<'a>(deployment: &'a Value, type_: &str) -> &'a str {
    condition(deployment, type_)["message"].as_str().unwrap_or_default()
}

const DEPLOYED: u32 = 6;
const KILLS: u32 = 6;

/// The operator is killed while revisions replace each other; what comes of it is what would have come of it anyway.
pub(crate) async fn crashes_while_revisions_change_alter_no_outcome(space: Space) -> Result<()> {
    let deployment = |number: u32, version: u32| {
        let image = format!("example/server:{version}");
        let deployment =
            Serving::new(&format!("served-{number}"), 1 + number % 4).set(&format!("{CONTAINER}.image"), image);
        deployment.fake("start-after", "300ms").set("spec.rollout.progressDeadline", "8s")
    };
    for number in 0..DEPLOYED {
        space.submit(&deployment(number, 1)).await?;
    }
    for number in 0..DEPLOYED {
        space.until_serving(&format!("served-{number}")).await?;
    }
    for kill in 0..KILLS {
        for number in (0..DEPLOYED).filter(|number| number % 2 == kill % 2) {
            space.change(&deployment(number, 2 + kill)).await?;
        }
        sleep(Duration::from_millis(rand::random_range(100..1_500))).await;
        space.suite.kill_operator().await;
        space.suite.ensure_operator().await?;
    }
    // The last of each: every third never starts.
    let fails = |number: u32| number.is_multiple_of(3);
    for number in 0..DEPLOYED {
        let last = deployment(number, 99);
        let last = if fails(number) { last.fake("waiting-reason", "ErrImagePull") } else { last };
        space.until_serving(&format!("served-{number}")).await?;
        space.change(&last).await?;
    }
    sleep(Duration::from_millis(rand::random_range(100..1_500))).await;
    space.suite.kill_operator().await;
    space.suite.ensure_operator().await?;
    for number in 0..DEPLOYED {
        let name = format!("served-{number}");
        let expected = if fails(number) { "RolloutFailed" } else { "Serving" };
        let ended = space.until_deployment(&name, expected).await?;
        let replicas = 1 + number % 4;
        let full = |deployment: &Value| deployment["status"]["summary"] == format!("{replicas}/{replicas}");
        ensure!(full(&ended), "{name}: {}", ended["status"]);
        // One revision of each kill that concerned it, the first, and the last: none was made twice.
        let made = KILLS.div_ceil(2) + 2;
        ensure!(ended["status"]["latestRevision"] == made, "{name}: {}", ended["status"]);
    }
    Ok(())
}
