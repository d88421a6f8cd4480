//! The whole cluster: what the tests and benchmarks use.

use std::path::{Path, PathBuf};

use kube::{Client, Config};
use tokio::sync::{Mutex, OnceCell};

use crate::binaries::{Binaries, ensure_binaries};
use crate::cache::Cache;
use crate::certs;
use crate::control_plane::Boot;
use crate::error::Error;
use crate::kwok;
use crate::node::{Machine, Node, Site, check_requirements};
use crate::options::{ClusterOptions, NodeOptions};
use crate::process::{Lifetime, Process};
use crate::run_folder::{Kind, RunFolder};

/// A cluster of this process. Dropping it kills its processes and removes its folder; if this process is killed,
/// its processes die with it and the next start removes the folder.
pub struct Cluster {
    // Fields are dropped in order: the machine takes the node's processes with it, and nothing may write to the folder
    // any more when it goes.
    machine: Option<Machine>,
    node: OnceCell<Node>,
    node_options: NodeOptions,
    processes: Vec<Process>,
    binaries: Binaries,
    config: Config,
    client: Client,
    kubeconfig: PathBuf,
    lifetime: Lifetime,
    run: Mutex<RunFolder>,
}

impl Cluster {
    /// Builds what is missing, waits for its turn (one such cluster at a time on a machine, by a lock) and boots,
    /// with progress on standard error. A cluster that `e2e up` keeps is not disturbed.
    ///
    /// The returned cluster is ready: pods can be created and find nodes.
    pub async fn start(options: ClusterOptions) -> Result<Self, Error> {
        if options.node.is_some() {
            check_requirements().await?;
        }
        let binaries = ensure_binaries().await?;
        let run = RunFolder::claim(&Cache::locate()?, Kind::InProcess).await?;
        Self::boot(run, binaries, &options, Lifetime::Tied).await
    }

    /// Boots in a folder that is claimed already.
    pub(crate) async fn boot(
        mut run: RunFolder,
        binaries: Binaries,
        options: &ClusterOptions,
        lifetime: Lifetime,
    ) -> Result<Self, Error> {
        let machine = match &options.node {
            Some(_) => Some(Machine::start(&mut run, lifetime).await.map_err(|error| run.keep_logs(error))?),
            None => None,
        };
        let network = machine.as_ref().map(Machine::network);
        let mut boot = Boot { run: &mut run, binaries: &binaries, options, network, lifetime, processes: Vec::new() };
        let started = async {
            let plane = boot.control_plane().await?;
            kwok::start(&mut boot, &plane).await?;
            if options.node.is_none() {
                boot.run.mark_running(&plane.server)?;
            }
            Ok(plane)
        };
        let plane = started.await;
        let kubeconfig = boot.kubeconfig(certs::ADMIN);
        let processes = std::mem::take(&mut boot.processes);
        match plane {
            Ok(plane) => Ok(Self {
                machine,
                node: OnceCell::new(),
                node_options: options.node.clone().unwrap_or_default(),
                processes,
                binaries,
                config: plane.config,
                client: plane.client,
                kubeconfig,
                lifetime,
                run: Mutex::new(run),
            }),
            Err(error) => {
                drop((machine, processes));
                Err(run.keep_logs(error))
            }
        }
    }

    /// The real node. The first call starts it, and builds what it needs before that; others wait for the same.
    pub async fn node(&self) -> Result<&Node, Error> {
        let machine = self.machine.as_ref().ok_or(Error::NoNode)?;
        let site = Site { run: &self.run, machine, client: &self.client, lifetime: self.lifetime };
        let start = async || {
            let node = Node::start(site, &self.node_options).await?;
            // A cluster that is to have a node is not whole without it.
            self.run.lock().await.mark_running(&self.config.cluster_url.to_string())?;
            Ok(node)
        };
        match self.node.get_or_try_init(start).await {
            Ok(node) => Ok(node),
            Err(error) => Err(self.run.lock().await.keep_logs(error)),
        }
    }

    /// A kubeconfig file for a user that may do everything, valid as long as the cluster.
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same as a client configuration. kube's client has no rate limit of its own.
    pub fn client_config(&self) -> Config {
        self.config.clone()
    }

    /// A client of that user.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The programs that it runs, and kubectl.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Its folder, which goes with it.
    pub(crate) async fn folder(&self) -> PathBuf {
        self.run.lock().await.path().to_owned()
    }

    /// Names and process ids of its components.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (String, u32)> {
        self.processes.iter().map(|process| (process.record().name, process.pid()))
    }

    /// Kills every process and removes the folder. The same as dropping it, save that a component which had ended
    /// by itself meanwhile is reported: a test that passed without its scheduler proves little.
    pub async fn stop(mut self) -> Result<(), Error> {
        let ended = |process: &mut Process| {
            let status = process.ended()?;
            Some(process.failure(format!("had ended by itself ({status})")))
        };
        let failure = self.processes.iter_mut().find_map(ended);
        match failure.or_else(|| self.node.get_mut()?.failure()) {
            Some(failure) => Err(self.run.get_mut().keep_logs(failure)),
            None => Ok(()),
        }
    }

    /// Lets the processes live on, and the folder with them.
    pub(crate) fn leave(self) {
        let Self { machine, node, processes, run, .. } = self;
        if let Some(node) = node.into_inner() {
            node.release();
        }
        if let Some(machine) = machine {
            machine.release();
        }
        processes.into_iter().for_each(Process::release);
        run.into_inner().leave();
    }
}
