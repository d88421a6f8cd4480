//! The one door to the apiserver.
//!
//! Everything that a controller does to the cluster goes through [`ApiServer`], so that the simulated cluster can
//! stand in for the real one and drive the very same code.

use std::fmt;
use std::future::Future;

use serde_json::Value;
use serde_json::value::RawValue;

/// A kind of object that we read one by one or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Our own TrainingJob.
    TrainingJob,
    /// Our own ModelDeployment.
    ModelDeployment,
    /// Our own Pipeline.
    Pipeline,
    /// Our own PipelineRun.
    PipelineRun,
    /// Core v1 Pod.
    Pod,
    /// Core v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 ControllerRevision.
    ControllerRevision,
    /// policy/v1 PodDisruptionBudget.
    PodDisruptionBudget,
    /// Core v1 PersistentVolumeClaim.
    PersistentVolumeClaim,
}

impl Resource {
    /// Kind as in manifests.
    pub fn kind(self) -> &'static str {
        match self {
            Resource::TrainingJob => "TrainingJob",
            Resource::Pod => "Pod",
            Resource::Service => "Service",
            Resource::EndpointSlice => "EndpointSlice",
            Resource::ModelDeployment => "ModelDeployment",
            Resource::Pipeline => "Pipeline",
            Resource::PipelineRun => "PipelineRun",
            Resource::Deployment => "Deployment",
            Resource::ControllerRevision => "ControllerRevision",
            Resource::PodDisruptionBudget => "PodDisruptionBudget",
            Resource::PersistentVolumeClaim => "PersistentVolumeClaim",
        }
    }

    /// `apiVersion` as in manifests.
    pub fn api_version(self) -> &'static str {
        match self {
            Resource::TrainingJob | Resource::ModelDeployment | Resource::Pipeline | Resource::PipelineRun => {
                "trainyard.dev/v1alpha1"
            }
            Resource::Pod | Resource::Service | Resource::PersistentVolumeClaim => "v1",
            Resource::Deployment | Resource::ControllerRevision => "apps/v1",
            Resource::PodDisruptionBudget => "policy/v1",
            Resource::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// Plural, as in the URL.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::TrainingJob => "trainingjobs",
            Resource::Pod => "pods",
            Resource::Service => "services",
            Resource::EndpointSlice => "endpointslices",
            Resource::ModelDeployment => "modeldeployments",
            Resource::Pipeline => "pipelines",
            Resource::PipelineRun => "pipelineruns",
            Resource::Deployment => "deployments",
            Resource::ControllerRevision => "controllerrevisions",
            Resource::PodDisruptionBudget => "poddisruptionbudgets",
            Resource::PersistentVolumeClaim => "persistentvolumeclaims",
        }
    }

    /// URL of the collection in a namespace.
    pub fn collection_path(self, namespace: &str) -> String {
        let prefix = if self.api_version() == "v1" { "/api" } else { "/apis" };
        format!("{prefix}/{}/namespaces/{namespace}/{}", self.api_version(), self.plural())
    }
}

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace; nothing we write is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectId {
    /// Names an object.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        ObjectId { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// URL of the object.
    pub fn path(&self) -> String {
        format!("{}/{}", self.resource.collection_path(&self.namespace), self.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.kind(), self.namespace, self.name)
    }
}

/// What the apiserver may answer other than yes, sorted by what a controller does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 409 on create: an object of that name is there already.
    #[error("{0} exists already")]
    AlreadyExists(ObjectId),
    /// 404 on a write: the object is gone.
    #[error("{0} does not exist")]
    NotFound(ObjectId),
    /// 409 on a change: our copy was stale, or a UID precondition failed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 403 with the quota plugin's words: wait, the quota may be freed.
    #[error("{0}")]
    QuotaExceeded(String),
    /// 400, 403, 413, 422: the apiserver will not take this content; trying the same again at once is useless.
    #[error("{0}")]
    Refused(String),
    /// A time-out, a lost connection, 429 or 5xx: the request may or may not have been carried out.
    #[error("the apiserver did not answer as it should: {0}")]
    Unavailable(String),
    /// We hold no valid lease, or another operator has claimed the namespace, so the write was not sent.
    #[error("no lease that holds for this namespace: nothing was written")]
    NotLeader,
}

/// Whether an Event tells of something that went as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As planned.
    Normal,
    /// A person may want to look.
    Warning,
}

/// An Event about an object of ours, still to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// Normal or Warning.
    pub event_type: EventType,
    /// One word in CamelCase, from a closed set.
    pub reason: &'static str,
    /// What was done, one word in CamelCase.
    pub action: &'static str,
    /// For a person; shortened to the API's 1,024 bytes when sent.
    pub note: String,
}

/// Reads and writes of single objects.
///
/// Every write checks that our lease still holds, carries a time limit, and is safe to repeat.
/// Watches are not here: controllers read from caches that are fed elsewhere.
pub trait ApiServer: Send + Sync {
    /// The object as it is now, past any cache; `None` when there is none. Who manages which field is left out, and so is a
    /// part that cannot be read as a tree.
    fn read(&self, id: &ObjectId) -> impl Future<Output = Result<Option<Value>, ApiError>> + Send;

    /// The objects of a namespace that carry a label, as they are now, past any cache. Each is read from its text as it comes
    /// in: whoever may label objects decides how large they are, and how many.
    fn list<T: Send>(
        &self,
        resource: Resource,
        namespace: &str,
        label: &str,
        value: &str,
        read: fn(&RawValue) -> T,
    ) -> impl Future<Output = Result<Vec<T>, ApiError>> + Send;

    /// Creates an object, with `fieldValidation=Strict`: a typo in a field is refused, not dropped.
    /// The object is JSON text. Answers its UID.
    fn create(&self, id: &ObjectId, object: String) -> impl Future<Output = Result<String, ApiError>> + Send;

    /// What [`ApiServer::create`] would answer, without creating anything.
    fn dry_run_create(
        &self,
        resource: Resource,
        namespace: &str,
        object: &Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Server-side apply as field manager [`crate::names::OPERATOR`]. `object` names the `uid` and `resourceVersion`
    /// that it was decided upon, so it changes that very object in that very state or answers Conflict.
    fn apply(
        &self,
        resource: Resource,
        namespace: &str,
        object: &Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Sets the number of pods of an object by its subresource `scale`, if it still is the one with that UID and
    /// resourceVersion; else answers Conflict.
    fn scale(
        &self,
        id: &ObjectId,
        uid: &str,
        version: &str,
        replicas: i32,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Server-side apply, likewise, to an object that others may manage too: refused where another field manager has set a field otherwise. Makes
    /// the object if there is none and no `uid` is named.
    fn apply_giving_way(
        &self,
        resource: Resource,
        namespace: &str,
        object: &Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// RFC 7386 merge patch of the status subresource. `patch` names the `resourceVersion` that it was computed from;
    /// answers the resourceVersion that the object has now, which is the same if the patch changed nothing.
    fn patch_status(&self, id: &ObjectId, patch: &Value) -> impl Future<Output = Result<String, ApiError>> + Send;

    /// Deletes the object of that name if it has that UID. An object that is gone, or another of the same name, is Ok:
    /// the one that was meant is no more. With a resourceVersion, one that has changed since answers Conflict.
    fn delete(
        &self,
        id: &ObjectId,
        uid: &str,
        version: Option<&str>,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// Sends an Event. Events are news, not state: a failure is logged and forgotten.
    fn publish_event(&self, about: &ObjectId, uid: &str, event: &EventDraft) -> impl Future<Output = ()> + Send;
}
