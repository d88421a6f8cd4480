//! Pods and jobs in numbers, made and awaited by one client in the same way, so that their times can be compared.

use std::collections::HashSet;
use std::future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{Request, header};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::{GroupVersionKind, Object, ObjectMeta};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// Requests of the client under way at once.
pub(super) const AT_ONCE: usize = 32;
/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(1200);
const POLL: Duration = Duration::from_millis(100);

/// What a load is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pods without an owner.
    BarePod,
    /// TrainingJobs of one such pod.
    Job,
}

/// How the fake pods of a load behave; `e2e/kwok/pods.yaml` says what happens without any.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    pub(super) start_after: Option<String>,
    pub(super) run_for: Option<String>,
}

impl Pace {
    fn annotations(&self) -> Value {
        let steered = [("start-after", &self.start_after), ("run-for", &self.run_for)];
        let set = |(key, value): (&str, &Option<String>)| {
            Some((format!("fake.trainyard.dev/{key}"), value.as_deref()?.into()))
        };
        Value::Object(steered.into_iter().filter_map(set).collect())
    }
}

fn pod_spec() -> Value {
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}});
    let container = json!({"name": "main", "image": "fake", "command": ["train"], "resources": resources});
    json!({"restartPolicy": "Never", "containers": [container]})
}

/// A job of that many pods.
pub(super) fn job(namespace: &str, name: &str, nodes: u32, pace: &Pace) -> Value {
    let template = json!({"metadata": {"annotations": pace.annotations()}, "spec": pod_spec()});
    json!({
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"framework": "none", "nodes": nodes, "template": template},
    })
}

/// An object as it comes from the watch: the least that shows how it is.
pub(super) type Watched = Object<IgnoredAny, Status>;

/// What statuses say, each kind some of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    observed_generation: i64,
    pub(super) replicas: u32,
    pub(super) updated_replicas: u32,
    pub(super) available_replicas: u32,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Status {
    fn holds(&self, type_: &str) -> bool {
        self.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    }
}

/// Whether a status speaks of that generation of the spec, or a later one, and of the one in force.
pub(super) fn is_observed(object: &Watched, generation: i64) -> bool {
    let current = object.metadata.generation.unwrap_or_default();
    current >= generation && object.status.as_ref().is_some_and(|status| status.observed_generation == current)
}

/// Whether an object of ours is as that generation of its spec asks.
pub(super) fn is_ready(object: &Watched, generation: i64) -> bool {
    is_observed(object, generation) && object.status.as_ref().is_some_and(|status| status.holds("Ready"))
}

/// Whether a job or a run has ended well.
pub(super) fn is_complete(object: &Watched) -> bool {
    object.status.as_ref().is_some_and(|status| status.holds("Complete"))
}

fn jobs(client: &Client, namespace: &str) -> Api<Watched> {
    Api::namespaced_with(client.clone(), namespace, &resource("TrainingJob"))
}

/// One of our kinds.
pub(super) fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("trainyard.dev", "v1alpha1", kind))
}

/// Server-side apply, as a user does it.
pub(super) async fn apply(client: &Client, namespace: &str, kind: &ApiResource, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    let applied = api.patch(name, &PatchParams::apply("bench").force(), &Patch::Apply(object)).await;
    applied.map(drop).with_context(|| format!("applying {name} in {namespace}"))
}

impl Kind {
    fn collection(self, namespace: &str) -> String {
        match self {
            Self::BarePod => format!("/api/v1/namespaces/{namespace}/pods"),
            Self::Job => format!("/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/trainingjobs"),
        }
    }

