//! Where the demo runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Arguments;
use super::samples::namespace;
use super::supervisor::{Starter, Supervisor};
use super::timings::Timings;
use crate::cluster::Cluster;
use crate::images::{self, Image};
use crate::install::{Existing, apply, delete, install};
use crate::node::NODE_NAME;
use crate::operator::{OPERATOR_NAMESPACE, operator_kubeconfig};
use crate::options::{ClusterOptions, NodeOptions};
use crate::process::Lifetime;
use crate::progress;
use crate::{ensure_binaries, ensure_node_binaries, keep};

/// A cluster with Trainyard in it.
pub(super) struct Place {
    own: Option<Cluster>,
    existing: Option<Existing>,
    client: Client,
    kubeconfig: PathBuf,
    folder: PathBuf,
    /// The namespace that it runs in.
    namespace: &'static str,
    supervisor: Option<Supervisor>,
    /// Removed when the place goes, if it is ours alone.
    _scratch: Option<tempfile::TempDir>,
}

impl Place {
    /// Boots a cluster with a real node, or connects to the one that was named.
    pub(super) async fn prepare(arguments: &Arguments, timings: &mut Timings) -> Result<Self> {
        match &arguments.context {
            Some(context) => timings.part("connecting to the cluster", Self::connect(arguments, context)).await,
            None => Self::boot(arguments, timings).await,
        }
    }

    async fn boot(arguments: &Arguments, timings: &mut Timings) -> Result<Self> {
        let building = async {
            ensure_binaries().await?;
            ensure_node_binaries().await
        };
        timings.part("building Kubernetes", building).await?;
        let images = Image::USUAL.to_vec();
        timings.part("building the images", images::ensure(&images)).await?;
        let options = ClusterOptions {
            fake_nodes: 0,
            node: Some(NodeOptions { images, tainted: false }),
            ..ClusterOptions::default()
        };
        let booting = async {
            match arguments.keep {
                true => keep::boot(&options).await,
                false => Cluster::start(options).await,
            }
        };
        let cluster = timings.part("booting the control plane", booting).await?;
        timings.part("booting the node", cluster.node()).await?;
        Ok(Self {
            client: cluster.client(),
            kubeconfig: cluster.kubeconfig_path().to_owned(),
            folder: cluster.folder().await,
            namespace: namespace(arguments),
            own: Some(cluster),
            existing: None,
            supervisor: None,
            _scratch: None,
        })
    }

    async fn connect(arguments: &Arguments, context: &str) -> Result<Self> {
        let scratch = tempfile::tempdir().context("making a folder")?;
        let existing = Existing::connect(context, scratch.path()).await?;
        Ok(Self {
            client: existing.client.clone(),
            kubeconfig: existing.kubeconfig.clone(),
            folder: scratch.path().to_owned(),
            namespace: namespace(arguments),
            own: None,
            existing: Some(existing),
            supervisor: None,
            _scratch: Some(scratch),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Installs Trainyard and starts the operator, unless one is at work there.
    pub(super) async fn install(&mut self, binary: &Path, kills: u32) -> Result<()> {
        apply(&self.client, &restricted(self.namespace)).await?;
        let was_installed = self.existing.as_ref().is_some_and(|existing| existing.was_installed);
        if was_installed && is_led(&self.client).await? {
            progress::note("an operator is at work in this cluster; the demo uses it");
            return Ok(());
        }
        install(&self.client).await?;
        let kubeconfig = operator_kubeconfig(&self.client, &self.kubeconfig, &self.folder).await?;
        let starter = Starter::new(binary.to_owned(), kubeconfig, self.folder.clone());
        self.supervisor = Some(Supervisor::start(starter, kills).await?);
        Ok(())
    }

    /// Comes to an end only if the operator cannot be kept alive; says why.
    pub(super) async fn until_the_operator_fails(&mut self) -> anyhow::Error {
        let Some(supervisor) = &mut self.supervisor else { return std::future::pending().await };
        let failure = supervisor.failure().await;
        self.supervisor = None;
        failure
    }

    /// Takes down what was put up: all that can be, and the first thing that could not is the error.
    pub(super) async fn take_down(mut self) -> Result<()> {
        let operator = self.stop_operator().await;
        let own = match self.own.take() {
            Some(cluster) => cluster.stop().await.map_err(anyhow::Error::from),
            None => Ok(()),
        };
        let existing = match self.existing.take() {
            Some(existing) => {
                let removed = delete(&self.client, &restricted(self.namespace)).await;
                existing.clear().await.and(removed)
            }
            None => Ok(()),
        };
        operator.and(own).and(existing)
    }

    async fn stop_operator(&mut self) -> Result<()> {
        let Some(supervisor) = self.supervisor.take() else { return Ok(()) };
        let (operator, _) = supervisor.dismiss().await?;
        if let Err(error) = operator.stop().await {
            // Somebody may have killed it just now, which is no failure of what it was there for.
            progress::note(&format!("{error:#}"));
        }
        Ok(())
    }

    /// Leaves everything running and says how to look around.
    pub(super) async fn leave(mut self) -> Result<String> {
        let (Some(cluster), Some(supervisor)) = (self.own.take(), self.supervisor.take()) else {
            anyhow::bail!("only a cluster of the demo's own can be kept");
        };
        // The operator so far dies with us; the next one stays.
        let (operator, mut starter) = supervisor.dismiss().await?;
        operator.stop().await?;
        let operator = starter.start(Lifetime::Detachable)?;
        cluster.remember(operator.record()).await?;
        operator.until_ready().await?;
        operator.release();
        cluster.leave();
        Ok(format!(
            "The cluster goes on, and the operator in it. To look around:

  alias kubectl='cargo e2e kubectl'
  kubectl get plr,md,tj,pl
  kubectl describe plr
  kubectl get pods -o wide
  kubectl logs -l trainyard.dev/step=evaluate --prefix
  kubectl get controllerrevisions -l trainyard.dev/deployment=digits
  kubectl get node {NODE_NAME}
  export KUBECONFIG={}     # for tools of your own
  cargo e2e status             # its processes and their logs
  cargo e2e down               # takes everything down",
            self.kubeconfig.display()
        ))
    }
}

/// A namespace with the strictest of the Pod Security Standards.
fn restricted(name: &str) -> Value {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// Whether some operator holds the lease, and is alive: it renews it within the time that it may take.
async fn is_led(client: &Client) -> Result<bool> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let read = async || leases.get_opt("trainyard").await.context("reading the operator's lease");
    let Some(spec) = read().await?.and_then(|lease| lease.spec) else { return Ok(false) };
    if spec.holder_identity.is_none_or(|holder| holder.is_empty()) {
        return Ok(false);
    }
    let lasts = spec.lease_duration_seconds.unwrap_or_default().unsigned_abs();
    let deadline = Instant::now() + Duration::from_secs(lasts.into());
    while Instant::now() < deadline {
        sleep(Duration::from_millis(500)).await;
        let now = read().await?.and_then(|lease| lease.spec).unwrap_or_default();
        if now.renew_time != spec.renew_time {
            return Ok(now.holder_identity.is_some_and(|holder| !holder.is_empty()));
        }
    }
    Ok(false)
}
