//! Which cluster the tests run on: one of their own, or the one of `TRAINYARD_CONTEXT`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use e2e::images::Image;
use e2e::install::Existing;
use e2e::release::Release;
use e2e::{Cluster, ClusterOptions, NodeOptions, check_requirements, ensure_binaries};
use kube::Client;
use serde_json::Value;

use crate::kubectl::Kubectl;
use crate::objects::{NAMESPACES, NODES, Objects, name};
use crate::registry::is_long;

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
    existing: Existing,
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
    pub(crate) cluster: Option<Arc<Cluster>>,
}

impl Target {
    pub(crate) fn choose() -> Result<Self> {
        let context = std::env::var(CONTEXT).ok().filter(|context| !context.is_empty());
        // Several runs may wait for the machine's one cluster, and each has its own logs.
        let run = format!("{:04x}", rand::random::<u16>());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{run}"));
        // Nobody else is to read the keys in it.
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        created.with_context(|| format!("creating {}", folder.display()))?;
        Ok(Target { context, run, folder, to_clear: Arc::default() })
    }

    /// Boots the cluster, or connects to the one that was named.
    pub(crate) async fn prepare(&self, with_node: bool) -> Result<Prepared> {
        match &self.context {
            None => self.boot(with_node).await,
            Some(context) => self.connect(context).await,
        }
    }

    async fn boot(&self, with_node: bool) -> Result<Prepared> {
        let audit_log = self.folder.join("audit.log");
        // What a real node needs and this machine lacks fails the tests that want one, and no others.
        let node = with_node && check_requirements().await.is_ok();
        let mut images = Image::USUAL.to_vec();
        images.extend(is_long().then_some(Image::Torchrun));
        let options = ClusterOptions {
            audit_log: Some(audit_log.clone()),
            node: node.then_some(NodeOptions { images, tainted: true }),
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
            cluster: Some(Arc::new(cluster)),
        })
    }

    async fn connect(&self, context: &str) -> Result<Prepared> {
        let existing = Existing::connect(context, &self.folder).await.context(CONTEXT)?;
        let kubectl = Kubectl::new(&ensure_binaries().await?.kubectl, &existing.kubeconfig, &self.folder);
        let objects = Objects::cluster(existing.client.clone());
        let nodes = objects.list(NODES, "").await?;
        let is_fake = |node: &Value| node["metadata"]["annotations"]["kwok.x-k8s.io/node"] == "fake";
        let (client, kubeconfig) = (existing.client.clone(), existing.kubeconfig.clone());
        let _ = self.to_clear.set(ToClear { objects, existing });
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
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "kubeconfig") {
                fs::remove_file(entry.path()).context("removing a kubeconfig")?;
            }
        }
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
        let Some(ToClear { objects, existing }) = self.to_clear.get() else { return Ok(()) };
        for namespace in objects.list(NAMESPACES, &format!("{RUN_LABEL}={}", self.run)).await? {
            objects.delete(NAMESPACES, name(&namespace)).await?;
        }
        if existing.was_installed {
            return Ok(());
        }
        Release::new(&existing.client, &existing.kubeconfig, &self.folder).await?.purge().await
    }
}

impl Prepared {
    /// Ends a cluster of our own.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.cluster.map(Arc::into_inner) {
            Some(Some(cluster)) => Ok(cluster.stop().await?),
            Some(None) => bail!("a test that is over still holds the cluster"),
            None => Ok(()),
        }
    }
}
