//! Jobs that go well.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use trainyard::names;

use crate::manifest::Job;
use crate::objects::{EVENTS, NAMESPACES, SERVICES, SLICES, condition, holds, label, name, owner, text, uid};
use crate::space::{Space, variable};
use crate::target::RUN_LABEL;
use crate::wait::eventually;

pub(crate) async fn one_pod_runs_to_its_end(space: Space) -> Result<()> {
    let manifest = Job::new("one").fake("termination-message", r#"{"accuracy": 0.97}"#);
    let said = space.kubectl_with(&["apply", "-f", "-"], &manifest.value().to_string()).await?.good()?;
    ensure!(said.contains("trainingjob.trainyard.dev/one created"), "{said}");
    space.kubectl(&["wait", "--for=condition=Finished", "tj/one", "--timeout=60s"]).await?.good()?;

    let job = space.job("one").await?;
    for (type_, wanted) in [("Ready", true), ("Complete", true), ("Reconciling", false), ("Stalled", false)] {
        ensure!(holds(&job, type_) == wanted, "{type_}: {}", job["status"]);
    }
    let status = &job["status"];
    ensure!(status["results"] == json!({"accuracy": 0.97}), "{status}");
    ensure!(status["observedGeneration"] == 1 && status["finishTime"].is_string(), "{status}");

    let line = space.kubectl(&["get", "tj", "one", "--no-headers"]).await?.good()?;
    ensure!(line.contains("Succeeded") && line.contains("all ranks ended well"), "{line}");
    let described = space.kubectl(&["describe", "tj", "one"]).await?.good()?;
    ensure!(described.contains("Succeeded") && described.contains("Events:"), "{described}");
    // A quick job may be over before anybody was told that it runs; more than these two there must never be.
    let told = events(&space, "one").await?;
    ensure!(told == ["Succeeded"] || told == ["Running", "Succeeded"], "{told:?}");

    let pods = space.pods("one").await?;
    let [pod] = pods.as_slice() else { anyhow::bail!("{} pods", pods.len()) };
    check_pod(pod, &job, 0)?;
    ensure!(pod["spec"]["hostname"].is_null() && pod["spec"]["subdomain"].is_null(), "one pod needs no host name");
    ensure!(variable(pod, "TRAINYARD_LEADER_HOST")? == "localhost", "{pod}");
    for kind in [SERVICES, SLICES] {
        ensure!(space.children(kind, uid(&job)).await?.is_empty(), "one pod needs no names in DNS");
    }
    Ok(())
}

pub(crate) async fn four_pods_of_torch_find_each_other(space: Space) -> Result<()> {
    let manifest = Job::torch("four", 4).runs_for("never").fake("termination-message", r#"{"epochs": 3}"#);
    let job = space.submit(&manifest).await?;
    let pods = space.running("four", 1, 4).await?;
    space.until_state("four", "Running").await?;

    let service_name = names::service("four", uid(&job));
    let service = space.objects.get(SERVICES, &service_name).await?;
    ensure!(service["spec"]["clusterIP"] == "None" && service["spec"]["selector"].is_null(), "{}", service["spec"]);
    ensure!(owner(&service) == uid(&job), "{}", service["metadata"]);
    let leader = format!("{}.{service_name}", name(&pods[0]));
    for (rank, pod) in pods.iter().enumerate() {
        check_pod(pod, &job, rank)?;
        check_torch(pod, rank, &leader)?;
        ensure!(text(pod, "/spec/subdomain") == service_name && text(pod, "/spec/hostname") == name(pod), "{pod}");
    }

    let wanted: BTreeMap<String, Value> =
        pods.iter().map(|pod| (name(pod).to_owned(), json!([pod["status"]["podIP"]]))).collect();
    eventually("every address is published", async || {
        let published = published(&space, uid(&job)).await?;
        ensure!(published == wanted, "{published:?} instead of {wanted:?}");
        Ok(())
    })
    .await?;

    space.finish("four").await?;
    let job = space.until_state("four", "Succeeded").await?;
    ensure!(job["status"]["results"] == json!({"epochs": 3}), "{}", job["status"]);
    ensure!(job["status"]["pods"]["succeeded"] == 4, "{}", job["status"]);
    eventually("no address is left in DNS", async || {
        ensure!(published(&space, uid(&job)).await?.is_empty(), "some are");
        Ok(())
    })
    .await?;
    expect_events(&space, "four", &["Running", "Succeeded"]).await
}

pub(crate) async fn results_must_be_a_whole_object(space: Space) -> Result<()> {
    // The kubelet cuts a termination message off at 4096 bytes.
    let cut = &format!(r#"{{"losses": "{}"#, "1".repeat(4096))[..4096];
    let cases = [("cut-off", cut, "Truncated"), ("no-object", "done, accuracy 0.97", "NotAnObject")];
    for (name, words, _) in cases {
        space.submit(&Job::new(name).fake("termination-message", words)).await?;
    }
    for (name, _, reason) in cases {
        let job = space.until_state(name, "Succeeded").await?;
        let refused = condition(&job, "ResultsRefused");
        ensure!(refused["status"] == "True" && refused["reason"] == reason, "{name}: {refused}");
        ensure!(job["status"]["results"].is_null(), "{name}: {}", job["status"]);
        ensure!(text(&job, "/status/message").contains("write"), "{name}: no remedy in {}", job["status"]["message"]);
    }
    Ok(())
}

/// `kubectl apply` of a namespace and a job in one go: the namespace's ServiceAccount comes a moment later.
pub(crate) async fn a_job_in_a_namespace_of_the_same_moment(space: Space) -> Result<()> {
    let namespace = format!("{}-2", space.namespace);
    let labels = json!({(RUN_LABEL): space.suite.run});
    let manifests = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}),
        Job::new("early").set("metadata.namespace", namespace.as_str()).value().clone(),
    ];
    let stream = manifests.map(|manifest| manifest.to_string()).join("\n---\n");
    let suite = &space.suite;
    suite.kubectl.run(&["apply", "-f", "-"], &stream).await?.good()?;
    let wait = ["--namespace", &namespace, "wait", "--for=condition=Complete", "tj/early", "--timeout=60s"];
    let waited = suite.kubectl.run(&wait, "").await?;
    space.cluster().delete(NAMESPACES, &namespace).await?;
    waited.good().map(drop)
}

