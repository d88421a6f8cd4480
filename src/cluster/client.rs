//! The real apiserver behind [`ApiServer`].
//!
//! Each write asks the lease first, has a time limit that ends before anyone else can hold the lease, and is counted.
//! kube's client repeats what the apiserver answered with 429, 503 or 504 within that limit. That is harmless here:
//! a create that was carried out answers AlreadyExists, a change Conflict, a delete NotFound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use kube::config::{Config, InferConfigError, KubeConfigOptions, KubeconfigError};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::guard::lenient::tree;
use super::lease::LeaseGate;
use super::port::{ApiError, ApiServer, EventDraft, ObjectId, Resource};
use super::territory::Territory;
use crate::names::OPERATOR;
use crate::server::metrics::{Metrics, RequestOutcome, Verb};
use crate::text::parse_failure;

mod answer;
mod requests;
#[cfg(test)]
mod tests;

pub use answer::described;
use answer::{is_uid_mismatch, map_error};

/// Longest that one read or write may take. Admission webhooks may take 10 s of their own by default; one that does is
/// better retried than waited for, as the object's other work waits behind it.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Lists that are read at a time.
const LISTS_AT_ONCE: usize = 2;
/// Most objects of one live list: several times as many as the pods of the largest job.
const MOST_LISTED: usize = 5_000;
/// Longest that an Event may take: it is news, and reconciling should not wait for it.
const EVENT_LIMIT: Duration = Duration::from_secs(3);
/// A lost apiserver is found out about, and another of its addresses tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longer than any watch (the apiserver ends ours before 295 s), so only a connection whose other end is gone meets it.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// [`ApiServer`] over a kube client. Cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    client: kube::Client,
    gate: LeaseGate,
    territory: Territory,
    metrics: Arc<Metrics>,
    /// Tells whose Events these are: the host name, which in a cluster is the pod's name.
    instance: Arc<str>,
    limit: Duration,
    /// Places for lists: a page is held as text, and in the worst case is 16 objects of a few megabytes.
    lists: Arc<Semaphore>,
}

impl ApiClient {
    /// Writes through `client` while `gate` holds, within `territory`, and counts in `metrics`.
    pub fn new(client: kube::Client, gate: LeaseGate, territory: Territory, metrics: Arc<Metrics>) -> Self {
        let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| OPERATOR.to_owned()).into();
        let lists = Arc::new(Semaphore::new(LISTS_AT_ONCE));
        ApiClient { client, gate, territory, metrics, instance, limit: REQUEST_LIMIT, lists }
    }

    /// How long a write in a namespace may take that begins now; `None`: it must not begin.
    ///
    /// The lease is asked first: it vouches for the claims that are known when it is asked, and those known later are more.
    fn permit(&self, namespace: &str, limit: Duration) -> Option<Duration> {
        self.gate.permit(limit).filter(|_| self.territory.is_ours(namespace))
    }

    /// Sends a write if the lease allows it; answers the apiserver's answer.
    async fn write(
        &self,
        verb: Verb,
        id: &ObjectId,
        request: Result<Request<Vec<u8>>, ApiError>,
    ) -> Result<String, ApiError> {
        let start = Instant::now();
        let result = match self.permit(&id.namespace, self.limit) {
            Some(limit) => self.send(verb, id, request, limit).await,
            None => Err(ApiError::NotLeader),
        };
        self.count(verb, id.resource, start, result)
    }

    async fn send(
        &self,
        verb: Verb,
        id: &ObjectId,
        request: Result<Request<Vec<u8>>, ApiError>,
        limit: Duration,
    ) -> Result<String, ApiError> {
        // The body is read to its end even where nobody wants it: HTTP/1.1 can use the connection again only then.
        match timeout(limit, self.client.request_text(request?)).await {
            Ok(answer) => answer.map_err(|error| map_error(verb, id, error)),
            Err(_) => Err(ApiError::Unavailable(format!("no answer within {limit:.1?}"))),
        }
    }

    fn count<T>(
        &self,
        verb: Verb,
        resource: Resource,
        start: Instant,
        result: Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.metrics.requested(verb, resource, RequestOutcome::from(&result), start.elapsed());
        result
    }
}

impl ApiServer for ApiClient {
    async fn read(&self, id: &ObjectId) -> Result<Option<Value>, ApiError> {
        let start = Instant::now();
        let result = match self.send(Verb::Read, id, requests::read(id), self.limit).await {
            Ok(text) => tree(&text).map(Some).map_err(|error| unreadable(&error)),
            // That there is none is an answer, not a failure.
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        };
        self.count(Verb::Read, id.resource, start, result)
    }