    fn object(self, namespace: &str, name: &str, pace: &Pace) -> Value {
        match self {
            Self::BarePod => json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "annotations": pace.annotations()},
                "spec": pod_spec(),
            }),
            Self::Job => job(namespace, name, 1, pace),
        }
    }

    /// Creates one; answers how long that took.
    pub(super) async fn create(self, client: &Client, namespace: &str, name: &str, pace: &Pace) -> Result<Duration> {
        let request = Request::post(self.collection(namespace)).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(self.object(namespace, name, pace).to_string().into_bytes())?;
        let sent = Instant::now();
        client.request_text(request).await.with_context(|| format!("creating {name} in {namespace}"))?;
        Ok(sent.elapsed())
    }

    /// Waits until that many have ended well.
    pub(super) async fn until_ended(self, client: &Client, namespace: &str, wanted: usize) -> Result<()> {
        let all = WatchParams::default();
        match self {
            Self::BarePod => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                let ended = all.fields("status.phase=Succeeded");
                until(wanted, async || pods.watch_metadata(&ended, "0").await, |_| true).await
            }
            Self::Job => {
                let jobs = jobs(client, namespace);
                until(wanted, async || jobs.watch(&all, "0").await, is_complete).await
            }
        }
        .with_context(|| format!("waiting in {namespace}"))
    }

    /// Creates so many and waits until all have ended; answers how long that took from the first request.
    pub(super) async fn run(self, client: &Client, namespace: &str, count: usize, pace: &Pace) -> Result<Duration> {
        let begun = Instant::now();
        let create = |index: usize| async move {
            self.create(client, namespace, &format!("load-{index:05}"), pace).await.map(drop)
        };
        let creating =
            stream::iter((0..count).map(create)).buffer_unordered(AT_ONCE).try_for_each(|()| future::ready(Ok(())));
        tokio::try_join!(creating, self.until_ended(client, namespace, count))?;
        Ok(begun.elapsed())
    }
}

/// Waits until the pod of a job is there.
pub(super) async fn until_pod_of(client: &Client, namespace: &str, job: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = WatchParams::default().labels(&format!("trainyard.dev/job={job}"));
    until(1, async || pods.watch_metadata(&parameters, "0").await, |_| true).await
}

/// Watches until that many different objects were as wanted. A watch from version 0 begins with what is there, so one
/// that breaks is simply opened anew.
pub(super) async fn until<K, S>(
    wanted: usize,
    open: impl AsyncFn() -> kube::Result<S>,
    is_it: impl Fn(&K) -> bool,
) -> Result<()>
where
    K: ResourceExt,
    S: Stream<Item = kube::Result<WatchEvent<K>>>,
{
    let mut found = HashSet::new();
    let watching = async {
        while found.len() < wanted {
            let mut events = std::pin::pin!(open().await?);
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                    && is_it(&object)
                {
                    found.insert(object.name_any());
                }
                if found.len() >= wanted {
                    break;
                }
            }
        }
        Ok(())
    };
    match timeout(PATIENCE, watching).await {
        Ok(ended) => ended,
        Err(_) => anyhow::bail!("only {} of {wanted} after {PATIENCE:?}", found.len()),
    }
}

/// Makes a namespace and waits until pods may be created in it.
pub(super) async fn create_namespace(client: &Client, name: &str) -> Result<()> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let created = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await;
    created.with_context(|| format!("creating namespace {name}"))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let deadline = Instant::now() + PATIENCE;
    while accounts.get_metadata_opt("default").await?.is_none() {
        ensure!(Instant::now() < deadline, "namespace {name} got no ServiceAccount");
        sleep(POLL).await;
    }
    Ok(())
}

/// Deletes all runs of a namespace and waits until their pods are gone.
pub(super) async fn clear_runs(client: &Client, namespace: &str) -> Result<()> {
    let runs: Api<Watched> = Api::namespaced_with(client.clone(), namespace, &resource("PipelineRun"));
    runs.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
    clear(client, namespace).await
}

/// Deletes all jobs and pods of a namespace and waits until they are gone.
pub(super) async fn clear(client: &Client, namespace: &str) -> Result<()> {
    let (jobs, pods) = (jobs(client, namespace), Api::<Pod>::namespaced(client.clone(), namespace));
    let (one, all) = (ListParams::default().limit(1), ListParams::default());
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Repeated, since one request may run into its time limit.
        let _ = jobs.delete_collection(&DeleteParams::background(), &all).await;
        let _ = pods.delete_collection(&DeleteParams::background().grace_period(0), &all).await;
        if jobs.list_metadata(&one).await?.items.is_empty() && pods.list_metadata(&one).await?.items.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "namespace {namespace} was not empty after {PATIENCE:?}");
        sleep(POLL).await;
    }
}
