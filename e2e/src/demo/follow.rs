//! What happens to a run, its steps and their logs, on standard output as it happens.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::step::{Scene, Step, read};
use super::teller::{Teller, described, holds, state};

const POLL: Duration = Duration::from_millis(100);
/// Longer than the pipeline's own time, which ends the run with a reason.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
/// A run that cannot go on for so long will not.
const STALLED_FOR: Duration = Duration::from_secs(10);

/// A run that is over.
pub(super) struct Followed {
    pub(super) run: Value,
    /// How many seconds each step took, in their order.
    pub(super) parts: Vec<(String, f64)>,
}

/// Shows what happens until the run has finished, or cannot begin. `pipeline` is what it runs.
pub(super) async fn until_over(client: &Client, namespace: &str, name: &str, pipeline: &Value) -> Result<Followed> {
    let (scene, mut teller, title) = (Scene::new(client, namespace), Teller::new(), format!("plr/{name}"));
    let declared = pipeline["spec"]["steps"].as_array().into_iter().flatten();
    let mut steps: Vec<Step> = declared.map(Step::new).collect();
    let mut stalled = None;
    let following = async {
        loop {
            let run = read(&scene.runs, name).await?;
            for step in &mut steps {
                let status = &run["status"]["steps"][&step.name];
                step.show(&scene, &mut teller, name, status).await?;
            }
            // That it runs, and which step, is told of the steps.
            if !matches!(state(&run), "" | "Running") {
                teller.tell(&title, &described(&run));
            }
            if is_over(&run, &mut stalled) {
                return anyhow::Ok(run);
            }
            sleep(POLL).await;
        }
    };
    let run = timeout(PATIENCE, following).await.context("the run did not finish in time")??;
    let parts = steps.iter().filter_map(|step| Some((step.name.clone(), step.seconds?))).collect();
    Ok(Followed { run, parts })
}

/// Whether a run has finished, or cannot go on; `stalled` is since when.
fn is_over(run: &Value, stalled: &mut Option<Instant>) -> bool {
    *stalled = holds(run, "Stalled").then(|| stalled.unwrap_or_else(Instant::now));
    holds(run, "Finished")
        || state(run) == "Invalid"
        || stalled.is_some_and(|since: Instant| since.elapsed() > STALLED_FOR)
}
