//! A steady load on a Service: a pod that sends requests at a fixed rate and counts what becomes of them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// What the pod runs.
const PROGRAM: &str = include_str!("../images/load/load.py");
/// The pod's name: one load for each namespace.
const POD: &str = "steady-load";
/// Until it sends, and until it has ended: it waits 10 s for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// What is sent, and from where.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL; a Service of the namespace may go by its name alone.
    pub url: String,
    /// The request's body.
    pub body: Value,
    /// Requests in a second. Half of them are on new connections.
    pub rate: u32,
    /// An image with Python, such as [`Image::Base`](crate::images::Image::Base).
    pub image: String,
    /// What else the pod's spec says, such as where it may run.
    pub placement: Value,
}

/// What has become of the requests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Figures {
    /// Requests.
    pub sent: usize,
    /// Answers of code 200 within 10 s.
    pub answered: usize,
    /// Requests that failed, in whatever way. The rest is under way.
    pub lost: usize,
    /// Kept connections that the server had closed before a request was sent on them.
    pub replaced: usize,
    /// Requests that met the end of a kept connection, and were answered on another or lost.
    pub retried: usize,
    /// The first few that were lost: when, and how.
    pub errors: Vec<String>,
    /// Answers by the version of the model that they name.
    pub versions: BTreeMap<String, usize>,
    /// How long it goes on.
    pub seconds: f64,
    /// Milliseconds from when a request was due to its answer.
    pub p50: f64,
    /// Likewise.
    pub p99: f64,
    /// Likewise.
    pub max: f64,
    /// Whether these are the last.
    pub over: bool,
}

/// A load that goes on until it is stopped, or its namespace goes.
pub struct SteadyLoad {
    pods: Api<Pod>,
}

impl SteadyLoad {
    /// Starts it and waits for the first answer.
    pub async fn start(client: &Client, namespace: &str, target: &Target) -> Result<Self> {
        let load = Self { pods: Api::namespaced(client.clone(), namespace) };
        let pod: Pod = serde_json::from_value(pod(target)).context("the steady load's pod")?;
        load.pods.create(&PostParams::default(), &pod).await.context("creating the steady load's pod")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let figures = load.figures().await;
            if figures.as_ref().is_ok_and(|figures| figures.answered > 0) {
                return Ok(load);
            }
            ensure!(Instant::now() < deadline, "the steady load has no answer within {PATIENCE:?}: {figures:?}");
            sleep(POLL).await;
        }
    }

    /// What has become of its requests until two seconds ago.
    pub async fn figures(&self) -> Result<Figures> {
        let last = LogParams { tail_lines: Some(1), ..LogParams::default() };
        last_line(&self.pods.logs(POD, &last).await.context("reading the steady load's log")?)
    }

    /// Lets requests under way come to their ends, and answers what has become of all. The pod goes.
    pub async fn stop(self) -> Result<Figures> {
        let follow = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
        let mut log = Box::pin(self.pods.log_stream(POD, &follow).await.context("following the steady load's log")?);
        self.pods.delete(POD, &DeleteParams::default()).await.context("stopping the steady load")?;
        let mut text = String::new();
        let read = timeout(PATIENCE, log.read_to_string(&mut text)).await.context("the steady load does not end")?;
        read.context("following the steady load's log")?;
        let figures = last_line(&text)?;
        ensure!(figures.over, "the steady load ended without its last figures: {text}");
        Ok(figures)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, answered, lost, replaced, retried, seconds, p50, p99, max, .. } = self;
        write!(
            formatter,
            "{sent} requests in {seconds:.0} s: {answered} answered, {lost} lost, {retried} retried, {replaced} \
             connections replaced; p50 {p50} ms, p99 {p99} ms, max {max} ms"
        )
    }
}

fn pod(target: &Target) -> Value {
    let Target { url, body, rate, image, placement } = target;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "load",
                "image": image,
                "command": ["python3", "-c", PROGRAM, url, body.to_string(), "--rate", rate.to_string()],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    for (key, value) in placement.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

/// The figures of the last whole line.
fn last_line(log: &str) -> Result<Figures> {
    let line = log.lines().rfind(|line| !line.is_empty()).context("the steady load has not said anything yet")?;
    serde_json::from_str(line).with_context(|| format!("the steady load says: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figures_count() {
        let line = |sent: usize, over: bool| {
            let figures = json!({
                "sent": sent, "answered": 1, "lost": 0, "replaced": 0, "retried": 0, "errors": [], "versions": {"1": 1},
                "seconds": 2.0, "p50": 1.0, "p99": 2.0, "max": 3.0, "over": over,
            });
            format!("{figures}\n")
        };
        let figures = last_line(&(line(1, false) + &line(2, true))).unwrap();
        assert_eq!((figures.sent, figures.over), (2, true));
        assert!(last_line("").is_err());
        assert!(last_line("Traceback").is_err());
    }

    #[test]
    fn the_pod_runs_where_it_is_told_to() {
        let target = Target {
            url: "http://digits".to_owned(),
            body: json!({}),
            rate: 20,
            image: "base".to_owned(),
            placement: json!({"nodeName": "node-1"}),
        };
        let pod = pod(&target);
        assert_eq!(pod["spec"]["nodeName"], "node-1");
        assert_eq!(pod["spec"]["containers"][0]["image"], "base");
    }
}
