//! Where the demo runs, and the operator that runs there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use rand::RngExt;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::timings::Timings;
use super::{Arguments, NAMESPACE};
use crate::cluster::{Cluster, ClusterOptions};
use crate::images::{self, Image};
use crate::install::{Existing, apply, delete, install};
use crate::node::{NODE_NAME, NodeOptions};
use crate::operator::{OPERATOR_NAMESPACE, Operator, Spawn, operator_kubeconfig};
use crate::process::Lifetime;
use crate::progress::{self, say};
use crate::{ensure_binaries, ensure_node_binaries, keep};

const LOG_FILTER: &str = "info";
/// The operator is looked after this often.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster with Trainyard in it.
pub(super) struct Place {
    own: Option<Cluster>,
    existing: Option<Existing>,
    client: Client,
    kubeconfig: PathBuf,
    folder: PathBuf,
    lifetime: Lifetime,
    supervisor: Option<Supervisor>,
    /// Removed when the place goes, if it is ours alone.
    _scratch: Option<tempfile::TempDir>,
}

/// Starts the operator again whenever it has ended, as a Deployment would.
struct Supervisor {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Operator>>,
}

impl Place {
    /// Boots a cluster with a real node, or connects to the one that was named.
    pub(super) async fn prepare(arguments: &Arguments, timings: &mut Timings) -> Result<Self> {
        match &arguments.context {
            Some(context) => timings.part("connecting to the cluster", Self::connect(context)).await,
            None => Self::boot(arguments.keep, timings).await,
        }
    }

    async fn boot(keep: bool, timings: &mut Timings) -> Result<Self> {
        let images = vec![Image::Digits];
        timings
            .part("building Kubernetes", async {
                ensure_binaries().await?;
                ensure_node_binaries().await
            })
            .await?;
        timings.part("building the images", images::ensure(&images)).await?;
        let options = ClusterOptions {
            fake_nodes: 0,
            node: Some(NodeOptions { images, tainted: false }),
            ..ClusterOptions::default()
        };
        let (boot, lifetime) = match keep {
            true => (timings.part("booting the control plane", keep::boot(&options)).await, Lifetime::Detachable),
            false => (timings.part("booting the control plane", Cluster::start(options)).await, Lifetime::Tied),
        };
        let cluster = boot?;
        timings.part("booting the node", cluster.node()).await?;
        Ok(Self {
            client: cluster.client(),
            kubeconfig: cluster.kubeconfig_path().to_owned(),
            folder: cluster.folder().await,
            lifetime,
            own: Some(cluster),
            existing: None,
            supervisor: None,
            _scratch: None,
        })
    }

    async fn connect(context: &str) -> Result<Self> {
        let scratch = tempfile::tempdir().context("making a folder")?;
        let existing = Existing::connect(context, scratch.path()).await?;
        Ok(Self {
            client: existing.client.clone(),
            kubeconfig: existing.kubeconfig.clone(),
            folder: scratch.path().to_owned(),
            lifetime: Lifetime::Tied,
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
        let was_installed = self.existing.as_ref().is_some_and(|existing| existing.was_installed);
        if self.existing.is_some() {
            apply(&self.client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
                .await?;
        }
        if was_installed && is_led(&self.client).await? {
            progress::note("an operator is at work in this cluster; the demo uses it");
            return Ok(());
        }
        install(&self.client).await?;
        let kubeconfig = operator_kubeconfig(&self.client, &self.kubeconfig, &self.folder).await?;
        let spawn = Spawn {
            binary: binary.to_owned(),
            kubeconfig,
            log: self.folder.join("operator.log"),
            filter: LOG_FILTER,
            lifetime: self.lifetime,
        };
        let operator = spawn.start()?;
        progress::step("starting the operator", String::new, operator.until_ready()).await?;
        let (stop, stopped) = oneshot::channel();
        self.supervisor = Some(Supervisor { stop, task: tokio::spawn(supervise(operator, spawn, kills, stopped)) });
        Ok(())
    }

    /// Takes down what was put up.
    pub(super) async fn take_down(mut self) -> Result<()> {
        if let Some(operator) = self.dismiss_supervisor().await? {
            operator.stop().await?;
        }
        if let Some(cluster) = self.own.take() {
            cluster.stop().await?;
        }
        if let Some(existing) = self.existing.take() {
            delete(&self.client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
                .await?;
            existing.clear().await?;
        }
        Ok(())
    }

    /// Leaves everything running and says how to look around.
    pub(super) async fn leave(mut self) -> Result<String> {
        let operator = self.dismiss_supervisor().await?;
        if let Some(cluster) = self.own.take() {
            if let Some(operator) = operator {
                cluster.remember(operator.release()).await?;
            }
            cluster.leave();
        }
        Ok(format!(
            "The cluster goes on, and the operator in it. To look around:

  alias kubectl='cargo e2e kubectl'
  kubectl get tj,pods -o wide
  kubectl describe tj digits
  kubectl logs -l trainyard.dev/job=digits,trainyard.dev/rank=0
  kubectl get node {NODE_NAME}
  export KUBECONFIG={}     # for tools of your own
  cargo e2e status             # its processes and their logs
  cargo e2e down               # takes everything down",
            self.kubeconfig.display()
        ))
    }

    /// The operator, which nobody starts again from now on.
    async fn dismiss_supervisor(&mut self) -> Result<Option<Operator>> {
        let Some(Supervisor { stop, task }) = self.supervisor.take() else { return Ok(None) };
        let _ = stop.send(());
        Ok(Some(task.await.context("looking after the operator")??))
    }
}

/// Whether some operator holds the lease.
async fn is_led(client: &Client) -> Result<bool> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let lease = leases.get_opt("trainyard").await.context("reading the operator's lease")?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).is_some_and(|holder| !holder.is_empty()))
}

/// Looks after the operator until it is told to stop. Kills it itself so many times, at random moments.
async fn supervise(
    mut operator: Operator,
    spawn: Spawn,
    mut kills: u32,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Operator> {
    let mut next_kill = random_moment();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return Ok(operator),
            () = sleep_until(next_kill), if kills > 0 => {
                kills -= 1;
                next_kill = random_moment();
                operator.kill();
                say("          (the operator is killed with SIGKILL, and started again)");
                operator = spawn.start()?;
            }
            () = sleep(LOOK) => {
                if let Some(status) = operator.ended() {
                    say(&format!("          (the operator has ended, {status}, and is started again)"));
                    operator = spawn.start()?;
                }
            }
        }
    }
}

fn random_moment() -> Instant {
    Instant::now() + Duration::from_millis(rand::rng().random_range(500..4_000))
}
