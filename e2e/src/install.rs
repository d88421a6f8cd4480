//! Objects of any kind, as kubectl makes and removes them; and clusters that are not ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, TypeMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::operator::source_tree;

/// Whose fields those are that we set.
const MANAGER: &str = "trainyard-e2e";
/// A namespace goes when the last of its pods has had its time to end.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// A cluster that is not ours. Whoever does something to it undoes that at the end.
#[derive(Clone)]
pub struct Existing {
    /// A client of whoever the kubeconfig names.
    pub client: Client,
    /// A kubeconfig with that one context.
    pub kubeconfig: PathBuf,
    /// Whether Trainyard was there before us; then it stays.
    pub was_installed: bool,
}

impl Existing {
    /// Connects to the cluster of a context of the person's kubeconfig; a copy of what it takes is kept in `folder`.
    pub async fn connect(context: &str, folder: &Path) -> Result<Self> {
        let kubeconfig = folder.join("admin.kubeconfig");
        fs::write(&kubeconfig, only_context(context)?.to_string()).context("writing a kubeconfig")?;
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &options).await?;
        let client = Client::try_from(config).context("making a client")?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let was_installed =
            crds.get_opt("trainingjobs.trainyard.dev").await.context("looking for Trainyard")?.is_some();
        Ok(Self { client, kubeconfig, was_installed })
    }
}

/// The person's kubeconfig with that one context, which is what the operator's own is made from.
pub(crate) fn only_context(context: &str) -> Result<Value> {
    let whole = serde_json::to_value(Kubeconfig::read().context("reading the kubeconfig")?)?;
    let entry = |list: &str, name: &Value| -> Result<Value> {
        let entries = whole[list].as_array().into_iter().flatten();
        let found = entries.into_iter().find(|entry| entry["name"] == *name).cloned();
        found.with_context(|| format!("the kubeconfig's {list} have no {name}: see `kubectl config get-contexts`"))
    };
    let chosen = entry("contexts", &context.into())?;
    let cluster = entry("clusters", &chosen["context"]["cluster"])?;
    let user = entry("users", &chosen["context"]["user"])?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "contexts": [chosen], "clusters": [cluster], "users": [user],
    }))
}

/// The objects of a file of the source tree.
pub fn read(manifest: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(source_tree().join(manifest)).with_context(|| format!("reading {manifest}"))?;
    objects(&text).with_context(|| format!("reading {manifest}"))
}

/// The objects of a YAML stream.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// Creates any object, as `kubectl create` does it; it may have a `generateName`.
pub async fn create(client: &Client, object: &Value) -> Result<DynamicObject> {
    let (api, object) = locate(client, object).await?;
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let created = api.create(&parameters, &object).await;
    created.with_context(|| format!("creating {}", object.name_any()))
}

/// Server-side apply of any object, as `kubectl apply --server-side` does it.
pub async fn apply(client: &Client, object: &Value) -> Result<DynamicObject> {
    let (api, object) = locate(client, object).await?;
    let name = object.name_any();
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
    applied.with_context(|| format!("applying {name}"))
}

/// Any object as it is now; `None` if there is none of that name.
pub async fn find(client: &Client, object: &Value) -> Result<Option<DynamicObject>> {
    let (api, object) = locate(client, object).await?;
    let name = object.name_any();
    api.get_opt(&name).await.with_context(|| format!("looking for {name}"))
}

/// Deletes any object and waits until it is gone, as `kubectl delete --ignore-not-found` does it.
pub async fn delete(client: &Client, object: &Value) -> Result<()> {
    let (api, object) = locate(client, object).await?;
    let name = object.name_any();
    match api.delete(&name, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        other => other.map(drop).with_context(|| format!("deleting {name}"))?,
    }
    let deadline = Instant::now() + GONE_WITHIN;
    while api.get_opt(&name).await.with_context(|| format!("looking whether {name} is gone"))?.is_some() {
        ensure!(Instant::now() < deadline, "{name} was not gone within {GONE_WITHIN:?} of its deletion");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn locate(client: &Client, object: &Value) -> Result<(Api<DynamicObject>, DynamicObject)> {
    let object: DynamicObject = serde_json::from_value(object.clone()).context("no Kubernetes object")?;
    let TypeMeta { api_version, kind } = object.types.clone().context("an object without apiVersion and kind")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let (resource, capabilities) =
        discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, &kind)).await?;
    Ok((dynamic(client, &resource, &capabilities.scope, &object), object))
}

fn dynamic(client: &Client, resource: &ApiResource, scope: &Scope, object: &DynamicObject) -> Api<DynamicObject> {
    match (scope, object.namespace()) {
        (Scope::Namespaced, namespace) => {
            Api::namespaced_with(client.clone(), namespace.as_deref().unwrap_or("default"), resource)
        }
        (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
    }
}
