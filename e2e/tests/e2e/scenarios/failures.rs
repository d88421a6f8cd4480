//! Jobs whose pods fail, vanish, or go on for too long beside one that is done.

use anyhow::{Result, ensure};
use serde_json::json;
use trainyard::names;

use super::lifecycle::{expect_events, published};
use crate::manifest::Job;
use crate::objects::{PODS, condition, holds, is_live, message, name, text, uid};
use crate::space::{Space, variable};
use crate::wait::eventually;

pub(crate) async fn a_failed_rank_restarts_all_ranks(space: Space) -> Result<()> {
    let job_uid = space.submit_for_uid(&Job::torch("restarted", 2).runs_for("never")).await?;
    let first = space.running("restarted", 1, 2).await?;
    space.until_state("restarted", "Running").await?;
    space.end_pod(&first[1], 3, "Error", "Traceback (most recent call last):\nValueError: boom").await?;

    let second = space.running("restarted", 2, 2).await?;
    for (rank, pod) in (0..).zip(&second) {
        ensure!(name(pod) == names::pod("restarted", &job_uid, "worker", rank, 2), "{}", name(pod));
        ensure!(variable(pod, "MASTER_PORT")? == "29501", "a port that the last attempt may still hold");
    }
    for pod in space.pods("restarted").await?.iter().filter(|pod| name(pod).ends_with("-1")) {
        ensure!(!is_live(pod), "{} lives on", name(pod));
    }
    let job = space.until_state("restarted", "Running").await?;
    let status = &job["status"];
    ensure!(status["restarts"] == 1 && status["attempt"] == 2, "{status}");
    let record = &status["attempts"][0];
    for (field, wanted) in [
        ("attempt", json!(1)),
        ("cause", json!("ExitCode")),
        ("rank", json!(1)),
        ("exitCode", json!(3)),
        ("pod", first[1]["metadata"]["name"].clone()),
        ("container", json!("trainer")),
        ("logTail", json!("Traceback (most recent call last):\nValueError: boom")),
    ] {
        ensure!(record[field] == wanted, "{field} in {record}");
    }
    eventually("DNS answers for the new attempt", async || {
        let published = published(&space, &job_uid).await?;
        ensure!(published.keys().eq(second.iter().map(name)), "{published:?}");
        Ok(())
    })
    .await?;

    space.finish("restarted").await?;
    let job = space.until_state("restarted", "Succeeded").await?;
    ensure!(job["status"]["restarts"] == 1 && message(&job).contains("after 1 restart"), "{}", job["status"]);
    expect_events(&space, "restarted", &["Running", "Restarting", "Running", "Succeeded"]).await
}

pub(crate) async fn restarts_are_used_up(space: Space) -> Result<()> {
    let job = |name| {
        let failing = Job::torch(name, 2).fake("exit-code", "1").fake("termination-message", "a secret in the log");
        failing.set("spec.failurePolicy.maxRestarts", 1).restarting_soon()
    };
    space.submit(&job("told")).await?;
    space.submit(&job("silent").set("spec.failureLogs", "None")).await?;
    for (name, tail) in [("told", json!("a secret in the log")), ("silent", json!(null))] {
        space.kubectl(&["wait", "--for=condition=Failed", &format!("tj/{name}"), "--timeout=60s"]).await?.good()?;
        let job = space.job(name).await?;
        let status = &job["status"];
        for (type_, wanted) in [("Finished", true), ("Stalled", true), ("Ready", false), ("Reconciling", false)] {
            ensure!(holds(&job, type_) == wanted, "{name}, {type_}: {status}");
        }
        ensure!(condition(&job, "Failed")["reason"] == "MaxRestartsReached", "{name}: {status}");
        ensure!(message(&job).contains("1 of 1 restarts used"), "{name}: {}", message(&job));
        let records = status["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(status["restarts"] == 1 && records.len() == 2, "{name}: {status}");
        ensure!(records.iter().all(|record| record["logTail"] == tail), "{name}: {status}");
        ensure!(tail.is_string() || !status.to_string().contains("secret"), "{name}: {status}");
    }
    Ok(())
}

pub(crate) async fn memory_is_named_as_the_cause(space: Space) -> Result<()> {
    let job = Job::new("large").fake("exit-code", "137").fake("reason", "OOMKilled");
    space.submit(&job.set("spec.failurePolicy.maxRestarts", 0)).await?;
    let job = space.until_state("large", "Failed").await?;
    ensure!(job["status"]["attempts"][0]["cause"] == "OutOfMemory", "{}", job["status"]);
    ensure!(message(&job).contains("raise the memory limit"), "{}", message(&job));
    let line = space.kubectl(&["get", "tj", "large", "--no-headers"]).await?.good()?;
    ensure!(line.contains("Failed") && line.contains("memory"), "{line}");
    Ok(())
}

pub(crate) async fn a_deleted_pod_counts_as_lost(space: Space) -> Result<()> {
    space.submit(&Job::torch("robbed", 2).runs_for("never").restarting_soon()).await?;
    let first = space.running("robbed", 1, 2).await?;
    space.until_state("robbed", "Running").await?;
    space.kubectl(&["delete", "pod", name(&first[0]), "--wait=false"]).await?.good()?;
    space.running("robbed", 2, 2).await?;
    let job = space.until_job("robbed", "the record", |job| job["status"]["attempts"][0].is_object()).await?;
    let record = &job["status"]["attempts"][0];
    ensure!(record["cause"] == "Lost" && record["pod"] == name(&first[0]), "{record}");
    space.finish("robbed").await?;
    space.until_state("robbed", "Succeeded").await.map(drop)
}

pub(crate) async fn the_training_container_decides_over_sidecars(space: Space) -> Result<()> {
    let containers =
        json!([{"name": "trainer", "image": "example/digits:1"}, {"name": "proxy", "image": "example/proxy:1"}]);
    let job = Job::new("accompanied").set("spec.template.spec.containers", containers);
    let job = job.annotated("kubectl.kubernetes.io/default-container", "trainer").fake("sidecar-keeps-running", "true");
    let job_uid = space.submit_for_uid(&job).await?;
    let job = space.until_state("accompanied", "Succeeded").await?;
    ensure!(text(&job, "/status/effective/container") == "trainer", "{}", job["status"]);
    ensure!(uid(&job) == job_uid, "another job");
    eventually("the sidecar is ended", async || {
        let pods = space.children(PODS, &job_uid).await?;
        ensure!(pods.is_empty(), "{} pods are left", pods.len());
        Ok(())
    })
    .await?;
    space.until_state("accompanied", "Succeeded").await.map(drop)
}
