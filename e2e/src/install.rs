//! Installing Trainyard from the source tree into a cluster: resources, policies, rights.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, TypeMeta};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::operator::source_tree;

/// What is applied, in this order.
pub const MANIFESTS: [&str; 3] = ["crds/trainyard.dev.yaml", "config/rbac/rbac.yaml", "config/admission/policies.yaml"];
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// Applies everything but the operator itself, and waits until the resources are served.
pub async fn install(client: &Client) -> Result<()> {
    for manifest in MANIFESTS {
        let text =
            std::fs::read_to_string(source_tree().join(manifest)).with_context(|| format!("reading {manifest}"))?;
        for object in objects(&text).with_context(|| format!("reading {manifest}"))? {
            apply(client, &object).await.with_context(|| format!("applying {manifest}"))?;
        }
    }
    let deadline = Instant::now() + SERVED_WITHIN;
    let kind = GroupVersionKind::gvk("trainyard.dev", "v1alpha1", "TrainingJob");
    while discovery::pinned_kind(client, &kind).await.is_err() {
        ensure!(Instant::now() < deadline, "TrainingJobs were not served within {SERVED_WITHIN:?}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The objects of a YAML stream.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// Server-side apply of any object, as `kubectl apply --server-side` does it.
pub async fn apply(client: &Client, object: &Value) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object.clone()).context("no Kubernetes object")?;
    let TypeMeta { api_version, kind } = object.types.clone().context("an object without apiVersion and kind")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let (resource, capabilities) =
        discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, &kind)).await?;
    let api = dynamic(client, &resource, &capabilities.scope, &object);
    let parameters = PatchParams::apply("trainyard-e2e").force();
    let applied = api.patch(&object.name_any(), &parameters, &Patch::Apply(&object)).await;
    applied.with_context(|| format!("applying {kind} {}", object.name_any()))
}

fn dynamic(client: &Client, resource: &ApiResource, scope: &Scope, object: &DynamicObject) -> Api<DynamicObject> {
    match (scope, object.namespace()) {
        (Scope::Namespaced, namespace) => {
            Api::namespaced_with(client.clone(), namespace.as_deref().unwrap_or("default"), resource)
        }
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
    }
}
