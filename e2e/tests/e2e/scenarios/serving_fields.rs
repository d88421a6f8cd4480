//! Fields of a ModelDeployment that people may set, each with what comes of it on fake nodes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::manifest::Serving;
use crate::objects::{BUDGETS, PODS, SERVICES, SLICES, is_live, label, message, name, text, uid};
use crate::space::{Space, now};
use crate::wait::{PATIENCE, eventually};

const CONTAINERS: &str = "spec.template.spec.containers";
const IMAGE: &str = "spec.template.spec.containers.0.image";
const PORTS: &str = "spec.template.spec.containers.0.ports";
const GRACE: &str = "spec.template.spec.terminationGracePeriodSeconds";

/// Both containers wait before they end; what belongs to serving is the business of the one that the template names.
pub(crate) async fn of_two_containers_the_named_one_serves(space: Space) -> Result<()> {
    // The name of its port is what another container's port might be called by default.
    let proxy =
        json!({"name": "proxy", "image": "example/proxy:1", "ports": [{"containerPort": 3000, "name": "http"}]});
    let server = json!({"name": "server", "image": "example/server:1", "ports": [{"containerPort": 8080}]});
    let deployment = Serving::new("digits", 1)
        .set(CONTAINERS, json!([proxy, server]))
        .set("spec.template.metadata.labels.team", "vision")
        .annotated("kubectl.kubernetes.io/default-container", "server");
    space.submit(&deployment).await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(deployment["status"]["effective"]["container"] == "server", "{}", deployment["status"]);

    let pod = serving_pod(&space, "digits").await?;
    ensure!(label(&pod, "team") == "vision" && pod["spec"]["terminationGracePeriodSeconds"] == 60, "{pod}");
    let (proxy, server) = (container(&pod, "proxy")?, container(&pod, "server")?);
    for container in [proxy, server] {
        ensure!(container["lifecycle"]["preStop"] == json!({"sleep": {"seconds": 10}}), "{container}");
    }
    let revision = [("TRAINYARD_DEPLOYMENT", "digits"), ("TRAINYARD_REVISION", "1")];
    ensure!(variables(server) == BTreeMap::from(revision) && variables(proxy).is_empty(), "{proxy} {server}");
    ensure!(*probed_port(server) == 8080 && proxy["readinessProbe"].is_null(), "{proxy} {server}");
    until_routes(&space, &["80/TCP -> 8080"]).await
}

/// The Service has the ports of the container that serves, as many as the revision that serves has.
pub(crate) async fn every_port_of_the_server_is_in_the_service(space: Space) -> Result<()> {
    let (model, grpc) = (json!({"containerPort": 8080}), json!({"containerPort": 9000, "name": "grpc"}));
    let metrics = json!({"containerPort": 9000, "protocol": "UDP"});
    let three = json!([model, grpc, metrics]);
    space.submit(&Serving::new("digits", 2).set(PORTS, three)).await?;
    space.until_serving("digits").await?;
    until_routes(&space, &["80/TCP -> 8080", "9000/TCP -> 9000", "9000/UDP -> 9000"]).await?;
    ensure!(listed_ports(&space).await? == ["80/TCP", "9000/TCP", "9000/UDP"], "kubectl shows others");

    // The next one also serves on another number.
    let two = json!([{"containerPort": 8081}, grpc]);
    space.change(&Serving::new("digits", 2).set(PORTS, two)).await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(deployment["status"]["stableRevision"] == 2, "{}", deployment["status"]);
    until_routes(&space, &["80/TCP -> 8081", "9000/TCP -> 9000"]).await?;
    ensure!(listed_ports(&space).await? == ["80/TCP", "9000/TCP"], "kubectl shows others");
    Ok(())
}

/// With no spare room a pod goes before another comes.
pub(crate) async fn without_surge_pods_are_replaced_in_place(space: Space) -> Result<()> {
    let sums = sums_of_a_replacement(&space, json!({"maxSurge": 0, "maxUnavailable": 1}), (0, 1)).await?;
    ensure!(sums.first() == Some(&2) && sums.last() == Some(&3), "from 2 to 3: {sums:?}");
    Ok(())
}