    async fn list<T: Send>(
        &self,
        resource: Resource,
        namespace: &str,
        label: &str,
        value: &str,
        read: fn(&RawValue) -> T,
    ) -> Result<Vec<T>, ApiError> {
        let collection = ObjectId::new(resource, namespace, "");
        let (mut objects, mut from) = (Vec::new(), String::new());
        loop {
            // For one page only: others decide how many objects carry a label, and a long list must not hold up short ones.
            let _place = self.lists.acquire().await;
            let start = Instant::now();
            let request = requests::list(resource, namespace, label, value, &from);
            let page = self.send(Verb::List, &collection, request, self.limit).await;
            let page = self.count(Verb::List, resource, start, page)?;
            let page: Page<'_> = parsed(&page)?;
            objects.extend(page.items.into_iter().map(read));
            from = page.metadata.next.unwrap_or_default();
            if from.is_empty() {
                return Ok(objects);
            }
            if objects.len() >= MOST_LISTED {
                let kind = resource.kind();
                let problem = format!(
                    "{namespace}: more than {MOST_LISTED} objects of kind {kind} have the label {label}={value}"
                );
                return Err(ApiError::Unavailable(problem));
            }
        }
    }

    async fn create(&self, id: &ObjectId, object: String) -> Result<String, ApiError> {
        let answer = self.write(Verb::Create, id, requests::create(id, object)).await?;
        // It is there, whatever the answer looks like.
        Ok(parsed::<Written>(&answer).map(|written| written.metadata.uid).unwrap_or_default())
    }

    async fn dry_run_create(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let id = requests::id_of(resource, namespace, object);
        self.write(Verb::DryRun, &id, requests::dry_run_create(resource, namespace, object)).await.map(drop)
    }

    async fn apply(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let id = requests::id_of(resource, namespace, object);
        self.write(Verb::Apply, &id, requests::apply(&id, object, true)).await.map(drop)
    }

    async fn apply_giving_way(&self, resource: Resource, namespace: &str, object: &Value) -> Result<(), ApiError> {
        let id = requests::id_of(resource, namespace, object);
        self.write(Verb::Apply, &id, requests::apply(&id, object, false)).await.map(drop)
    }

    async fn scale(&self, id: &ObjectId, uid: &str, version: &str, replicas: i32) -> Result<(), ApiError> {
        match self.write(Verb::Apply, id, requests::scale(id, uid, version, replicas)).await {
            // Ours is gone, as server-side apply would say it.
            Err(ApiError::NotFound(id)) => Err(ApiError::Conflict(format!("{id} is gone"))),
            answer => answer.map(drop),
        }
    }

    async fn patch_status(&self, id: &ObjectId, patch: &Value) -> Result<String, ApiError> {
        let answer = self.write(Verb::PatchStatus, id, requests::patch_status(id, patch)).await?;
        Ok(parsed::<Written>(&answer)?.metadata.resource_version)
    }

    async fn delete(&self, id: &ObjectId, uid: &str, version: Option<&str>) -> Result<(), ApiError> {
        match self.write(Verb::Delete, id, requests::delete(id, uid, version)).await {
            Err(ApiError::NotFound(_)) => Ok(()),
            Err(ApiError::Conflict(message)) if is_uid_mismatch(&message) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn publish_event(&self, about: &ObjectId, uid: &str, event: &EventDraft) {
        let Some(limit) = self.permit(&about.namespace, EVENT_LIMIT) else { return };
        let request = requests::event(about, uid, event, &self.instance, Timestamp::now());
        let sent = match request {
            Ok(request) => timeout(limit, self.client.request_text(request)).await,
            Err(_) => return,
        };
        match sent {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%about, reason = event.reason, "an Event was not published: {}", described(&error));
            }
            Err(_) => tracing::warn!(%about, reason = event.reason, "an Event was not published within {limit:.1?}"),
        }
    }
}

/// What is read of the answer to a write.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    #[serde(default)]
    uid: String,
    resource_version: String,
}

/// A list as the apiserver answers it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    /// Where the next page begins; empty or absent on the last.
    #[serde(rename = "continue")]
    next: Option<String>,
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    ApiError::Unavailable(format!("an answer cannot be read: {}", parse_failure(error)))
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A context was named, and the kubeconfig does not give it.
    #[error("context {context:?} of the kubeconfig cannot be used: {source}")]
    Context {
        /// The context's name.
        context: String,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// Neither a kubeconfig nor a pod's ServiceAccount was found.
    #[error("no cluster to connect to: neither a kubeconfig nor a ServiceAccount's token could be used: {0}")]
    NoCluster(#[source] InferConfigError),
    /// The configuration was read, but its certificates or credentials cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    Unusable(#[source] kube::Error),
}

/// How to connect: by that context of the kubeconfig, or without one by the current context, or as the cluster that this
/// process runs in has it.
pub async fn configuration(context: Option<&str>) -> Result<Config, ConnectError> {
    let config = match context {
        Some(context) => {
            let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
            let config = Config::from_kubeconfig(&options).await;
            config.map_err(|source| ConnectError::Context { context: context.to_owned(), source })?
        }
        None => Config::infer().await.map_err(ConnectError::NoCluster)?,
    };
    Ok(with_limits(config))
}

/// A client with connections of its own, whose background tasks run on `runtime`; those who send with it should run there
/// too. Sends nothing yet.
pub fn client(configuration: Config, runtime: &Handle) -> Result<kube::Client, ConnectError> {
    let _entered = runtime.enter();
    kube::Client::try_from(configuration).map_err(ConnectError::Unusable)
}

fn with_limits(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.read_timeout = Some(SILENCE_LIMIT);
    // Otherwise the time that a connection idled in the pool counts, and a watch on it ends before its time.
    config.reset_reader_on_write = true;
    config
}
