//! What strangers get of the operator: nothing of what users wrote, and no way to hold up its probes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::operator::Operator;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::manifest::{Job, Serving, Steps, run_step};
use crate::objects::{DEPLOYMENTS, EVENTS, JOBS, MODEL_DEPLOYMENTS, PIPELINES, PODS, RUNS};
use crate::space::Space;

/// A value that stands in the variables of pods and templates and nowhere else.
const CANARY: &str = "canary-5b1f0c9e7a";

/// Variables of pods are somebody's secrets: they are in no log line, Event, status or metric, also when objects beside
/// them cannot be read and are listed anew by an operator that starts.
pub(crate) async fn values_of_templates_are_told_nowhere(space: Space) -> Result<()> {
    let env = json!([{"name": "PASSWORD", "value": CANARY}]);
    let place = "spec.template.spec.containers.0.env";
    space.submit(&Job::new("runs").runs_for("never").set(place, env.clone())).await?;
    space.submit(&Job::new("ends").set(place, env.clone())).await?;
    space.submit(&Serving::new("serves", 1).set(place, env.clone())).await?;
    let mut step = run_step("one", &[], &[]);
    step["run"]["spec"]["containers"][0]["env"] = env.clone();
    space.submit(&Steps::new("steps", &[step])).await?;
    space.until_state("ends", "Succeeded").await?;
    space.until_state("runs", "Running").await?;

    // The apiserver keeps times that few parsers can hold.
    let late = json!([{
        "manager": "m", "operation": "Update", "apiVersion": "v1", "time": "9999-12-31T23:59:59Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}},
    }]);
    let spec = json!({
        "schedulingGates": [{"name": "example.com/never"}],
        "containers": [{"name": "c", "image": "i", "env": env}],
    });
    let labels = json!({"trainyard.dev/job": "x", "trainyard.dev/run": "x"});
    let pod = json!({"metadata": {"name": "odd", "labels": labels, "managedFields": late}, "spec": spec});
    space.objects.create(PODS, &pod).await?;
    let template = json!({
        "metadata": {"labels": {"a": "b"}, "creationTimestamp": "9999-12-31T23:59:59Z"},
        "spec": {"containers": [{"name": "c", "image": "i", "env": env}]},
    });
    let deployment = json!({
        "metadata": {"name": "odd", "labels": {"trainyard.dev/deployment": "x"}, "managedFields": late},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    });
    space.objects.create(DEPLOYMENTS, &deployment).await?;

    space.suite.stop_operator().await?;
    space.suite.ensure_operator().await?;
    space.submit(&Job::new("afterwards")).await?;
    space.until_state("afterwards", "Succeeded").await?;

    for log in space.suite.logs().await {
        let line = log.lines().find(|line| line.contains(CANARY));
        ensure!(line.is_none(), "the operator's log has the value: {line:?}");
    }
    let events = space.cluster().list(EVENTS, "").await?;
    let ours = |event: &&Value| event["reportingController"].as_str().is_some_and(|it| it.contains("trainyard"));
    for event in events.iter().filter(ours) {
        ensure!(!event.to_string().contains(CANARY), "an Event has the value: {event}");
    }
    for kind in [JOBS, MODEL_DEPLOYMENTS, PIPELINES, RUNS] {
        for object in space.cluster().list(kind, "").await? {
            let status = &object["status"];
            ensure!(!status.to_string().contains(CANARY), "a status has the value: {status}");
        }
    }
    let operator = space.suite.operator().await;
    let metrics = operator.as_ref().context("no operator runs")?.metrics().await?;
    ensure!(!metrics.contains(CANARY), "the metrics have the value");
    Ok(())
}

/// So many connections are held; a shell may open 1,024 files.
const CONNECTIONS: usize = 500;
/// What they may cost.
const MOST_MEMORY: u64 = 10 << 20;

/// Half-sent requests, to either port, cost little, are closed, and hold up no probe.
pub(crate) async fn half_sent_requests_hold_up_no_probe(space: Space) -> Result<()> {
    let operator = space.suite.operator().await;
    let operator = operator.as_ref().context("no operator runs")?;
    for address in [&operator.probes_at, &operator.metrics_at] {
        let before = operator.resident_bytes()?;
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = TcpStream::connect(address).await?;
            connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ").await?;
            held.push(connection);
        }
        answers(operator).await?;
        let more = operator.resident_bytes()?.saturating_sub(before);
        ensure!(more < MOST_MEMORY, "{CONNECTIONS} half-sent requests cost {more} bytes");
        let started = Instant::now();
        for mut connection in held {
            let closed = timeout(Duration::from_secs(15), connection.read(&mut [0])).await;
            ensure!(closed.is_ok(), "a connection is still open after {:?}", started.elapsed());
        }
        answers(operator).await?;
    }
    Ok(())
}

/// Whether probes and metrics are answered at once.
async fn answers(operator: &Operator) -> Result<()> {
    let asked = async {
        ensure!(operator.is_ready().await, "not ready");
        operator.metrics().await.map(drop)
    };
    timeout(Duration::from_secs(5), asked).await.context("no answer")?
}