/// Half of three pods are two.
pub(crate) async fn half_as_many_pods_more_may_come_first(space: Space) -> Result<()> {
    let sums = sums_of_a_replacement(&space, json!({"maxSurge": "50%"}), (2, 0)).await?;
    ensure!(sums.first() == Some(&3) && sums.last() == Some(&5), "from 3 to 5: {sums:?}");
    Ok(())
}

/// The budget is what a drain goes by; it changes with its field, without a new revision, and goes when it limits nothing.
pub(crate) async fn a_drain_may_take_what_the_budget_says(space: Space) -> Result<()> {
    let with_budget = |amount: Value| Serving::new("digits", 4).set("spec.disruptionBudget.maxUnavailable", amount);
    space.submit(&with_budget(json!(1))).await?;
    space.until_serving("digits").await?;
    let made = until_budget(&space, &json!(1), 1).await?;
    space.change(&with_budget(json!("50%"))).await?;
    let changed = until_budget(&space, &json!("50%"), 2).await?;
    ensure!(uid(&made) == uid(&changed), "it was made anew: {changed}");
    space.change(&with_budget(json!("100%"))).await?;
    space.until_none_of(&[BUDGETS], "trainyard.dev/deployment=digits").await?;
    let deployment = space.until_serving("digits").await?;
    ensure!(deployment["status"]["latestRevision"] == 1, "{}", deployment["status"]);
    Ok(())
}

/// A crash is told with or without what the container said last.
pub(crate) async fn log_lines_are_told_unless_they_are_off(space: Space) -> Result<()> {
    space.submit(&Serving::new("told", 1).set("spec.failureLogs", "Tail")).await?;
    space.submit(&Serving::new("silent", 1).set("spec.failureLogs", "None")).await?;
    let words = "a secret in the log";
    for (name, tail, policy) in [("told", json!(words), "FallbackToLogsOnError"), ("silent", json!(null), "File")] {
        space.until_serving(name).await?;
        let pod = serving_pod(&space, name).await?;
        ensure!(container(&pod, "server")?["terminationMessagePolicy"] == policy, "{name}: {pod}");
        crash(&space, &pod, words).await?;
        let deployment = space.until_deployment(name, "Crashing").await?;
        let (status, failure) = (&deployment["status"], &deployment["status"]["failure"]);
        ensure!(failure["reason"] == "CrashLoopBackOff" && failure["exitCode"] == 3, "{name}: {status}");
        ensure!(message(&deployment).contains("container server ended with exit code 3"), "{name}: {status}");
        ensure!(failure["logTail"] == tail, "{name}: {status}");
        ensure!(message(&deployment).contains(words) == tail.is_string(), "{name}: {status}");
        ensure!(tail.is_string() || !status.to_string().contains("secret"), "{name}: {status}");
    }
    Ok(())
}

/// What a template says of its readiness and its end holds; what it does not say fits to it.
pub(crate) async fn a_templates_own_draining_is_kept(space: Space) -> Result<()> {
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 7});
    let hook = json!({"exec": {"command": ["drain", "--and-wait"]}});
    let hasty = |name| Serving::new(name, 1).set(GRACE, 4).set("spec.template.spec.restartPolicy", "Always");
    let careful = hasty("careful")
        .set(&format!("{CONTAINERS}.0.readinessProbe"), probe)
        .set(&format!("{CONTAINERS}.0.lifecycle.preStop"), hook.clone());
    for (deployment, expected) in [(careful, hook), (hasty("hasty"), json!({"sleep": {"seconds": 2}}))] {
        space.submit(&deployment).await?;
        space.until_serving(deployment.name()).await?;
        let pod = serving_pod(&space, deployment.name()).await?;
        ensure!(pod["spec"]["terminationGracePeriodSeconds"] == 4, "{pod}");
        ensure!(container(&pod, "server")?["lifecycle"]["preStop"] == expected, "{pod}");
    }
    let pod = serving_pod(&space, "careful").await?;
    let kept = &container(&pod, "server")?["readinessProbe"];
    ensure!(text(kept, "/httpGet/path") == "/healthz" && kept["httpGet"]["port"] == 8080, "{kept}");
    ensure!(kept["periodSeconds"] == 7 && kept["tcpSocket"].is_null(), "{kept}");
    Ok(())
}

