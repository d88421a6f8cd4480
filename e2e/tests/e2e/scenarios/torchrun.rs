//! torchrun, of PyTorch as its makers publish it: only in the long runs, for its size.

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use serde_json::json;

use super::training::{kill, until_over};
use crate::manifest::Job;
use crate::objects::{attempt, name};
use crate::space::Space;
use crate::wait::eventually;

/// Without a flag: everything that torchrun has to know is in its environment.
pub(crate) async fn needs_no_flags(space: Space) -> Result<()> {
    let job = Job::torch("launched", 2).command(&["torchrun", "/app/train.py"]).set("spec.processesPerNode", 2);
    space.submit(&space.real(job, Image::Torchrun)).await?;
    let job = until_over(&space, "launched").await?;
    let results = &job["status"]["results"];
    ensure!(results["world"] == 4, "{results}");
    ensure!(results["accuracy"].as_f64().unwrap_or_default() > 0.9, "{results}");
    let pods = space.pods("launched").await?;
    for (pod, ranks) in pods.iter().zip([["rank 0", "rank 1"], ["rank 2", "rank 3"]]) {
        let log = space.kubectl(&["logs", name(pod)]).await?.good()?;
        ensure!(ranks.iter().all(|rank| log.contains(&format!("{rank} of 4 has joined"))), "{}: {log}", name(pod));
    }
    Ok(())
}

/// A whole pod is killed; torchrun of the other ends with 1. Both come again, together.
pub(crate) async fn starts_again_after_a_pod_was_killed(space: Space) -> Result<()> {
    let job = Job::torch("relaunched", 2)
        .command(&["torchrun", "/app/train.py", "--pause=0.5"])
        .set("spec.processesPerNode", 1)
        .set("spec.template.spec.terminationGracePeriodSeconds", json!(2))
        .restarting_soon();
    space.submit(&space.real(job, Image::Torchrun)).await?;
    let pods = space.running("relaunched", 1, 2).await?;
    eventually("it has trained for a while", async || {
        let log = space.kubectl(&["logs", name(&pods[0])]).await?.out;
        ensure!(log.contains("epoch  3"), "{log}");
        Ok(())
    })
    .await?;
    kill(&space, &pods[1]).await?;
    let job = until_over(&space, "relaunched").await?;
    ensure!(attempt(&job) == 2 && job["status"]["results"]["world"] == 2, "{}", job["status"]);
    let record = job["status"]["attempts"].get(0).context("no attempt is on record")?;
    ensure!(record["rank"] == 1 && record["exitCode"] == 137, "{record}");
    Ok(())
}
