//! Real training: PyTorch DDP on two real pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use e2e::install::read;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::lifecycle::expect_events;
use crate::kubectl::Said;
use crate::manifest::Job;
use crate::objects::{CLAIMS, attempt, message, name, restarts, text};
use crate::space::Space;
use crate::wait::eventually_within;

const PATIENCE: Duration = Duration::from_secs(240);

/// The job that users are shown, as they would run it.
pub(crate) async fn two_pods_train_a_model(space: Space) -> Result<()> {
    let sample = read("config/samples/digits.yaml")?.into_iter().next().context("the sample is empty")?;
    space.submit(&space.real(Job::from(sample), Image::Digits)).await?;
    let job = until_over(&space, "digits").await?;
    let results = &job["status"]["results"];
    ensure!(results["accuracy"].as_f64().unwrap_or_default() > 0.93, "{}", job["status"]);
    ensure!(results["world"] == 2 && results["heldOut"] == 360, "{results}");
    ensure!(attempt(&job) == 1 && restarts(&job) == 0, "{}", job["status"]);
    expect_events(&space, "digits", &["Running", "Succeeded"]).await?;

    for rank in ["0", "1"] {
        let selector = format!("trainyard.dev/job=digits,trainyard.dev/rank={rank}");
        let Said { out, .. } = space.kubectl(&["logs", "-l", &selector, "--tail=-1"]).await?;
        ensure!(out.contains(&format!("rank {rank} of 2 has joined, attempt 1")), "rank {rank}: {out}");
        ensure!(out.contains("epoch 20") == (rank == "0"), "rank {rank}: {out}");
    }
    let line = space.kubectl(&["get", "tj", "digits", "--no-headers"]).await?.good()?;
    ensure!(line.contains("Succeeded") && line.contains("2/2"), "{line}");
    space.suite.note_followed("digits.yaml");
    Ok(())
}

/// Rank 1 is killed while it trains. Its peer fails because of it; the second attempt takes up the checkpoint.
pub(crate) async fn a_killed_worker_is_followed_by_an_attempt_that_goes_on(space: Space) -> Result<()> {
    let claim = json!({
        "metadata": {"name": "checkpoints"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    space.objects.create(CLAIMS, &claim).await?;
    let train = ["python3", "/app/train.py", "--epochs=20", "--pause=0.5", "--checkpoint=/checkpoints/digits.pt"];
    let job = Job::torch("killed", 2)
        .command(&train)
        .restarting_soon()
        .set(
            "spec.template.spec.volumes",
            json!([{"name": "c", "persistentVolumeClaim": {"claimName": "checkpoints"}}]),
        )
        .set("spec.template.spec.containers.0.volumeMounts", json!([{"name": "c", "mountPath": "/checkpoints"}]));
    space.submit(&space.real(job, Image::Digits)).await?;
    let pods = space.running("killed", 1, 2).await?;
    eventually_within(PATIENCE, "it has trained for a while", async || {
        let log = space.kubectl(&["logs", name(&pods[0])]).await?.out;
        ensure!(log.contains("epoch  3"), "{log}");
        Ok(())
    })
    .await?;
    kill(&space, &pods[1]).await?;
    let killed = Instant::now();
    space.running("killed", 2, 2).await?;
    println!("attempt 1 killed -> attempt 2 runs on 2 pods: {:.1} s", killed.elapsed().as_secs_f64());

    let job = until_over(&space, "killed").await?;
    ensure!(attempt(&job) == 2 && restarts(&job) == 1, "{}", job["status"]);
    let record = &job["status"]["attempts"][0];
    ensure!(record["rank"] == 1 && record["exitCode"] == 137, "the echo was taken for the cause: {record}");
    ensure!(record["cause"] == "ExitCode" && text(record, "/message").contains("SIGKILL"), "{record}");
    let first = job["status"]["results"]["firstEpoch"].as_i64().unwrap_or_default();
    ensure!(first > 3, "it began at epoch {first} again");
    ensure!(job["status"]["results"]["accuracy"].as_f64().unwrap_or_default() > 0.93, "{}", job["status"]);
    expect_events(&space, "killed", &["Running", "Restarting", "Running", "Succeeded"]).await?;
    // The last words of the rank that failed are still there.
    let log = space.kubectl(&["logs", name(&pods[1])]).await?.good()?;
    ensure!(log.contains("rank 1 of 2 has joined, attempt 1"), "{log}");
    Ok(())
}

/// Kills a pod's first container with SIGKILL, past its kubelet.
pub(crate) async fn kill(space: &Space, pod: &Value) -> Result<()> {
    let cluster = space.suite.cluster_with_node().await?;
    let id = text(pod, "/status/containerStatuses/0/containerID");
    cluster.node().await?.kill_container(id).await.with_context(|| format!("killing {}", name(pod)))
}

/// Waits until the job has succeeded; one that fails meanwhile is not waited for.
pub(crate) async fn until_over(space: &Space, job: &str) -> Result<Value> {
    let over = eventually_within(PATIENCE, &format!("{job} is over"), async || {
        let job = space.job(job).await?;
        ensure!(crate::objects::holds(&job, "Finished"), "{}: {}", crate::objects::state(&job), message(&job));
        Ok(job)
    })
    .await?;
    ensure!(crate::objects::holds(&over, "Complete"), "it failed: {}", over["status"]);
    Ok(over)
}
