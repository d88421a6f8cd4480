//! Trainyard in a cluster as users have it: a release of the chart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::helm::Helm;
use crate::install::{apply, delete, objects};
use crate::operator::{OPERATOR_NAMESPACE, source_tree};
use crate::placement;

/// The release's usual name.
const RELEASE: &str = "trainyard";
/// The Lease that only one operator holds.
const LEASE: &str = "trainyard";
/// The chart in the source tree.
const CHART: &str = "charts/trainyard";
/// What Helm may wait for its pods; a machine under full load needs ten times the usual 3 s.
const PATIENCE: &str = "120s";
/// Pods have 30 s to end.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A release, the chart that it is made from, and the Helm that makes it.
#[derive(Clone)]
pub struct Release {
    helm: Helm,
    client: Client,
    chart: PathBuf,
    name: String,
    namespace: String,
}

impl Release {
    /// The release from the chart of this source tree, where everybody expects it. Helm keeps its caches in `folder`.
    pub async fn new(client: &Client, kubeconfig: &Path, folder: &Path) -> Result<Self> {
        let helm = Helm::new(kubeconfig, folder).await?;
        let (name, namespace) = (RELEASE.to_owned(), OPERATOR_NAMESPACE.to_owned());
        Ok(Self { helm, client: client.clone(), chart: source_tree().join(CHART), name, namespace })
    }

    /// The same release from another chart.
    pub fn of_chart(&self, chart: &Path) -> Self {
        Self { chart: chart.to_owned(), ..self.clone() }
    }

    /// Another release of the chart.
    pub fn another(&self, name: &str, namespace: &str) -> Self {
        Self { name: name.to_owned(), namespace: namespace.to_owned(), ..self.clone() }
    }

    /// Installs it, or changes it to these values, and waits until its pods are ready. The usual namespace is made for it,
    /// with the strictest of the Pod Security Standards; any other is there already.
    pub async fn install(&self, values: &Value) -> Result<()> {
        self.install_with(&[], values).await
    }

    /// Likewise, and takes back the fields that others have taken from Helm meanwhile.
    pub async fn restore(&self, values: &Value) -> Result<()> {
        self.install_with(&["--force-conflicts"], values).await
    }

    /// Likewise, and takes over the objects that another release or `kubectl apply` has made.
    pub async fn take_over(&self, values: &Value) -> Result<()> {
        self.install_with(&["--take-ownership", "--force-conflicts"], values).await
    }

    async fn install_with(&self, more: &[&str], values: &Value) -> Result<()> {
        if self.namespace == OPERATOR_NAMESPACE {
            apply(&self.client, &restricted(OPERATOR_NAMESPACE)).await?;
        }
        let chart = self.chart.to_string_lossy();
        let arguments = ["upgrade", "--install", &self.name, &chart, "--namespace", &self.namespace, "--values", "-"];
        let waiting = ["--wait", "--timeout", PATIENCE];
        let installed = self.helm.run(&[&arguments[..], &waiting, more].concat(), values).await.map(drop);
        match installed {
            Err(error) => Err(error.context(self.pods_in_words().await)),
            Ok(()) => Ok(()),
        }
    }

    /// Removes it, if it is there, and waits until its pods are gone. Resource definitions and the objects of users stay.
    pub async fn uninstall(&self) -> Result<()> {
        let arguments = ["uninstall", &self.name, "--namespace", &self.namespace, "--ignore-not-found"];
        self.helm.run(&[&arguments[..], &["--wait", "--timeout", PATIENCE]].concat(), &json!({})).await?;
        self.until_without_pods().await
    }

    /// What the chart renders with these values.
    pub async fn render(&self, values: &Value) -> Result<Vec<Value>> {
        let chart = self.chart.to_string_lossy();
        let arguments = ["template", &self.name, &chart, "--namespace", &self.namespace, "--values", "-"];
        let rendered = self.helm.run(&arguments, values).await?;
        Ok(objects(&rendered)?.into_iter().filter(|object| !object.is_null()).collect())
    }

