//! A tenant does the worst that rights in one namespace allow. The operator runs as users have it: in a pod, with the
//! chart's limit of memory and its probes. It must not restart, and neighbours must be served, before and after a restart.

use anyhow::{Context, Result, ensure};
use e2e::hostile;
use e2e::operator::OPERATOR_NAMESPACE;
use http::Request;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::manifest::{Job, Run, Serving, run_step};
use crate::objects::{EVENTS, Objects, PODS, is_live, name, text};
use crate::space::Space;
use crate::wait::eventually;

/// Stands for a secret of the neighbour's: in a variable of a pod, where the operator has no reason to show it.
const CANARY: &str = "canary-7f3a9c51";

/// How often an unreadable pod is touched: each event once delayed all that followed by half a minute.
const TOUCHES: usize = 40;

pub(crate) async fn no_tenant_stops_the_operator_or_its_neighbours(space: Space) -> Result<()> {
    let victim = Space::open(&space.suite, "hostile::victim").await?;
    let outcome = attack(&space, &victim).await;
    let report = if outcome.is_err() { victim.report().await } else { String::new() };
    // Test programs cannot read all of what the attacker made; kubectl can delete it.
    let removing =
        ["delete", "tj,md,pl,plr,statefulsets,pods,deployments,leases", "--all", "--grace-period=0", "--force"];
    let removed = space.kubectl(&removing).await.and_then(|said| said.good().map(drop));
    let back = space.suite.move_out_of_the_pod().await;
    let closed = victim.close().await;
    outcome.with_context(|| report).and(removed).and(back).and(closed)
}

async fn attack(space: &Space, victim: &Space) -> Result<()> {
    let suite = &space.suite;
    ensure!(suite.move_into_a_pod(&suite.release, &Value::Null).await?, "no node for the operator");
    let variables = json!([{"name": "PASSWORD", "value": CANARY}]);
    let secretive = Job::torch("secretive", 2).runs_for("never");
    victim.submit(&secretive.set("spec.template.spec.containers.0.env", variables)).await?;
    victim.until_state("secretive", "Running").await?;

    for (number, input) in hostile::inputs().into_iter().enumerate() {
        let started = Instant::now();
        for object in &input.objects {
            put(space, "POST", object).await?;
        }
        let made = started.elapsed();
        let served = serves(victim, &format!("live-{number}")).await;
        served.with_context(|| format!("after: {}", input.what))?;
        println!("{}: made in {made:.1?}, neighbours served {:.1?} later", input.what, started.elapsed() - made);
    }
    for object in hostile::edited_words() {
        put(space, "PATCH", &object).await?;
    }
    for touch in 0..TOUCHES {
        let annotations = json!({"touch": touch.to_string()});
        space.objects.patch(PODS, "unreadable", &json!({"metadata": {"annotations": annotations}})).await?;
    }
    serves(victim, "touched").await.context("after an unreadable pod was touched often")?;

    let before = running_operator(space).await?;
    let mut logs = suite.release.logs().await?;
    operators(space).delete(PODS, name(&before)).await?;
    eventually("another operator runs", async || {
        let now = running_operator(space).await?;
        ensure!(name(&now) != name(&before), "it is still {}", name(&before));
        Ok(())
    })
    .await?;
    serves(victim, "restarted").await.context("after a restart of the operator")?;
    ensure!(restarts(&running_operator(space).await?) == 0, "the operator restarted by itself");
    logs.extend(suite.release.logs().await?);
    ensure!(is_live(&victim.objects.get(PODS, &first_pod(victim).await?).await?), "the neighbour's pods are gone");
    for (place, text) in shown(victim, logs).await? {
        ensure!(!text.contains(CANARY), "a value of the neighbour's is in {place}");
    }
    Ok(())
}

/// Writes one of the attacker's objects. One that the apiserver refuses does no harm.
async fn put(space: &Space, method: &str, object: &Value) -> Result<()> {
    match hostile::write(&space.suite.client, &space.namespace, method, object).await {
        Err(error) if matches!(error.downcast_ref(), Some(kube::Error::Api(_))) => {
            let words: String = format!("{error:#}").chars().take(300).collect();
            println!("refused: {} {}: {words}", object["kind"], name(object));
            Ok(())
        }
        written => written,
    }
}

/// Every kind of work that the neighbour has is done, by an operator that has not restarted.
async fn serves(victim: &Space, name: &str) -> Result<()> {
    let (job, serving, run) = (format!("{name}-job"), format!("{name}-serving"), format!("{name}-run"));
    victim.submit(&Job::new(&job)).await?;
    victim.submit(&Serving::new(&serving, 1)).await?;
    victim.submit(&Run::new(&run, &[run_step("step", &[], &[])])).await?;
    let done = async {
        victim.until_state(&job, "Succeeded").await?;
        victim.until_serving(&serving).await?;
        victim.until_run(&run, "Succeeded").await
    };
    let done = done.await;
    let operator = running_operator(victim).await?;
    ensure!(restarts(&operator) == 0, "the operator restarted: {}", operator["status"]["containerStatuses"]);
    done.map(drop)
}

fn operators(space: &Space) -> Objects {
    Objects::namespaced(space.suite.client.clone(), OPERATOR_NAMESPACE)
}

/// The operator's pod that is not about to end.
async fn running_operator(space: &Space) -> Result<Value> {
    let pods = operators(space).list(PODS, "app.kubernetes.io/name=trainyard").await?;
    let mut running = pods.into_iter().filter(|pod| text(pod, "/metadata/deletionTimestamp").is_empty());
    running.next().context("no operator runs")
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or_default()
}

async fn first_pod(victim: &Space) -> Result<String> {
    let pods = victim.pods("secretive").await?;
    Ok(pods.first().map(|pod| name(pod).to_owned()).unwrap_or_default())
}

/// What the operator has let be seen: log, Events, status of every object of ours, metrics.
async fn shown(victim: &Space, logs: Vec<String>) -> Result<Vec<(&'static str, String)>> {
    let everywhere = Objects::cluster(victim.suite.client.clone());
    let events = everywhere.list(EVENTS, "").await?;
    let statuses = ["get", "tj,md,pl,plr", "--all-namespaces", "-o", r"jsonpath={range .items[*]}{.status}{'\n'}{end}"];
    let statuses = victim.kubectl(&statuses).await?.good()?;
    let metrics = metrics(victim).await?;
    let mut shown: Vec<(&'static str, String)> = logs.into_iter().map(|log| ("the log", log)).collect();
    shown.extend([("an Event", json!(events).to_string()), ("a status", statuses), ("the metrics", metrics)]);
    ensure!(shown.iter().all(|(_, text)| !text.is_empty()), "nothing was searched");
    Ok(shown)
}

/// The operator's metrics, by way of the apiserver.
async fn metrics(space: &Space) -> Result<String> {
    let pod = running_operator(space).await?;
    let ports = pod["spec"]["containers"][0]["ports"].as_array();
    let port = ports.into_iter().flatten().find(|port| port["name"] == "metrics").context("no port for metrics")?;
    let place = format!("{}:{}", name(&pod), port["containerPort"]);
    let request = Request::get(format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{place}/proxy/metrics"));
    space.suite.client.request_text(request.body(Vec::new())?).await.context("asking for metrics")
}
