//! Jobs that are deleted, at whatever moment, and made again.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tokio::time::sleep;

use crate::manifest::Job;
use crate::objects::{JOBS, attempt, owner, restarts, state, uid};
use crate::space::Space;
use crate::wait::eventually;

/// From before the first pod until after the end of a job that runs half a second.
fn any_moment() -> Duration {
    Duration::from_millis(rand::random_range(0..1_800))
}

pub(crate) async fn a_job_deleted_at_any_moment_leaves_nothing(space: Space) -> Result<()> {
    let lives = (0..8).map(|number| {
        let space = &space;
        async move {
            let job = Job::torch(&format!("short-{number}"), 1 + number % 4);
            space.submit(&job).await?;
            sleep(any_moment()).await;
            space.objects.delete(JOBS, job.name()).await
        }
    });
    try_join_all(lives).await?;
    space.until_nothing_is_left().await?;
    ensure!(space.objects.list(JOBS, "").await?.is_empty(), "a job is left");
    Ok(())
}

pub(crate) async fn a_job_made_again_never_meets_its_past_self(space: Space) -> Result<()> {
    let lives = (0..6).map(|number| again(&space, number));
    try_join_all(lives).await?;
    Ok(())
}

/// One job, deleted at some moment and made again at once.
async fn again(space: &Space, number: u32) -> Result<()> {
    let nodes = 1 + number % 3;
    let manifest = Job::torch(&format!("again-{number}"), nodes);
    let past = space.submit_for_uid(&manifest).await?;
    let moment = any_moment();
    sleep(moment).await;
    space.objects.delete(JOBS, manifest.name()).await?;
    let present = space.submit_for_uid(&manifest).await?;
    ensure!(past != present, "the job was not deleted");

    let name = manifest.name();
    let job = space.until_state(name, "Succeeded").await?;
    ensure!(uid(&job) == present && state(&job) == "Succeeded", "{}", job["status"]);
    let clean = job["status"]["attempts"].is_null() && restarts(&job) == 0 && attempt(&job) == 1;
    ensure!(clean, "deleted after {moment:?}: {}", job["status"]);
    eventually("the pods of its past self are gone", async || {
        let pods = space.pods(name).await?;
        ensure!(pods.iter().all(|pod| owner(pod) == present), "deleted after {moment:?}: some are left");
        ensure!(pods.len() == nodes as usize, "deleted after {moment:?}: {} pods", pods.len());
        Ok(())
    })
    .await
}
