//! A namespace for one test, and what tests do in it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use e2e::images::Image;
use serde_json::{Value, json};

use crate::kubectl::Said;
use crate::manifest::{Job, Manifest, OfKind, fake_annotation};
use crate::objects::{
    ACCOUNTS, CHILDREN, JOBS, Kind, MODEL_DEPLOYMENTS, NAMESPACES, Objects, PIPELINES, PODS, RUNS, holds, is_live,
    is_observed, label, message, name, owner, state, uid,
};
use crate::suite::Suite;
use crate::target::RUN_LABEL;
use crate::wait::eventually;

/// How much of the operator's log a failure shows.
const LOG_LINES: usize = 25;

/// The namespace, with short ways to its objects.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) suite: Arc<Suite>,
    pub(crate) namespace: String,
    pub(crate) objects: Objects,
}

impl Space {
    /// Makes the namespace and waits until pods can be made in it.
    pub(crate) async fn open(suite: &Arc<Suite>, test: &str) -> Result<Self> {
        let subject = test.rsplit("::").next().unwrap_or(test).replace('_', "-");
        let namespace = format!("{}-{}", &subject[..subject.len().min(50)], suite.run);
        let space = Space {
            suite: suite.clone(),
            objects: Objects::namespaced(suite.client.clone(), &namespace),
            namespace: namespace.clone(),
        };
        let labels = json!({(RUN_LABEL): suite.run});
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        space.cluster().create(NAMESPACES, &object).await?;
        eventually("the namespace has its ServiceAccount", async || space.objects.get(ACCOUNTS, "default").await)
            .await?;
        Ok(space)
    }

    /// Objects that have no namespace.
    pub(crate) fn cluster(&self) -> Objects {
        Objects::cluster(self.suite.client.clone())
    }

    /// Removes what is ours, so that the operator does not mend what the namespace controller takes apart, and the
    /// namespace.
    pub(crate) async fn close(&self) -> Result<()> {
        self.objects.delete(RUNS, "").await?;
        self.objects.delete(PIPELINES, "").await?;
        self.objects.delete(JOBS, "").await?;
        self.objects.delete(MODEL_DEPLOYMENTS, "").await?;
        self.cluster().delete(NAMESPACES, &self.namespace).await
    }

