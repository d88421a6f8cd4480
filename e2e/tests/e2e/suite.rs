//! What all tests of a run share: the cluster, and the operator in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use anyhow::{Context, Result, bail};
use e2e::images;
use e2e::operator::{OPERATOR_NAMESPACE, Operator, SERVICE_ACCOUNT, TEST_LOG, WHOLE_CLUSTER, kubeconfig_of};
use e2e::release::{Release, from_registry, on_our_node, without_pods};
use e2e::{Build, Cluster, build_operator, check_requirements};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell, watch};

use crate::audit::AuditLog;
use crate::fence::Fence;
use crate::kubectl::Kubectl;
use crate::objects::{LEASES, Objects};
use crate::target::Prepared;

/// The variable that says where another cluster finds the images of `e2e images`.
pub(crate) const REGISTRY: &str = "TRAINYARD_REGISTRY";
/// The lease that only one operator holds.
const LEASE: &str = "trainyard";

/// The run.
pub(crate) struct Suite {
    pub(crate) client: Client,
    pub(crate) kubectl: Kubectl,
    /// Trainyard in the cluster, installed with its chart.
    pub(crate) release: Release,
    /// Told apart from other runs by this.
    pub(crate) run: String,
    /// Whether every test runs, so that what was never used in this run can be called unused.
    pub(crate) complete: bool,
    pub(crate) has_fake_nodes: bool,
    pub(crate) audit: Option<AuditLog>,
    pub(crate) fence: Fence,
    /// Where the cluster finds images of ours, if it has real nodes that can run them.
    pub(crate) registry: Option<String>,
    /// The cluster, if it is ours.
    cluster: Weak<Cluster>,
    node: OnceCell<Result<(), String>>,
    /// Turns true when the run is interrupted. Whoever does that waits until nobody holds this any more.
    pub(crate) stopping: watch::Receiver<bool>,
    folder: PathBuf,
    binary: PathBuf,
    /// An administrator's.
    kubeconfig: PathBuf,
    operator: Mutex<Option<Operator>>,
    /// The samples that tests of this run have followed to their end, by file.
    followed: std::sync::Mutex<BTreeSet<String>>,
    /// Whether the operator is the release's own pod, and no process of ours.
    in_a_pod: AtomicBool,
    starts: AtomicU32,
}

impl Suite {
    /// Builds and installs Trainyard and starts the operator.
    pub(crate) async fn start(cluster: &Prepared, complete: bool, stopping: watch::Receiver<bool>) -> Result<Self> {
        let client = cluster.client.clone();
        let release = Release::new(&client, &cluster.kubeconfig, &cluster.folder).await?;
        let values = without_pods();
        let (binary, ()) = tokio::try_join!(build_operator(Build::Debug), release.install(&values))?;
        let suite = Suite {
            kubectl: cluster.kubectl.clone(),
            run: cluster.run.clone(),
            complete,
            stopping,
            has_fake_nodes: cluster.has_fake_nodes,
            registry: std::env::var(REGISTRY).ok().filter(|registry| !registry.is_empty()),
            cluster: cluster.cluster.as_ref().map(Arc::downgrade).unwrap_or_default(),
            node: OnceCell::new(),
            audit: cluster.audit_log.clone().map(AuditLog::new),
            fence: Fence::start(client.clone()),
            folder: cluster.folder.clone(),
            binary,
            kubeconfig: cluster.kubeconfig.clone(),
            operator: Mutex::default(),
            followed: Default::default(),
            in_a_pod: AtomicBool::new(false),
            release,
            starts: AtomicU32::new(0),
            client,
        };
        suite.ensure_operator().await?;
        Ok(suite)
    }

    /// Whether the cluster is ours, and not somebody's whose nodes are what they are.
    pub(crate) fn is_embedded(&self) -> bool {
        self.cluster.strong_count() > 0
    }

    /// The cluster of our own, once its real node runs. The first call starts the node; if that failed, it has failed
    /// for everybody.
    pub(crate) async fn cluster_with_node(&self) -> Result<Arc<Cluster>> {
        let cluster = self.cluster.upgrade().context("the cluster is not ours")?;
        let start = async || {
            check_requirements().await.map_err(|error| error.to_string())?;
            cluster.node().await.map(drop).map_err(|error| error.to_string())
        };
        let started = self.node.get_or_init(start).await.clone();
        started.map_err(anyhow::Error::msg)?;
        Ok(cluster)
    }

