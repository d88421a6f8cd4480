//! What is asked of a job from outside or by the clock: suspend, resume, edit, end, tidy up.

use anyhow::{Result, ensure};
use serde_json::json;

use super::lifecycle::published;
use crate::manifest::Job;
use crate::objects::{CHILDREN, JOBS, PODS, condition, holds, is_live, restarts, text};
use crate::space::{Space, now};
use crate::wait::eventually;

pub(crate) async fn suspended_and_resumed(space: Space) -> Result<()> {
    let job_uid = space.submit_for_uid(&Job::torch("paused", 2).runs_for("never")).await?;
    space.running("paused", 1, 2).await?;
    let job = space.until_state("paused", "Running").await?;
    let first_start = text(&job, "/status/startTime").to_owned();

    space.edit("paused", json!({"spec": {"suspend": true}})).await?;
    let job = space.until_state("paused", "Suspended").await?;
    ensure!(holds(&job, "Suspended") && holds(&job, "Ready"), "{}", job["status"]);
    ensure!(!space.pods("paused").await?.iter().any(is_live), "pods live on");
    ensure!(published(&space, &job_uid).await?.is_empty(), "DNS still answers");
    eventually("a second has passed", async || {
        ensure!(now() > first_start, "not yet");
        Ok(())
    })
    .await?;

    space.edit("paused", json!({"spec": {"suspend": false}})).await?;
    space.running("paused", 2, 2).await?;
    let job = space.until_state("paused", "Running").await?;
    ensure!(text(&job, "/status/startTime") > first_start.as_str(), "{}", job["status"]);
    ensure!(restarts(&job) == 0, "{}", job["status"]);
    ensure!(condition(&job, "Suspended").is_null(), "{}", job["status"]);

    // Faster than the operator looks: what runs must be what the spec says in the end.
    let template = json!({"spec": {"containers": [{"name": "trainer", "image": "example/digits:2"}]}});
    for spec in [json!({"suspend": true}), json!({"template": template}), json!({"suspend": false})] {
        space.edit("paused", json!({"spec": spec})).await?;
    }
    let pods = space.running("paused", 3, 2).await?;
    ensure!(pods.iter().all(|pod| image(pod) == "example/digits:2"), "the old template");
    space.finish("paused").await?;
    space.until_state("paused", "Succeeded").await.map(drop)
}

pub(crate) async fn made_suspended_edited_and_resumed(space: Space) -> Result<()> {
    space.submit(&Job::torch("later", 1).set("spec.suspend", true)).await?;
    let job = space.until_state("later", "Suspended").await?;
    ensure!(space.pods("later").await?.is_empty(), "pods were made");
    ensure!(job["status"]["startTime"].is_null(), "{}", job["status"]);

    let template = json!({"spec": {"containers": [{"name": "trainer", "image": "example/digits:2"}]}});
    space.edit("later", json!({"spec": {"nodes": 3, "processesPerNode": 2, "template": template}})).await?;
    space.edit("later", json!({"spec": {"suspend": false}})).await?;
    let job = space.until_state("later", "Succeeded").await?;
    let pods = space.pods("later").await?;
    ensure!(pods.len() == 3 && pods.iter().all(|pod| image(pod) == "example/digits:2"), "{} pods", pods.len());
    ensure!(job["status"]["effective"]["nodes"] == 3, "{}", job["status"]);
    ensure!(restarts(&job) == 0, "{}", job["status"]);
    Ok(())
}

pub(crate) async fn a_deadline_ends_the_job(space: Space) -> Result<()> {
    let job = Job::torch("endless", 2).runs_for("never").set("spec.activeDeadline", "2s");
    let job_uid = space.submit_for_uid(&job).await?;
    let job = space.until_state("endless", "Failed").await?;
    ensure!(condition(&job, "Failed")["reason"] == "DeadlineExceeded", "{}", job["status"]);
    eventually("its pods are stopped", async || {
        ensure!(!space.children(PODS, &job_uid).await?.iter().any(is_live), "some live");
        ensure!(published(&space, &job_uid).await?.is_empty(), "DNS still answers");
        Ok(())
    })
    .await
}

pub(crate) async fn tidies_up_after_the_end(space: Space) -> Result<()> {
    let kept_uid = space.submit_for_uid(&Job::torch("kept", 2).set("spec.podsAfterFinished", "1s")).await?;
    space.submit(&Job::torch("gone", 2).set("spec.deleteAfterFinished", "1s")).await?;
    space.until_state("kept", "Succeeded").await?;
    eventually("only the job itself is left", async || {
        for kind in CHILDREN {
            ensure!(space.children(kind, &kept_uid).await?.is_empty(), "some {kind:?} are left");
        }
        Ok(())
    })
    .await?;
    space.until_state("kept", "Succeeded").await?;
    eventually("the other job is deleted", async || {
        ensure!(space.objects.find(JOBS, "gone").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    space.until_nothing_is_left().await
}

pub(crate) async fn a_finished_job_stays_finished_whatever_is_edited(space: Space) -> Result<()> {
    space.submit(&Job::new("done")).await?;
    let finished = space.until_state("done", "Succeeded").await?;

    // kubectl compares the generation of the condition.
    space.edit("done", json!({"spec": {"suspend": true, "activeDeadline": "1h"}})).await?;
    space.kubectl(&["wait", "tj", "done", "--for=condition=Finished", "--timeout=30s"]).await?.good()?;
    let job = space.until_job("done", "the edit is seen", |job| job["status"]["observedGeneration"] == 2).await?;
    ensure!(job["status"]["finishTime"] == finished["status"]["finishTime"], "{}", job["status"]);
    ensure!(job["status"]["message"] == finished["status"]["message"], "{}", job["status"]);

    let template = json!({"spec": {"containers": [{"name": "trainer", "image": "example/digits:2"}]}});
    for (field, value) in [("template", template), ("nodes", json!(3)), ("processesPerNode", json!(2))] {
        let patch = json!({"spec": {"framework": "torch", field: value}}).to_string();
        let said = space.kubectl(&["patch", "tj", "done", "--type=merge", "-p", &patch]).await?;
        ensure!(!said.ok && said.err.contains("kubectl replace --force"), "{patch}: {}{}", said.out, said.err);
    }
    Ok(())
}

fn image(pod: &serde_json::Value) -> &str {
    text(pod, "/spec/containers/0/image")
}