/// The deadline in force is told, the default as well as another, and is no reason for a new revision.
pub(crate) async fn the_progress_deadline_in_force_is_told(space: Space) -> Result<()> {
    let with_deadline = |deadline: Value| Serving::new("digits", 1).set("spec.rollout.progressDeadline", deadline);
    space.submit(&with_deadline(json!("45s"))).await?;
    for (deadline, told) in [(json!("45s"), "45s"), (json!("30s"), "30s"), (Value::Null, "600s")] {
        space.change(&with_deadline(deadline)).await?;
        let deployment = space.until_serving("digits").await?;
        let status = &deployment["status"];
        let expected = json!({
            "container": "server", "maxSurge": 1, "maxUnavailable": 0, "minReadySeconds": 1, "progressDeadline": told,
        });
        ensure!(status["effective"] == expected && status["latestRevision"] == 1, "{status}");
    }
    Ok(())
}

/// The one pod of a deployment that serves.
async fn serving_pod(space: &Space, deployment: &str) -> Result<Value> {
    let pods = space.objects.list(PODS, &format!("trainyard.dev/deployment={deployment}")).await?;
    pods.into_iter().find(is_live).with_context(|| format!("{deployment} has no pod"))
}

/// A container of a pod.
fn container<'a>(pod: &'a Value, wanted: &str) -> Result<&'a Value> {
    let found = list(&pod["spec"]["containers"]).find(|container| name_of(container) == wanted);
    found.with_context(|| format!("no container {wanted} in {}", name(pod)))
}

/// The name of what is in a list.
fn name_of(item: &Value) -> &str {
    text(item, "/name")
}

/// The variables of a container.
fn variables(container: &Value) -> BTreeMap<&str, &str> {
    list(&container["env"]).map(|variable| (name_of(variable), text(variable, "/value"))).collect()
}

/// The number of the port that a container's readiness probe connects to; the probe may say its name.
fn probed_port(container: &Value) -> &Value {
    let said = &container["readinessProbe"]["tcpSocket"]["port"];
    let named = list(&container["ports"]).find(|port| port["name"] == *said && said.is_string());
    named.map_or(said, |port| &port["containerPort"])
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Waits until the ports of the Service lead where they should, and there are no others.
async fn until_routes(space: &Space, expected: &[&str]) -> Result<()> {
    eventually("the Service leads to the pods", async || {
        let routes = routes(space).await?;
        ensure!(routes == expected, "{routes:?} instead of {expected:?}");
        Ok(())
    })
    .await
}

/// Where each port of the Service leads, by the EndpointSlices that nodes' proxies go by: `80/TCP -> 8080`.
async fn routes(space: &Space) -> Result<Vec<String>> {
    let service = space.objects.get(SERVICES, "digits").await?;
    let slices = space.objects.list(SLICES, "kubernetes.io/service-name=digits").await?;
    let used = slices.iter().filter(|slice| list(&slice["endpoints"]).next().is_some());
    let targets: Vec<&Value> = used.flat_map(|slice| list(&slice["ports"])).collect();
    let route = |port: &Value| {
        let is_its = |target: &&&Value| target["name"] == port["name"] && target["protocol"] == port["protocol"];
        // Pods of one revision have one; while two serve, they may differ.
        let numbers: BTreeSet<String> =
            targets.iter().filter(is_its).map(|target| target["port"].to_string()).collect();
        let numbers: Vec<String> = numbers.into_iter().collect();
        format!("{}/{} -> {}", port["port"], text(port, "/protocol"), numbers.join(" or "))
    };
    let mut routes: Vec<String> = list(&service["spec"]["ports"]).map(route).collect();
    routes.sort();
    Ok(routes)
}

/// The ports that `kubectl get svc` shows.
async fn listed_ports(space: &Space) -> Result<Vec<String>> {
    let line = space.kubectl(&["get", "svc", "digits", "--no-headers"]).await?.good()?;
    let column = line.split_whitespace().nth(4).with_context(|| format!("no ports in {line:?}"))?;
    let mut ports: Vec<String> = column.split(',').map(str::to_owned).collect();
    ports.sort();
    Ok(ports)
}

/// Waits until the budget says this, and a drain may take so many pods.
async fn until_budget(space: &Space, amount: &Value, allowed: u32) -> Result<Value> {
    eventually("the budget is in force", async || {
        let mut budgets = space.objects.list(BUDGETS, "trainyard.dev/deployment=digits").await?;
        ensure!(budgets.len() == 1, "{} budgets", budgets.len());
        let budget = budgets.remove(0);
        ensure!(budget["spec"]["maxUnavailable"] == *amount, "{}", budget["spec"]);
        ensure!(budget["status"]["disruptionsAllowed"] == allowed, "{}", budget["status"]);
        Ok(budget)
    })
    .await
}

/// Lets the container of a pod that serves end, as its kubelet would report it before it starts it again.
async fn crash(space: &Space, pod: &Value, words: &str) -> Result<()> {
    let status = &pod["status"];
    let ended = json!({
        "exitCode": 3, "reason": "Error", "message": words, "startedAt": status["startTime"], "finishedAt": now(),
    });
    let mut container = status["containerStatuses"][0].clone();
    container["ready"] = false.into();
    container["started"] = false.into();
    container["restartCount"] = 1.into();
    container["lastState"] = json!({"terminated": ended});
    container["state"] = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let mut conditions = status["conditions"].clone();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if ["Ready", "ContainersReady"].contains(&text(condition, "/type")) {
            condition["status"] = "False".into();
        }
    }
    let patch = json!({"status": {"conditions": conditions, "containerStatuses": [container]}});
    space.objects.patch(PODS, &format!("{}/status", name(pod)), &patch).await.map(drop)
}