    /// Does some work, or fails as soon as the run is interrupted.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => bail!("interrupted"),
            outcome = work => outcome,
        }
    }

    /// The operator that runs now; a test that takes it out puts another in, or leaves that to the next test.
    pub(crate) async fn operator(&self) -> MutexGuard<'_, Option<Operator>> {
        self.operator.lock().await
    }

    /// A sample has come to its end.
    pub(crate) fn note_followed(&self, sample: &str) {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).insert(sample.to_owned());
    }

    /// Those that have.
    pub(crate) fn followed(&self) -> BTreeSet<String> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One more operator process, which may have to wait for the lease.
    pub(crate) async fn spawn_operator(&self) -> Result<Operator> {
        self.spawn_another((OPERATOR_NAMESPACE, SERVICE_ACCOUNT), &WHOLE_CLUSTER).await
    }

    /// Where the release's pods find the operator's image, or none, if no real node of this cluster can have it.
    async fn pod_values(&self) -> Result<Option<Value>> {
        if !self.is_embedded() {
            return Ok(self.registry.as_deref().map(from_registry));
        }
        let Ok(cluster) = self.cluster_with_node().await else { return Ok(None) };
        let image = images::operator(Build::Debug, images::DEFAULT_REFERENCE).await?;
        cluster.node().await?.load(&image).await?;
        Ok(Some(on_our_node(&image.reference)))
    }

    /// Has the operator run as users have it, as a pod of `release`; some values may be others than usual. Says whether
    /// there is a node that can run it.
    pub(crate) async fn move_into_a_pod(&self, release: &Release, others: &Value) -> Result<bool> {
        let Some(mut values) = self.pod_values().await? else { return Ok(false) };
        for (key, value) in others.as_object().into_iter().flatten() {
            values[key] = value.clone();
        }
        self.stop_operator().await?;
        // Before it is so: an installation that fails half-way has to be undone as well.
        self.in_a_pod.store(true, Ordering::Relaxed);
        release.install(&values).await?;
        Ok(true)
    }

    /// Has the operator run as a process of ours again, which tests can kill and stop as they please.
    pub(crate) async fn move_out_of_the_pod(&self) -> Result<()> {
        if self.in_a_pod.load(Ordering::Relaxed) {
            self.release.install(&without_pods()).await?;
            self.release.until_without_pods().await?;
            self.in_a_pod.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One more operator process, of this ServiceAccount (its namespace and name), for what the arguments say.
    pub(crate) async fn spawn_another(&self, account: (&str, &str), scope: &[&str]) -> Result<Operator> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        // Each has a token of its own: those of before end when a release is uninstalled, and its ServiceAccount with it.
        let kubeconfig = kubeconfig_of(&self.client, account, &self.kubeconfig, &self.folder).await?;
        Operator::spawn(&self.binary, &kubeconfig, &self.log_file(number), TEST_LOG, scope)
    }

    /// Starts an operator unless one runs.
    pub(crate) async fn ensure_operator(&self) -> Result<()> {
        if self.in_a_pod.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut operator = self.operator.lock().await;
        if operator.is_none() {
            // Whoever held it was killed by a test, or this is the first.
            self.clear_lease().await?;
            let started = self.spawn_operator().await?;
            started.until_ready().await?;
            *operator = Some(started);
        }
        Ok(())
    }

    /// Kills the operator with SIGKILL.
    pub(crate) async fn kill_operator(&self) {
        if let Some(operator) = self.operator.lock().await.take() {
            operator.kill();
        }
    }

    /// Stops it as Kubernetes would, and expects a good end.
    pub(crate) async fn stop_operator(&self) -> Result<()> {
        match self.operator.lock().await.take() {
            Some(operator) => operator.stop().await,
            None => Ok(()),
        }
    }

    /// Frees the lease of an operator that is known to be dead, which otherwise lasts 15 s.
    pub(crate) async fn clear_lease(&self) -> Result<()> {
        let leases = self.operator_namespace();
        if leases.find(LEASES, LEASE).await?.is_some() {
            leases.patch(LEASES, LEASE, &json!({"spec": {"holderIdentity": null}})).await?;
        }
        Ok(())
    }

    /// The logs of every operator of this run, oldest first; those of pods that are gone are gone with them.
    pub(crate) async fn logs(&self) -> Vec<String> {
        let started = self.starts.load(Ordering::Relaxed);
        let logs = (0..started).map(|number| fs::read_to_string(self.log_file(number)).unwrap_or_default());
        logs.chain(self.release.logs().await.unwrap_or_default()).collect()
    }

    /// Where something that a test runs may write.
    pub(crate) fn log_of(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{what}.log"))
    }

    fn log_file(&self, number: u32) -> PathBuf {
        self.log_of(&format!("operator-{number}"))
    }

    fn operator_namespace(&self) -> Objects {
        Objects::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }
}