/// What every pod of a job has, whatever the framework.
fn check_pod(pod: &Value, job: &Value, rank: usize) -> Result<()> {
    let rank = rank.to_string();
    ensure!(owner(pod) == uid(job), "{}", pod["metadata"]["ownerReferences"]);
    let labels = [("job", name(job)), ("role", "worker"), ("index", &rank), ("rank", &rank), ("attempt", "1")];
    for (key, value) in labels {
        ensure!(label(pod, &format!("trainyard.dev/{key}")) == value, "{key}: {}", pod["metadata"]["labels"]);
    }
    ensure!(text(pod, "/spec/restartPolicy") == "Never", "{}", pod["spec"]);
    ensure!(variable(pod, "TRAINYARD_JOB")? == name(job) && variable(pod, "TRAINYARD_NODE_RANK")? == rank, "{pod}");
    Ok(())
}

/// What torch.distributed and torchrun read.
fn check_torch(pod: &Value, rank: usize, leader: &str) -> Result<()> {
    let rank = rank.to_string();
    let wanted = [
        ("RANK", rank.as_str()),
        ("WORLD_SIZE", "4"),
        ("LOCAL_WORLD_SIZE", "1"),
        ("MASTER_ADDR", leader),
        ("MASTER_PORT", "29500"),
        ("PET_NNODES", "4"),
        ("PET_NODE_RANK", &rank),
        ("PET_MASTER_ADDR", leader),
    ];
    for (key, value) in wanted {
        let found = variable(pod, key)?;
        ensure!(found == value, "{key} is {found} and not {value}");
    }
    Ok(())
}

/// Host names and addresses in the slices of a job.
pub(crate) async fn published(space: &Space, job_uid: &str) -> Result<BTreeMap<String, Value>> {
    let slices = space.children(SLICES, job_uid).await?;
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let pair = |endpoint: &Value| (text(endpoint, "/hostname").to_owned(), endpoint["addresses"].clone());
    Ok(endpoints.map(pair).collect())
}

/// The reasons of the events about a job that is over, in order. They are sent after the status that they tell.
async fn events(space: &Space, job: &str) -> Result<Vec<String>> {
    eventually("the last event has come", async || {
        let reasons = reasons(space, job).await?;
        ensure!(matches!(reasons.last().map(String::as_str), Some("Succeeded" | "Failed")), "{reasons:?}");
        Ok(reasons)
    })
    .await
}

/// Waits for exactly these events about a job.
pub(crate) async fn expect_events(space: &Space, job: &str, wanted: &[&str]) -> Result<()> {
    eventually("the events have come", async || {
        let reasons = reasons(space, job).await?;
        ensure!(reasons == wanted, "{reasons:?} instead of {wanted:?}");
        Ok(())
    })
    .await
}

async fn reasons(space: &Space, job: &str) -> Result<Vec<String>> {
    let mut events = space.objects.list(EVENTS, "").await?;
    events.retain(|event| text(event, "/regarding/name") == job);
    events.sort_by_key(|event| text(event, "/eventTime").to_owned());
    Ok(events.iter().map(|event| text(event, "/reason").to_owned()).collect())
}
