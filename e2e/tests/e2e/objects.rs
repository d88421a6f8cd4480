//! Objects as JSON, as users see them: no type of ours stands between a test and what the apiserver answers.

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::Value;

/// A kind, by its place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    group: &'static str,
    plural: &'static str,
}

pub(crate) const JOBS: Kind = Kind { group: "/apis/trainyard.dev/v1alpha1", plural: "trainingjobs" };
pub(crate) const MODEL_DEPLOYMENTS: Kind = Kind { group: "/apis/trainyard.dev/v1alpha1", plural: "modeldeployments" };
pub(crate) const PIPELINES: Kind = Kind { group: "/apis/trainyard.dev/v1alpha1", plural: "pipelines" };
pub(crate) const RUNS: Kind = Kind { group: "/apis/trainyard.dev/v1alpha1", plural: "pipelineruns" };
pub(crate) const PODS: Kind = Kind { group: "/api/v1", plural: "pods" };
pub(crate) const CLAIMS: Kind = Kind { group: "/api/v1", plural: "persistentvolumeclaims" };
pub(crate) const SERVICES: Kind = Kind { group: "/api/v1", plural: "services" };
pub(crate) const SLICES: Kind = Kind { group: "/apis/discovery.k8s.io/v1", plural: "endpointslices" };
pub(crate) const DEPLOYMENTS: Kind = Kind { group: "/apis/apps/v1", plural: "deployments" };
pub(crate) const REPLICA_SETS: Kind = Kind { group: "/apis/apps/v1", plural: "replicasets" };
pub(crate) const REVISIONS: Kind = Kind { group: "/apis/apps/v1", plural: "controllerrevisions" };
pub(crate) const BUDGETS: Kind = Kind { group: "/apis/policy/v1", plural: "poddisruptionbudgets" };
pub(crate) const AUTOSCALERS: Kind = Kind { group: "/apis/autoscaling/v2", plural: "horizontalpodautoscalers" };
pub(crate) const VOLUMES: Kind = Kind { group: "/api/v1", plural: "persistentvolumes" };
pub(crate) const EVENTS: Kind = Kind { group: "/apis/events.k8s.io/v1", plural: "events" };
pub(crate) const SECRETS: Kind = Kind { group: "/api/v1", plural: "secrets" };
pub(crate) const ROLES: Kind = Kind { group: "/apis/rbac.authorization.k8s.io/v1", plural: "roles" };
pub(crate) const ROLE_BINDINGS: Kind = Kind { group: "/apis/rbac.authorization.k8s.io/v1", plural: "rolebindings" };
pub(crate) const QUOTAS: Kind = Kind { group: "/api/v1", plural: "resourcequotas" };
pub(crate) const LEASES: Kind = Kind { group: "/apis/coordination.k8s.io/v1", plural: "leases" };
pub(crate) const NODES: Kind = Kind { group: "/api/v1", plural: "nodes" };
pub(crate) const NAMESPACES: Kind = Kind { group: "/api/v1", plural: "namespaces" };
pub(crate) const ACCOUNTS: Kind = Kind { group: "/api/v1", plural: "serviceaccounts" };
pub(crate) const CRDS: Kind = Kind { group: "/apis/apiextensions.k8s.io/v1", plural: "customresourcedefinitions" };
pub(crate) const MUTATING_POLICIES: Kind =
    Kind { group: "/apis/admissionregistration.k8s.io/v1", plural: "mutatingadmissionpolicies" };
pub(crate) const MUTATING_BINDINGS: Kind =
    Kind { group: "/apis/admissionregistration.k8s.io/v1", plural: "mutatingadmissionpolicybindings" };
pub(crate) const POLICIES: Kind =
    Kind { group: "/apis/admissionregistration.k8s.io/v1", plural: "validatingadmissionpolicies" };
pub(crate) const BINDINGS: Kind =
    Kind { group: "/apis/admissionregistration.k8s.io/v1", plural: "validatingadmissionpolicybindings" };