    /// Removes the release, the resource definitions with every object, and the namespace.
    pub async fn purge(&self) -> Result<()> {
        self.uninstall().await?;
        for object in self.render(&json!({"replicas": 0})).await? {
            if object["kind"] == "CustomResourceDefinition" {
                delete(&self.client, &object).await?;
            }
        }
        delete(&self.client, &restricted(&self.namespace)).await
    }

    /// The operator's pods.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("app.kubernetes.io/name=trainyard,app.kubernetes.io/instance={}", self.name);
        let listed = pods.list(&ListParams::default().labels(&selector)).await;
        Ok(listed.context("listing the operator's pods")?.items)
    }

    /// The logs of the operator's pods.
    pub async fn logs(&self) -> Result<Vec<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut logs = Vec::new();
        for pod in self.pods().await? {
            // A pod that has not started yet has none.
            logs.extend(pods.logs(&pod.name_any(), &Default::default()).await.ok());
        }
        Ok(logs)
    }

    /// Who holds the operator's lease, if anybody does.
    pub async fn leader(&self) -> Result<Option<String>> {
        Ok(self.lease().await?.holder_identity.filter(|holder| !holder.is_empty()))
    }

    /// Whether some operator holds the lease, and is alive: it renews it within the time that it may take.
    pub async fn is_led(&self) -> Result<bool> {
        let seen = self.lease().await?;
        let lasts = seen.lease_duration_seconds.unwrap_or_default().unsigned_abs();
        let deadline = Instant::now() + Duration::from_secs(lasts.into());
        while seen.holder_identity.is_some() && Instant::now() < deadline {
            sleep(Duration::from_millis(500)).await;
            let now = self.lease().await?;
            if now.renew_time != seen.renew_time {
                return Ok(now.holder_identity.is_some_and(|holder| !holder.is_empty()));
            }
        }
        Ok(false)
    }

    async fn lease(&self) -> Result<LeaseSpec> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = leases.get_opt(LEASE).await.context("reading the operator's lease")?;
        Ok(lease.and_then(|lease| lease.spec).unwrap_or_default())
    }

    /// Waits until the last pod of the operator is gone.
    pub async fn until_without_pods(&self) -> Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        while !self.pods().await?.is_empty() {
            ensure!(Instant::now() < deadline, "the operator's pods were not gone within {GONE_WITHIN:?}");
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Why its pods are not ready, as far as it can be seen.
    async fn pods_in_words(&self) -> String {
        let pods = self.pods().await.unwrap_or_default();
        let states = pods.iter().map(|pod| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let states: Vec<String> = statuses.map(|status| json!(status.state).to_string()).collect();
            format!("pod {}: {}", pod.name_any(), states.join(", "))
        });
        let states: Vec<String> = states.collect();
        let logs = self.logs().await.unwrap_or_default();
        format!("{}; the operator's log:\n{}", states.join("; "), logs.join("\n"))
    }
}

/// Values of a release without pods: rights, resources and policies, for an operator that runs elsewhere.
pub fn without_pods() -> Value {
    json!({"replicas": 0})
}

/// Values of a release whose pods run an image of the embedded cluster's real node.
pub fn on_our_node(reference: &str) -> Value {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    let mut values = placement();
    values["image"] = json!({"repository": repository, "tag": tag});
    // Pods of the tests keep all processors of the node busy: with the usual share an operator that is not optimised renews
    // its lease late.
    values["resources"] = json!({"requests": {"cpu": "250m"}});
    values
}

/// Values of a release whose pods run the image that `e2e images` wrote, from the registry that it was pushed to under its
/// own version.
pub fn from_registry(registry: &str) -> Value {
    json!({"image": {"repository": format!("{}/trainyard", registry.trim_end_matches('/'))}})
}

/// A namespace with the strictest of the Pod Security Standards.
pub fn restricted(name: &str) -> Value {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}
