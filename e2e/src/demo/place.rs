//! Where the demo runs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kube::Client;

use super::Arguments;
use super::samples::namespace;
use super::timings::Timings;
use super::watch;
use crate::cluster::Cluster;
use crate::images::{self, Archive, DEFAULT_REFERENCE, Image};
use crate::install::{Existing, apply, delete};
use crate::node::NODE_NAME;
use crate::operator_binary::Build;
use crate::options::{ClusterOptions, NodeOptions};
use crate::progress;
use crate::release::{self, Release, restricted};
use crate::{ensure_binaries, ensure_helm, ensure_node_binaries, keep};

/// A cluster with Trainyard in it.
pub(super) struct Place {
    own: Option<Cluster>,
    existing: Option<Existing>,
    client: Client,
    kubeconfig: PathBuf,
    folder: PathBuf,
    /// The namespace that it runs in.
    namespace: &'static str,
    /// The operator's image, for a cluster of our own.
    image: Option<Archive>,
    /// What the demo itself has installed, or has begun to.
    release: Option<Release>,
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
        let image = timings.part("building the operator", images::operator(Build::Debug, DEFAULT_REFERENCE)).await?;
        let building = async {
            ensure_helm().await?;
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
            image: Some(image),
            release: None,
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
            image: None,
            release: None,
            _scratch: Some(scratch),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Installs Trainyard as users do, with its chart, unless an operator is at work there.
    pub(super) async fn install(&mut self, registry: Option<&str>) -> Result<()> {
        apply(&self.client, &restricted(self.namespace)).await?;
        let release = Release::new(&self.client, &self.kubeconfig, &self.folder).await?;
        let was_installed = self.existing.as_ref().is_some_and(|existing| existing.was_installed);
        if was_installed && release.is_led().await? {
            progress::note("an operator is at work in this cluster; the demo uses it");
            return Ok(());
        }
        let values = match (&self.own, &self.image) {
            (Some(cluster), Some(image)) => {
                let loading = async { cluster.node().await?.load(image).await };
                progress::step(&format!("loading image {}", image.reference), String::new, loading).await?;
                release::on_our_node(&image.reference)
            }
            _ => release::from_registry(registry.context("--registry")?),
        };
        // Before it is so: what fails half-way has to be taken down as well.
        let installing = self.release.insert(release).install(&values);
        progress::step("helm install trainyard charts/trainyard --wait", String::new, installing).await
    }

    /// Comes to an end only if the operator cannot be kept alive; says why. It is killed `kills` times, at random
    /// moments.
    pub(super) async fn until_the_operator_fails(&self, kills: u32) -> anyhow::Error {
        match &self.release {
            Some(release) => watch::until_it_fails(release, self.own.as_ref(), kills).await,
            None => std::future::pending().await,
        }
    }

    /// Takes down what was put up: all that can be, and the first thing that could not is the error.
    pub(super) async fn take_down(mut self) -> Result<()> {
        if let Some(cluster) = self.own.take() {
            return Ok(cluster.stop().await?);
        }
        let removed = delete(&self.client, &restricted(self.namespace)).await;
        let purged = match (&self.existing, &self.release) {
            (Some(existing), Some(release)) if !existing.was_installed => release.purge().await,
            _ => Ok(()),
        };
        purged.and(removed)
    }

    /// Leaves everything running and says how to look around.
    pub(super) async fn leave(mut self) -> Result<String> {
        let cluster = self.own.take();
        ensure!(cluster.is_some(), "only a cluster of the demo's own can be kept");
        cluster.into_iter().for_each(Cluster::leave);
        Ok(format!(
            "The cluster goes on, and the operator in it. To look around:

  alias kubectl='cargo e2e kubectl'
  kubectl get plr,md,tj,pl
  kubectl describe plr
  kubectl get pods -o wide
  kubectl logs -n trainyard-system deploy/trainyard
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