/// Replaces three pods by three others, and answers how many pods all revisions together were meant to have meanwhile,
/// lowest first. `room` is what status should say of surge and unavailability.
async fn sums_of_a_replacement(space: &Space, rollout: Value, room: (i32, i32)) -> Result<Vec<i32>> {
    let version = |image| {
        Serving::new("digits", 3).set(IMAGE, image).set("spec.rollout", rollout.clone()).fake("start-after", "500ms")
    };
    space.submit(&version("example/server:1")).await?;
    let deployment = space.until_serving("digits").await?;
    let effective = &deployment["status"]["effective"];
    ensure!(effective["maxSurge"] == room.0 && effective["maxUnavailable"] == room.1, "{effective}");

    let mut watch = timeout(PATIENCE, WantedPods::watch(space)).await.context("watching Deployments")??;
    space.change(&version("example/server:2")).await?;
    let sums =
        timeout(PATIENCE, watch.sums_until(&[("1", 0), ("2", 3)])).await.context("revision 2 has no 3 pods")??;
    space.until_serving("digits").await?;
    Ok(sums.into_iter().collect())
}

/// How many pods each revision of a namespace should have, change by change: none of them is missed, as it would be by
/// looking again and again.
struct WantedPods {
    events: BoxStream<'static, watcher::Result<Event<Deployment>>>,
    by_revision: BTreeMap<String, i32>,
}

impl WantedPods {
    /// Begins with what there is.
    async fn watch(space: &Space) -> Result<Self> {
        let deployments = Api::<Deployment>::namespaced(space.suite.client.clone(), &space.namespace);
        let events = watcher(deployments, watcher::Config::default()).boxed();
        let mut watch = WantedPods { events, by_revision: BTreeMap::new() };
        while !matches!(watch.next().await?, Event::InitDone) {}
        Ok(watch)
    }

    /// Every sum over all revisions that there was, until each has as many as it should.
    async fn sums_until(&mut self, expected: &[(&str, i32)]) -> Result<BTreeSet<i32>> {
        let expected = expected.iter().map(|(revision, pods)| ((*revision).to_owned(), *pods)).collect();
        let mut sums = BTreeSet::new();
        while self.by_revision != expected {
            self.next().await?;
            sums.insert(self.by_revision.values().sum());
        }
        Ok(sums)
    }

    async fn next(&mut self) -> Result<Event<Deployment>> {
        let event = self.events.next().await.context("the watch has ended")??;
        if let Event::InitApply(deployment) | Event::Apply(deployment) = &event {
            let revision = deployment.labels().get("trainyard.dev/revision").cloned().unwrap_or_default();
            let pods = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            self.by_revision.insert(revision, pods);
        }
        Ok(event)
    }
}
