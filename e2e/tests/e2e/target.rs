//! Which cluster the tests run on: one of their own, or the one of `TRAINYARD_CONTEXT`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use e2e::install::{MANIFESTS, objects};
use e2e::operator::source_tree;
use e2e::{Cluster, ClusterOptions, ensure_binaries};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::objects::{CRDS, NAMESPACES, NODES, Objects, name};

/// Label of every namespace that a run makes, with the run's id.
pub(crate) const RUN_LABEL: &str = "e2e.trainyard.dev/run";
/// The variable that names another cluster.
const CONTEXT: &str = "TRAINYARD_CONTEXT";

/// What was chosen, before anything has started.
#[derive(Clone)]
pub(crate) struct Target {
    /// The kubeconfig's context, or a cluster of our own.
    context: Option<String>,
    /// Told apart from other runs by this.
    run: String,
    folder: PathBuf,
    /// What a cluster that is not ours has to be freed of again, once something was done to it.
    to_clear: Arc<OnceLock<ToClear>>,
}

struct ToClear {
    objects: Objects,
    kubectl: Kubectl,
    /// Whether Trainyard was there before us; then it stays.
    was_installed: bool,
}

/// A cluster that is there.
pub(crate) struct Prepared {
    pub(crate) client: Client,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: Kubectl,
    pub(crate) folder: PathBuf,
    pub(crate) run: String,
    pub(crate) audit_log: Option<PathBuf>,
    pub(crate) has_fake_nodes: bool,
    cluster: Option<Cluster>,
}

impl Target {
    pub(crate) fn choose() -> Result<Self> {
        let context = std::env::var(CONTEXT).ok().filter(|context| !context.is_empty());
        // Several runs may wait for the machine's one cluster, and each has its own logs.
        let run = format!("{:04x}", rand::random::<u16>());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{run}"));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Target { context, run, folder, to_clear: Arc::default() })
    }

    /// Boots the cluster, or connects to the one that was named.
    pub(crate) async fn prepare(&self) -> Result<Prepared> {
        match &self.context {
            None => self.boot().await,
            Some(context) => self.connect(context).await,
        }
    }

    async fn boot(&self) -> Result<Prepared> {
        let audit_log = self.folder.join("audit.log");
        let options = ClusterOptions {
            audit_log: Some(audit_log.clone()),
            // Its usual 20 requests a second would make every clean-up wait.
            controller_manager_flags: ["--kube-api-qps=300", "--kube-api-burst=600"].map(str::to_owned).to_vec(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(options).await?;
        let kubeconfig = cluster.kubeconfig_path().to_owned();
        Ok(Prepared {
            client: cluster.client(),
            kubectl: Kubectl::new(&cluster.binaries().kubectl, &kubeconfig, &self.folder),
            kubeconfig,
            folder: self.folder.clone(),
            run: self.run.clone(),
            audit_log: Some(audit_log),
            has_fake_nodes: true,
            cluster: Some(cluster),
        })
    }

    async fn connect(&self, context: &str) -> Result<Prepared> {
        let kubeconfig = self.folder.join("admin.kubeconfig");
        fs::write(&kubeconfig, only_context(context)?.to_string()).context("writing a kubeconfig")?;
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &options).await?;
        let client = Client::try_from(config).context("making a client")?;
        let kubectl = Kubectl::new(&ensure_binaries().await?.kubectl, &kubeconfig, &self.folder);
        let objects = Objects::cluster(client.clone());
        let was_installed = objects.find(CRDS, "trainingjobs.trainyard.dev").await?.is_some();
        let nodes = objects.list(NODES, "").await?;
        let is_fake = |node: &Value| node["metadata"]["annotations"]["kwok.x-k8s.io/node"] == "fake";
        let _ = self.to_clear.set(ToClear { objects, kubectl: kubectl.clone(), was_installed });
        Ok(Prepared {
            client,
            kubectl,
            kubeconfig,
            folder: self.folder.clone(),
            run: self.run.clone(),
            audit_log: None,
            has_fake_nodes: !nodes.is_empty() && nodes.iter().all(is_fake),
            cluster: None,
        })
    }

    /// Takes everything out of a cluster that is not ours, one of our own being gone by now, and removes the run's
    /// folder unless its logs are worth a look.
    pub(crate) async fn clear(&self, keep_logs: bool) -> Result<()> {
        self.clear_cluster().await?;
        // Without any log the folder is empty, and goes in any case.
        if keep_logs && fs::remove_dir(&self.folder).is_err() {
            eprintln!("the operator's logs and the audit log of this run are in {}", self.folder.display());
            return Ok(());
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).context("removing the run's folder")?;
        }
        Ok(())
    }

    async fn clear_cluster(&self) -> Result<()> {
        let Some(ToClear { objects, kubectl, was_installed }) = self.to_clear.get() else { return Ok(()) };
        for namespace in objects.list(NAMESPACES, &format!("{RUN_LABEL}={}", self.run)).await? {
            objects.delete(NAMESPACES, name(&namespace)).await?;
        }
        if !was_installed {
            for manifest in MANIFESTS.iter().rev() {
                let path = source_tree().join(manifest);
                let path = path.to_string_lossy();
                kubectl.run(&["delete", "--ignore-not-found", "--wait=false", "-f", &path], "").await?.good()?;
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// Ends a cluster of our own.
    pub(crate) async fn stop(self) -> Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// The person's kubeconfig with that one context, which is what the operator's own is made from.
fn only_context(context: &str) -> Result<Value> {
    let whole = serde_json::to_value(Kubeconfig::read().context("reading the kubeconfig")?)?;
    let entry = |list: &str, name: &Value| -> Result<Value> {
        let entries = whole[list].as_array().into_iter().flatten();
        let found = entries.into_iter().find(|entry| entry["name"] == *name).cloned();
        found.with_context(|| format!("{CONTEXT}: the kubeconfig's {list} have no {name}"))
    };
    let chosen = entry("contexts", &context.into())?;
    let cluster = entry("clusters", &chosen["context"]["cluster"])?;
    let user = entry("users", &chosen["context"]["user"])?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "contexts": [chosen], "clusters": [cluster], "users": [user],
    }))
}

/// Checks that the manifests can be read, so that a typo in one is told before a cluster is booted.
pub(crate) fn manifests() -> Result<Vec<(PathBuf, Vec<Value>)>> {
    let read = |manifest: &&str| {
        let path = source_tree().join(manifest);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let objects = objects(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok((path, objects))
    };
    MANIFESTS.iter().map(read).collect()
}
