//! ModelDeployments of a real inference server: replaced under load, crashing, with a model from a volume, deleted.

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use e2e::server::{INFER, container, predicted, question};
use e2e::steady_load::{SteadyLoad, Target};
use serde_json::{Value, json};

use crate::manifest::{Job, Serving};
use crate::objects::{
    CLAIMS, MODEL_DEPLOYMENTS, NAMESPACES, PODS, SERVING_CHILDREN, holds, is_live, is_observed, label, message, name,
    text, uid,
};
use crate::space::Space;
use crate::wait::eventually;

/// Requests in a second.
const RATE: u32 = 20;
const REPLACEMENTS: u32 = 10;

/// So many pods of the server, which name this version.
fn server(space: &Space, replicas: u32, version: &str) -> Serving {
    let container = container(&space.image(Image::Server), version);
    let serving = Serving::new("digits", replicas).set("spec.template.spec.containers.0", container);
    space.real(serving.restricted(), Image::Server)
}

/// The class of a sample, and the version that says so.
async fn infer(space: &Space, sample: &[i32]) -> Result<(i64, String)> {
    let answer = space.objects.ask("digits", INFER, &question(sample)).await?;
    Ok((predicted(&answer)?, text(&answer, "/model_version").to_owned()))
}

/// Two pods are replaced ten times while requests come in, and not one of those is dropped.
pub(crate) async fn replaced_under_load_without_a_lost_request(space: Space) -> Result<()> {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    space.cluster().patch(NAMESPACES, &space.namespace, &json!({"metadata": {"labels": labels}})).await?;
    space.submit(&server(&space, 2, "1")).await?;
    let deployment = space.until_serving("digits").await?;
    let target = Target {
        url: format!("{}{INFER}", text(&deployment, "/status/url").trim_end_matches('/')),
        body: question(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        rate: RATE,
        image: space.image(Image::Base),
        placement: space.placement(),
    };
    let load = SteadyLoad::start(&space.suite.client, &space.namespace, &target).await?;
    for replacement in 1..=REPLACEMENTS {
        let revision = replacement + 1;
        space.change(&server(&space, 2, &revision.to_string())).await?;
        let deployment = space.until_serving("digits").await?;
        let status = &deployment["status"];
        ensure!(status["stableRevision"] == revision && status["revision"] == revision, "{status}");
    }
    let figures = load.stop().await?;
    println!("{REPLACEMENTS} replacements of 2 pods -> {figures}");
    ensure!(figures.lost == 0 && figures.answered == figures.sent, "{figures:?}");
    ensure!(figures.versions.len() == REPLACEMENTS as usize + 1, "versions that answered: {:?}", figures.versions);
    Ok(())
}

/// A revision whose pods crash is given up; the one before it serves all along.
pub(crate) async fn a_revision_that_crashes_leaves_the_old_one_serving(space: Space) -> Result<()> {
    let impatient = |version| server(&space, 2, version).set("spec.rollout.progressDeadline", "20s");
    space.submit(&impatient("1")).await?;
    space.until_serving("digits").await?;
    let pods = ready_pods(&space, "1").await?;
    let bad = impatient("2").command(&["sh", "-c", "echo 'loading the weights'; echo 'KeyError: bias'; exit 3"]);
    space.change(&bad).await?;

    let given_up = |deployment: &Value| is_observed(deployment) && holds(deployment, "Stalled");
    let deployment = space.until(MODEL_DEPLOYMENTS, "digits", "revision 2 is given up", given_up).await?;
    let said = message(&deployment);
    ensure!(holds(&deployment, "Available") && !holds(&deployment, "Ready"), "{}", deployment["status"]);
    ensure!(["server", "code 3", "KeyError: bias"].iter().all(|words| said.contains(words)), "{said}");
    let status = &deployment["status"];
    ensure!(status["revision"] == 2 && status["stableRevision"] == 1, "{status}");
    ensure!(ready_pods(&space, "1").await? == pods && pods.len() == 2, "revision 1 lost pods");
    ensure!(infer(&space, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).await? == (1, "1".to_owned()), "another version answers");

    space.change(&bad.set("spec.rollout.undoTo", 1)).await?;
    space.until_serving("digits").await?;
    ensure!(ready_pods(&space, "1").await? == pods, "going back replaced pods");
    let patient = impatient("3").set("spec.rollout", json!({"undoTo": null, "progressDeadline": "5m"}));
    space.change(&patient).await?;
    space.until_serving("digits").await?;
    eventually("only the mended version answers", async || {
        let (_, version) = infer(&space, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await?;
        ensure!(version == "3", "{version} answers");
        Ok(())
    })
    .await
}

/// UIDs of the pods of a revision that are ready.
async fn ready_pods(space: &Space, revision: &str) -> Result<Vec<String>> {
    let pods = space.objects.list(PODS, "trainyard.dev/deployment=digits").await?;
    let chosen = pods.iter().filter(|pod| label(pod, "trainyard.dev/revision") == revision && holds(pod, "Ready"));
    let mut uids: Vec<String> = chosen.map(|pod| uid(pod).to_owned()).collect();
    uids.sort();
    Ok(uids)
}

/// Has a job write a model for each threshold to a folder of the claim `models`.
pub(crate) async fn write_models(space: &Space, thresholds: &[u32]) -> Result<()> {
    let claim = json!({
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    space.objects.create(CLAIMS, &claim).await?;
    let write = |threshold: &u32| {
        format!(
            "mkdir -p /models/digits/{threshold}
            echo '{{\"weights\": [[0, 0], [1, 1]], \"bias\": [{threshold}, 0]}}' > /models/digits/{threshold}/weights.json\n"
        )
    };
    let job = Job::new("trained")
        .shell(&thresholds.iter().map(write).collect::<String>())
        .set("spec.template.spec.volumes", json!([{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]))
        .set("spec.template.spec.containers.0.volumeMounts", json!([{"name": "m", "mountPath": "/models"}]));
    space.submit(&space.real(job, Image::Base)).await?;
    space.until_state("trained", "Succeeded").await.map(drop)
}

/// A job writes two models; each is served in its turn, and cannot be written to by what serves it.
pub(crate) async fn a_model_from_a_volume_is_served_read_only(space: Space) -> Result<()> {
    // Class 1 is for samples whose sum is above a threshold, which is 3 and 10.
    write_models(&space, &[3, 10]).await?;

    space.submit(&server(&space, 1, "low").set("spec.model.uri", "pvc://models/digits/3")).await?;
    space.until_serving("digits").await?;
    ensure!(infer(&space, &[2, 2]).await? == (1, "low".to_owned()), "4 is above 3");
    ensure!(infer(&space, &[1, 1]).await? == (0, "low".to_owned()), "2 is not above 3");
    let pods = space.objects.list(PODS, "trainyard.dev/deployment=digits").await?;
    let pod = pods.iter().find(|pod| is_live(pod)).context("no pod serves")?;
    let write = ["exec", name(pod), "--", "sh", "-c", "echo > $TRAINYARD_MODEL_DIR/weights.json"];
    let said = space.kubectl(&write).await?;
    ensure!(!said.ok && said.err.contains("Read-only file system"), "{}{}", said.out, said.err);

    space.change(&server(&space, 1, "high").set("spec.model.uri", "pvc://models/digits/10")).await?;
    space.until_serving("digits").await?;
    eventually("only the other model answers", async || {
        let (class, version) = infer(&space, &[2, 2]).await?;
        ensure!(version == "high" && class == 0, "{version} says {class}");
        Ok(())
    })
    .await
}

/// Whatever a deployment has made goes with it.
pub(crate) async fn a_deleted_server_leaves_nothing(space: Space) -> Result<()> {
    space.submit(&server(&space, 2, "1")).await?;
    space.until_serving("digits").await?;
    space.change(&server(&space, 2, "2")).await?;
    space.until_serving("digits").await?;
    for kind in SERVING_CHILDREN {
        // Otherwise it would be no wonder.
        ensure!(!space.objects.list(kind, "").await?.is_empty(), "it has made no {kind:?}");
    }
    space.objects.delete(MODEL_DEPLOYMENTS, "digits").await?;
    space.until_none_of(&SERVING_CHILDREN, "").await
}