    /// kubectl in this namespace.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<Said> {
        self.kubectl_with(arguments, "").await
    }

    /// The same with something on its standard input.
    pub(crate) async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Said> {
        let arguments: Vec<&str> =
            ["--namespace", &self.namespace].into_iter().chain(arguments.iter().copied()).collect();
        self.suite.kubectl.run(&arguments, input).await
    }

    /// Where pods find an image of ours.
    pub(crate) fn image(&self, image: Image) -> String {
        match &self.suite.registry {
            Some(registry) if !self.suite.is_embedded() => image.reference_in(registry),
            _ => image.reference(),
        }
    }

    /// What a pod's spec says so that the pod comes to a real node.
    pub(crate) fn placement(&self) -> Value {
        if self.suite.is_embedded() { e2e::placement() } else { json!({}) }
    }

    /// The same for real nodes: with an image of ours, and allowed where fake nodes' pods must not come.
    pub(crate) fn real<K>(&self, manifest: Manifest<K>, image: Image) -> Manifest<K> {
        let manifest = manifest.set("spec.template.spec.containers.0.image", self.image(image));
        let placement = self.placement();
        let fields = placement.as_object().into_iter().flatten();
        fields
            .fold(manifest, |manifest, (key, value)| manifest.set(&format!("spec.template.spec.{key}"), value.clone()))
    }

    pub(crate) async fn submit<K: OfKind>(&self, manifest: &Manifest<K>) -> Result<Value> {
        self.objects.create(K::KIND, manifest.value()).await
    }

    /// Gives an object that is there another spec. What only the old one says stays, save for what is in lists.
    pub(crate) async fn change<K: OfKind>(&self, manifest: &Manifest<K>) -> Result<Value> {
        let patch = json!({"spec": manifest.value()["spec"]});
        self.objects.patch(K::KIND, manifest.name(), &patch).await
    }

    pub(crate) async fn job(&self, name: &str) -> Result<Value> {
        self.objects.get(JOBS, name).await
    }

    /// Changes a job as `kubectl patch --type merge` does.
    pub(crate) async fn edit(&self, name: &str, patch: Value) -> Result<Value> {
        self.objects.patch(JOBS, name, &patch).await
    }

    /// Waits until the job is in a state, and answers the job.
    pub(crate) async fn until_state(&self, name: &str, wanted: &str) -> Result<Value> {
        self.until_job(name, &format!("{name} is {wanted}"), |job| state(job) == wanted).await
    }

    /// Waits until something is true of the job.
    pub(crate) async fn until_job(&self, name: &str, what: &str, test: impl Fn(&Value) -> bool) -> Result<Value> {
        self.until(JOBS, name, what, test).await
    }

    /// Waits until a ModelDeployment serves what its spec asks for, and answers it.
    pub(crate) async fn until_serving(&self, name: &str) -> Result<Value> {
        let serves = |deployment: &Value| is_observed(deployment) && holds(deployment, "Ready");
        self.until(MODEL_DEPLOYMENTS, name, &format!("{name} serves"), serves).await
    }

    /// Waits until a ModelDeployment is in a state, and answers it.
    pub(crate) async fn until_deployment(&self, name: &str, wanted: &str) -> Result<Value> {
        let is = |deployment: &Value| is_observed(deployment) && state(deployment) == wanted;
        self.until(MODEL_DEPLOYMENTS, name, &format!("{name} is {wanted}"), is).await
    }

    /// Waits until a PipelineRun is in a state, and answers it.
    pub(crate) async fn until_run(&self, name: &str, wanted: &str) -> Result<Value> {
        self.until(RUNS, name, &format!("{name} is {wanted}"), |run| state(run) == wanted).await
    }

    /// The pods of a run's step, in order of attempts.
    pub(crate) async fn step_pods(&self, run: &str, step: &str) -> Result<Vec<Value>> {
        let selector = format!("trainyard.dev/run={run},trainyard.dev/step={step}");
        let mut pods = self.objects.list(PODS, &selector).await?;
        pods.sort_by_key(|pod| label(pod, "trainyard.dev/attempt").parse::<u32>().unwrap_or_default());
        Ok(pods)
    }

    /// Waits until something is true of an object of ours, and answers the object.
    pub(crate) async fn until(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(what, async || {
            let object = self.objects.get(kind, name).await?;
            let status = &object["status"];
            ensure!(test(&object), "{name} is {:?}: {}; status {status}", state(&object), message(&object));
            Ok(object)
        })
        .await
    }

    /// The pods of a job by name, in order of attempt and rank.
    pub(crate) async fn pods(&self, job: &str) -> Result<Vec<Value>> {
        let mut pods = self.objects.list(PODS, &format!("trainyard.dev/job={job}")).await?;
        let number = |pod: &Value, key| label(pod, key).parse::<u32>().unwrap_or_default();
        pods.sort_by_key(|pod| (number(pod, "trainyard.dev/attempt"), number(pod, "trainyard.dev/rank")));
        Ok(pods)
    }

    /// Waits until all pods of an attempt run, and answers them by rank.
    pub(crate) async fn running(&self, job: &str, attempt: u32, nodes: usize) -> Result<Vec<Value>> {
        let wanted = attempt.to_string();
        eventually(&format!("{nodes} pods of attempt {attempt} of {job} run"), async || {
            let pods = self.pods(job).await?;
            let pods: Vec<Value> =
                pods.into_iter().filter(|pod| label(pod, "trainyard.dev/attempt") == wanted).collect();
            let run = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count();
            ensure!(run == nodes && pods.len() == nodes, "{run} of {} pods run", pods.len());
            Ok(pods)
        })
        .await
    }

    /// Lets the pods of a job that run `never` to an end come to a good one.
    pub(crate) async fn finish(&self, job: &str) -> Result<()> {
        let annotations = json!({(fake_annotation("run-for")): "1ms"});
        for pod in self.pods(job).await?.iter().filter(|pod| is_live(pod)) {
            self.objects.patch(PODS, name(pod), &json!({"metadata": {"annotations": annotations}})).await?;
        }
        Ok(())
    }

    /// Ends one pod of a job that runs `never`, as its kubelet would report it.
    pub(crate) async fn end_pod(&self, pod: &Value, exit_code: i32, reason: &str, words: &str) -> Result<()> {
        let started = pod["status"]["startTime"].clone();
        let ended = json!({
            "exitCode": exit_code, "reason": reason, "message": words, "startedAt": started, "finishedAt": now(),
        });
        let containers: Vec<Value> = (pod["spec"]["containers"].as_array().into_iter().flatten())
            .map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "", "ready": false,
                    "started": false, "restartCount": 0, "state": {"terminated": ended},
                })
            })
            .collect();
        let phase = if exit_code == 0 { "Succeeded" } else { "Failed" };
        let patch = json!({"status": {"phase": phase, "containerStatuses": containers}});
        self.objects.patch(PODS, &format!("{}/status", name(pod)), &patch).await.map(drop)
    }

    /// Everything that belongs to a job with that UID.
    pub(crate) async fn children(&self, kind: Kind, job_uid: &str) -> Result<Vec<Value>> {
        let objects = self.objects.list(kind, "trainyard.dev/job").await?;
        Ok(objects.into_iter().filter(|object| owner(object) == job_uid).collect())
    }

    /// Waits until nothing in the namespace carries a job's label.
    pub(crate) async fn until_nothing_is_left(&self) -> Result<()> {
        self.until_none_of(&CHILDREN, "trainyard.dev/job").await
    }

    /// Waits until a selector finds no object of these kinds.
    pub(crate) async fn until_none_of(&self, kinds: &[Kind], selector: &str) -> Result<()> {
        eventually("nothing is left", async || {
            for &kind in kinds {
                let left = self.objects.list(kind, selector).await?;
                ensure!(left.is_empty(), "left: {:?}", left.iter().map(name).collect::<Vec<_>>());
            }
            Ok(())
        })
        .await
    }

    /// Makes a job and answers its UID.
    pub(crate) async fn submit_for_uid(&self, job: &Job) -> Result<String> {
        Ok(uid(&self.submit(job).await?).to_owned())
    }

    /// What is in the namespace, and what the operator said about it last.
    pub(crate) async fn report(&self) -> String {
        let mut report = format!("namespace {}\n", self.namespace);
        for arguments in [
            &["get", "tj,pods,services,endpointslices", "-o", "wide", "--show-labels=false"][..],
            &["get", "events.events.k8s.io"],
            &["get", "md,deployments,replicasets,controllerrevisions,poddisruptionbudgets", "-o", "wide"],
            &["get", "pl,plr,persistentvolumeclaims", "-o", "wide"],
            &["get", "tj,md,pl,plr", "-o", r"jsonpath={range .items[*]}{.metadata.name}{' '}{.status}{'\n'}{end}"],
        ] {
            let said = self.kubectl(arguments).await;
            report += &said.map_or_else(|error| format!("{error:#}\n"), |said| said.out + &said.err);
        }
        let logs = self.suite.logs().await;
        let lines = || logs.iter().flat_map(|log| log.lines());
        let ours: Vec<&str> = lines().filter(|line| line.contains(&self.namespace)).collect();
        let others: Vec<&str> = lines().filter(|line| !line.contains("DEBUG")).collect();
        for (title, lines) in [("the operator's log about it", ours), ("the end of the operator's log", others)] {
            report += &format!("{title}:\n{}\n", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
        report
    }
}

/// Now, as Kubernetes writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The variables of a pod's first container.
pub(crate) fn variable<'a>(pod: &'a Value, key: &str) -> Result<&'a str> {
    let variables = pod["spec"]["containers"][0]["env"].as_array();
    let found = variables.into_iter().flatten().find(|variable| variable["name"] == key);
    found.and_then(|variable| variable["value"].as_str()).with_context(|| format!("no variable {key} in {}", name(pod)))
}
