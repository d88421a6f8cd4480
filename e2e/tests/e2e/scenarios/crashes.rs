//! The operator is killed, at any moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use crate::manifest::Job;
use crate::objects::{attempt, label, name, restarts, state};
use crate::space::Space;
use crate::wait::eventually;

const JOBS: u32 = 12;
const KILLS: u32 = 9;

/// A job and how it ends, crashes or not.
struct Story {
    job: Job,
    state: &'static str,
    restarts: i64,
    attempts: usize,
}

/// Jobs of one to four pods; every third fails once, and one fails until its restarts are used up.
fn story(number: u32) -> Story {
    let job = Job::torch(&format!("job-{number}"), 1 + number % 4).runs_for("1200ms").restarting_soon();
    match number {
        7 => {
            let job = job.fake("exit-code", "1").set("spec.failurePolicy.maxRestarts", 1);
            Story { job, state: "Failed", restarts: 1, attempts: 2 }
        }
        _ if number % 3 == 1 => {
            Story { job: job.fake("exit-code-1-0", "3"), state: "Succeeded", restarts: 1, attempts: 1 }
        }
        _ => Story { job, state: "Succeeded", restarts: 0, attempts: 0 },
    }
}

pub(crate) async fn crashes_at_any_moment_change_no_outcome(space: Space) -> Result<()> {
    let stories: Vec<Story> = (0..JOBS).map(story).collect();
    let mut waiting = stories.iter();
    for _ in 0..KILLS {
        // New ones all along, so that each kill finds jobs in every stage.
        for story in waiting.by_ref().take(2) {
            space.submit(&story.job).await?;
        }
        sleep(Duration::from_millis(rand::random_range(200..1_400))).await;
        space.suite.kill_operator().await;
        space.suite.ensure_operator().await?;
    }
    for story in stories {
        let job = eventually(&format!("{} ends", story.job.name()), async || {
            let job = space.job(story.job.name()).await?;
            ensure!(matches!(state(&job), "Succeeded" | "Failed"), "it is {:?}: {}", state(&job), job["status"]);
            Ok(job)
        })
        .await?;
        let status = &job["status"];
        let records = status["attempts"].as_array().map_or(0, Vec::len);
        ensure!(state(&job) == story.state, "{} should be {}: {status}", name(&job), story.state);
        ensure!(restarts(&job) == story.restarts, "{}: {status}", name(&job));
        ensure!(records == story.attempts, "{}: {status}", name(&job));
        let attempts = story.restarts + 1;
        ensure!(attempt(&job) == attempts, "{}: {status}", name(&job));
        let pods = space.pods(name(&job)).await?;
        let last = attempts.to_string();
        let of_last = |pod: &&Value| label(pod, "trainyard.dev/attempt") == last;
        let nodes = story.job.value()["spec"]["nodes"].as_u64().unwrap_or(1);
        ensure!(pods.iter().filter(of_last).count() as u64 == nodes, "{} has {} pods", name(&job), pods.len());
    }
    Ok(())
}

/// Without anybody's help: the next operator waits until the lease of the dead one has run out.
pub(crate) async fn a_killed_leaders_lease_runs_out(space: Space) -> Result<()> {
    space.suite.kill_operator().await;
    let dead = space.suite.release.leader().await?;
    ensure!(dead.is_some(), "a killed operator releases nothing");
    space.submit(&Job::torch("orphan", 2)).await?;
    let next = space.suite.spawn_operator().await?;
    next.until_ready().await?;
    space.suite.operator().await.replace(next);
    ensure!(space.suite.release.leader().await? != dead, "the lease still names the dead one");
    space.until_state("orphan", "Succeeded").await.map(drop)
}