/// Everything that a job may have made.
pub(crate) const CHILDREN: [Kind; 3] = [PODS, SERVICES, SLICES];
/// Everything that a ModelDeployment has made, by itself or through others.
pub(crate) const SERVING_CHILDREN: [Kind; 7] = [DEPLOYMENTS, REPLICA_SETS, PODS, SERVICES, SLICES, BUDGETS, REVISIONS];

/// Reads and writes of one scope: a namespace, or the cluster.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    namespace: Option<String>,
}

impl Objects {
    pub(crate) fn cluster(client: Client) -> Self {
        Objects { client, namespace: None }
    }

    pub(crate) fn namespaced(client: Client, namespace: &str) -> Self {
        Objects { client, namespace: Some(namespace.to_owned()) }
    }

    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        self.send("GET", &self.path(kind, name), None).await
    }

    /// `None` if there is none of that name.
    pub(crate) async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        match self.get(kind, name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn list(&self, kind: Kind, selector: &str) -> Result<Vec<Value>> {
        let path = format!("{}?labelSelector={selector}", self.path(kind, ""));
        let mut list = self.send("GET", &path, None).await?;
        serde_json::from_value(list["items"].take()).context("a list without items")
    }

    pub(crate) async fn create(&self, kind: Kind, object: &Value) -> Result<Value> {
        self.send("POST", &self.path(kind, ""), Some(object)).await
    }

    /// A merge patch of the object, or of a subresource (`name/status`).
    pub(crate) async fn patch(&self, kind: Kind, name: &str, patch: &Value) -> Result<Value> {
        self.send("PATCH", &self.path(kind, name), Some(patch)).await
    }

    /// In the background, as `kubectl delete` does. An absent object is as good as deleted.
    pub(crate) async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        match self.send("DELETE", &format!("{}?propagationPolicy=Background", self.path(kind, name)), None).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks one of the pods behind a Service, by way of the apiserver.
    pub(crate) async fn ask(&self, service: &str, path: &str, body: &Value) -> Result<Value> {
        let namespace = self.namespace.as_deref().context("a Service is of a namespace")?;
        e2e::server::ask(&self.client, namespace, service, path, body).await
    }

    fn path(&self, kind: Kind, name: &str) -> String {
        let namespace = self.namespace.as_deref().map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{}{namespace}/{}{slash}{name}", kind.group, kind.plural)
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", media).body(body);
        let answer = self.client.request::<Value>(request.context("making a request")?).await;
        answer.with_context(|| format!("{method} {path}"))
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}

/// The text at a JSON pointer, empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub(crate) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key].as_str().unwrap_or_default()
}

/// UID of the controller that owns it.
pub(crate) fn owner(object: &Value) -> &str {
    let references = object["metadata"]["ownerReferences"].as_array();
    let controller = references.into_iter().flatten().find(|reference| reference["controller"] == true);
    controller.and_then(|reference| reference["uid"].as_str()).unwrap_or_default()
}

/// A condition of the object; null if it has none of that type.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

pub(crate) fn holds(object: &Value, type_: &str) -> bool {
    condition(object, type_)["status"] == "True"
}

/// The one word for where an object stands; empty before the operator has said one.
pub(crate) fn state(object: &Value) -> &str {
    condition(object, "Ready")["reason"].as_str().unwrap_or_default()
}

/// Whether its status speaks of the spec that it has now.
pub(crate) fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// Restarts so far.
pub(crate) fn restarts(job: &Value) -> i64 {
    job["status"]["restarts"].as_i64().unwrap_or(0)
}

/// The attempt in force.
pub(crate) fn attempt(job: &Value) -> i64 {
    job["status"]["attempt"].as_i64().unwrap_or(1)
}

pub(crate) fn message(object: &Value) -> &str {
    text(object, "/status/message")
}

/// A pod that still runs or may yet run.
pub(crate) fn is_live(pod: &Value) -> bool {
    !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}
