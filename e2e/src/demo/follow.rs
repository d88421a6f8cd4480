//! What happens to a job, its pods and their logs, on standard output as it happens.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::io::AsyncBufReadExt;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::progress::say;

const POLL: Duration = Duration::from_millis(100);
/// Longer than the job's own deadline, which ends it with a reason.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// A job that has finished.
pub(super) struct Followed {
    pub(super) job: Value,
    /// What took how many seconds.
    pub(super) parts: [(&'static str, f64); 2],
}

/// What is watched, and what was told of it.
struct Follower {
    job: Api<DynamicObject>,
    pods: Api<Pod>,
    name: String,
    started: Instant,
    /// When pods were first seen to run.
    running: Option<Instant>,
    /// The last line about each object.
    told: HashMap<String, String>,
    /// Pods whose logs are shown already.
    logged: HashSet<String>,
    logs: JoinSet<()>,
}

/// Shows what happens until the job has finished.
pub(super) async fn until_finished(client: &Client, job: &DynamicObject) -> Result<Followed> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("trainyard.dev", "v1alpha1", "TrainingJob"));
    let namespace = job.namespace().unwrap_or_else(|| "default".to_owned());
    let mut follower = Follower {
        job: Api::namespaced_with(client.clone(), &namespace, &kind),
        pods: Api::namespaced(client.clone(), &namespace),
        name: job.name_any(),
        started: Instant::now(),
        running: None,
        told: HashMap::new(),
        logged: HashSet::new(),
        logs: JoinSet::new(),
    };
    tokio::time::timeout(PATIENCE, follower.follow()).await.context("the job did not finish in time")?
}

impl Follower {
    async fn follow(&mut self) -> Result<Followed> {
        loop {
            let selector = ListParams::default().labels(&format!("trainyard.dev/job={}", self.name));
            for pod in self.pods.list(&selector).await.context("listing the job's pods")? {
                self.show_pod(&pod);
            }
            let job = self.job.get(&self.name).await.context("reading the job")?;
            let job = serde_json::to_value(job)?;
            self.show_job(&job);
            if condition(&job, "Finished").is_some_and(|finished| finished["status"] == "True") {
                // What the pods said last is on its way.
                let _ = tokio::time::timeout(Duration::from_secs(5), async {
                    while self.logs.join_next().await.is_some() {}
                })
                .await;
                self.tell(&format!("tj/{}", self.name), &describe_job(&job));
                let running = self.running.unwrap_or(self.started);
                let parts = [
                    ("until pods ran", running.duration_since(self.started).as_secs_f64()),
                    ("until the job had finished", running.elapsed().as_secs_f64()),
                ];
                return Ok(Followed { job, parts });
            }
            sleep(POLL).await;
        }
    }

    fn show_job(&mut self, job: &Value) {
        let described = describe_job(job);
        // The end is told last, after the logs.
        if !described.is_empty() && !described.starts_with("Succeeded") && !described.starts_with("Failed") {
            self.tell(&format!("tj/{}", self.name), &described);
        }
    }

    fn show_pod(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let rank = pod.labels().get("trainyard.dev/rank").cloned().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let place = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let described = match place {
            Some(node) if phase == "Running" => format!("rank {rank} Running on {node}"),
            _ => format!("rank {rank} {phase}"),
        };
        self.tell(&format!("pod/{name}"), &described);
        if phase == "Running" {
            self.running.get_or_insert_with(Instant::now);
        }
        if phase != "Pending" && self.logged.insert(name.clone()) {
            self.logs.spawn(show_log(self.pods.clone(), name, rank, self.started));
        }
    }

    fn tell(&mut self, object: &str, news: &str) {
        if self.told.insert(object.to_owned(), news.to_owned()).as_deref() != Some(news) {
            tell(self.started, &format!("{object}  {news}"));
        }
    }
}

/// Passes a pod's log on, line by line, until the pod ends.
async fn show_log(pods: Api<Pod>, pod: String, rank: String, started: Instant) {
    let follow = LogParams { follow: true, ..LogParams::default() };
    match pods.log_stream(&pod, &follow).await {
        Ok(log) => {
            let mut lines = log.lines().into_stream();
            while let Some(Ok(line)) = lines.next().await {
                tell(started, &format!("  rank {rank} | {line}"));
            }
        }
        Err(error) => tell(started, &format!("  rank {rank} | (no log: {error})")),
    }
}

fn tell(started: Instant, line: &str) {
    say(&format!("{:>6.1} s  {line}", started.elapsed().as_secs_f64()));
}

/// State and message, as `kubectl get` shows them.
fn describe_job(job: &Value) -> String {
    let state = condition(job, "Ready").and_then(|ready| ready["reason"].as_str()).unwrap_or_default();
    let message = job["status"]["message"].as_str().unwrap_or_default();
    if state.is_empty() { String::new() } else { format!("{state}: {message}") }
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
