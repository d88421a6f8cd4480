//! Every file of config/samples, applied as it is and followed to its end.
//!
//! Images that would have to be pulled are on the real node under the samples' own references; the sample that wants
//! GPUs runs on fake nodes, which have some.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use e2e::install::read;
use e2e::operator::source_tree;
use serde_json::{Value, json};

use crate::objects::{MODEL_DEPLOYMENTS, NAMESPACES, PODS, RUNS, holds, is_observed, message, name, state, text};
use crate::scenarios::serving_real::write_models;
use crate::space::Space;
use crate::wait::eventually;

const FOLDER: &str = "config/samples";
/// The images of samples, and those that stand in for them here.
const STAND_INS: [(&str, Image); 2] =
    [("docker.io/library/python:3.13-slim", Image::Digits), ("docker.io/library/busybox:1.37", Image::Base)];

/// The files of the folder, and those that tests have followed.
pub(crate) async fn every_sample_has_come_to_its_end(space: Space) -> Result<()> {
    if !space.suite.complete {
        println!("whether every sample was followed was not checked: only some tests run");
        return Ok(());
    }
    let entries = fs::read_dir(source_tree().join(FOLDER)).context(FOLDER)?;
    let found: BTreeSet<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let followed = space.suite.followed();
    ensure!(found == followed, "samples {found:?}, followed {followed:?}");
    Ok(())
}

/// Four pods with eight GPUs each.
pub(crate) async fn gpus_by_the_dozen(space: Space) -> Result<()> {
    apply(&space, "torch.yaml").await?;
    space.until_state("resnet", "Succeeded").await?;
    space.suite.note_followed("torch.yaml");
    Ok(())
}

pub(crate) async fn jobs_deployments_and_runs(space: Space) -> Result<()> {
    send_pods_to_the_real_node(&space).await?;
    let samples = ["hello.yaml", "with-sidecar.yaml", "serve.yaml", "pipeline.yaml"];
    for sample in samples {
        apply(&space, sample).await?;
    }
    let hello = space.until_state("hello", "Succeeded").await?;
    ensure!(hello["status"]["results"]["accuracy"] == 0.97, "{}", hello["status"]);
    space.until_state("with-sidecar", "Succeeded").await?;
    space.until_serving("hello-serving").await?;
    let run = run_sample(&space, "pipeline-run.yaml").await?;
    ensure!(message(&run).contains("2 of 2"), "{}", message(&run));
    samples.iter().for_each(|sample| space.suite.note_followed(sample));
    Ok(())
}

/// Creates a run and answers it once it has succeeded.
async fn run_sample(space: &Space, sample: &str) -> Result<Value> {
    let created =
        space.objects.create(RUNS, read(&format!("{FOLDER}/{sample}"))?.first().context("an empty sample")?).await?;
    let over = space.until(RUNS, name(&created), "the run is over", |run| holds(run, "Finished")).await?;
    ensure!(state(&over) == "Succeeded", "{}", message(&over));
    space.suite.note_followed(sample);
    Ok(over)
}

pub(crate) async fn a_model_from_a_claim(space: Space) -> Result<()> {
    send_pods_to_the_real_node(&space).await?;
    write_models(&space, &[7]).await?;
    apply(&space, "serve-from-claim.yaml").await?;
    space.until_serving("digits").await?;
    space.suite.note_followed("serve-from-claim.yaml");
    Ok(())
}

/// The samples that `cargo demo` runs, from the data to the served model.
pub(crate) async fn the_loop_of_the_demo(space: Space) -> Result<()> {
    send_pods_to_the_real_node(&space).await?;
    apply(&space, "digits-pipeline.yaml").await?;
    run_sample(&space, "digits-run.yaml").await?;
    let serves = |deployment: &Value| is_observed(deployment) && holds(deployment, "Ready");
    space.until(MODEL_DEPLOYMENTS, "digits", "its model is served", serves).await?;
    space.suite.note_followed("digits-pipeline.yaml");
    Ok(())
}

async fn apply(space: &Space, sample: &str) -> Result<()> {
    let path = source_tree().join(FOLDER).join(sample);
    space.kubectl(&["apply", "-f", &path.to_string_lossy()]).await?.good().map(drop)
}

/// Has the apiserver send every pod of this namespace to the real node, so that samples can stay as they are.
async fn send_pods_to_the_real_node(space: &Space) -> Result<()> {
    let placement = space.placement();
    let host = text(&placement, "/nodeSelector/kubernetes.io~1hostname");
    let annotations = json!({
        "scheduler.alpha.kubernetes.io/node-selector": format!("kubernetes.io/hostname={host}"),
        "scheduler.alpha.kubernetes.io/defaultTolerations": placement["tolerations"].to_string(),
    });
    space.cluster().patch(NAMESPACES, &space.namespace, &json!({"metadata": {"annotations": annotations}})).await?;
    let cluster = space.suite.cluster_with_node().await?;
    for (reference, image) in STAND_INS {
        cluster.node().await?.tag(&image.reference(), reference).await?;
    }
    let container = json!({"name": "main", "image": "example/none:1"});
    let pod = json!({"metadata": {"name": "where"}, "spec": {"containers": [container]}});
    eventually("pods go to the real node", async || {
        let admitted = space.objects.create(PODS, &pod).await?;
        space.objects.delete(PODS, "where").await?;
        ensure!(!text(&admitted, "/spec/nodeSelector/kubernetes.io~1hostname").is_empty(), "{}", admitted["spec"]);
        Ok(())
    })
    .await
}
