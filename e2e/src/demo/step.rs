//! What happens to one step of a run: what it makes, and what its pods say.

use std::collections::HashSet;
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
use tokio::time::{Instant, timeout};

use super::teller::{Pen, Teller, described, listed};

/// What pods have said last is on its way for so long at most.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where a run and what it makes are read.
pub(super) struct Scene {
    pub(super) runs: Api<DynamicObject>,
    jobs: Api<DynamicObject>,
    deployments: Api<DynamicObject>,
    pods: Api<Pod>,
}

impl Scene {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        let own = |kind| {
            let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("trainyard.dev", "v1alpha1", kind));
            Api::namespaced_with(client.clone(), namespace, &kind)
        };
        Self {
            runs: own("PipelineRun"),
            jobs: own("TrainingJob"),
            deployments: own("ModelDeployment"),
            pods: Api::namespaced(client.clone(), namespace),
        }
    }
}

/// What a step does.
enum Work {
    Run,
    Train,
    /// With the ModelDeployment's name.
    Deploy(String),
}

/// A step, and what was told of it.
pub(super) struct Step {
    pub(super) name: String,
    work: Work,
    began: Option<Instant>,
    /// How long it took, once its end was told.
    pub(super) seconds: Option<f64>,
    /// Pods whose logs are shown already.
    logged: HashSet<String>,
    logs: JoinSet<()>,
}

impl Step {
    /// From its place in a Pipeline.
    pub(super) fn new(declared: &Value) -> Self {
        let work = match (declared["deploy"]["name"].as_str(), declared["train"].is_object()) {
            (Some(name), _) => Work::Deploy(name.to_owned()),
            (None, true) => Work::Train,
            (None, false) => Work::Run,
        };
        let name = declared["name"].as_str().unwrap_or_default().to_owned();
        Self { name, work, began: None, seconds: None, logged: HashSet::new(), logs: JoinSet::new() }
    }

    /// Tells what is new; `status` is the step's part of the status of the run of that name.
    pub(super) async fn show(&mut self, scene: &Scene, teller: &mut Teller, run: &str, status: &Value) -> Result<()> {
        let Some(state) = status["state"].as_str().filter(|_| self.seconds.is_none()) else { return Ok(()) };
        let began = *self.began.get_or_insert_with(Instant::now);
        let title = format!("step/{}", self.name);
        if let Some(child) = status["child"].as_str() {
            teller.tell(&title, status["message"].as_str().unwrap_or("starts"));
            self.show_child(scene, teller, run, child).await?;
        }
        if state == "Running" {
            return Ok(());
        }
        self.hear_out().await;
        let seconds = began.elapsed().as_secs_f64();
        self.seconds = Some(seconds);
        let details = match status["message"].as_str() {
            Some(message) => message.to_owned(),
            None => listed(&status["outputs"]),
        };
        teller.tell(&title, &format!("{state} after {seconds:.1} s: {details}"));
        Ok(())
    }

    async fn show_child(&mut self, scene: &Scene, teller: &mut Teller, run: &str, child: &str) -> Result<()> {
        match &self.work {
            Work::Run => {
                let selector = format!("trainyard.dev/run={run},trainyard.dev/step={}", self.name);
                self.show_pods(scene, teller, &selector).await
            }
            Work::Train => {
                let job = read(&scene.jobs, child).await?;
                self.show_pods(scene, teller, &format!("trainyard.dev/job={child}")).await?;
                let described = described(&job);
                // The end is told last, after the logs.
                if described.starts_with("Succeeded") || described.starts_with("Failed") {
                    self.hear_out().await;
                }
                if !described.is_empty() {
                    teller.tell(&format!("tj/{child}"), &described);
                }
                Ok(())
            }
            Work::Deploy(name) => {
                let described = described(&read(&scene.deployments, name).await?);
                if !described.is_empty() {
                    teller.tell(&format!("md/{name}"), &described);
                }
                Ok(())
            }
        }
    }

    async fn show_pods(&mut self, scene: &Scene, teller: &mut Teller, selector: &str) -> Result<()> {
        let selector = ListParams::default().labels(selector);
        for pod in scene.pods.list(&selector).await.context("listing a step's pods")? {
            let name = pod.name_any();
            let speaker = match pod.labels().get("trainyard.dev/rank") {
                Some(rank) => format!("rank {rank}"),
                None => self.name.clone(),
            };
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            let place = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            teller.tell(
                &format!("pod/{name}"),
                &match place {
                    Some(node) if phase == "Running" => format!("{speaker} Running on {node}"),
                    _ => format!("{speaker} {phase}"),
                },
            );
            if phase != "Pending" && self.logged.insert(name.clone()) {
                self.logs.spawn(show_log(scene.pods.clone(), name, speaker, teller.pen()));
            }
        }
        Ok(())
    }

    /// Waits for what the pods that have ended said last.
    async fn hear_out(&mut self) {
        let _ = timeout(LAST_WORDS, async { while self.logs.join_next().await.is_some() {} }).await;
    }
}

/// An object, or null where there is none yet.
pub(super) async fn read(objects: &Api<DynamicObject>, name: &str) -> Result<Value> {
    let object = objects.get_opt(name).await.with_context(|| format!("reading {name}"))?;
    Ok(serde_json::to_value(object)?)
}

/// Passes a pod's log on, line by line, until the pod ends.
async fn show_log(pods: Api<Pod>, pod: String, speaker: String, pen: Pen) {
    let follow = LogParams { follow: true, ..LogParams::default() };
    match pods.log_stream(&pod, &follow).await {
        Ok(log) => {
            let mut lines = log.lines().into_stream();
            while let Some(Ok(line)) = lines.next().await {
                pen.write(&format!("  {speaker} | {line}"));
            }
        }
        Err(error) => pen.write(&format!("  {speaker} | (no log: {error})")),
    }
}
