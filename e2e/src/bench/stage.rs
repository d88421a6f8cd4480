//! What every benchmark runs on: a cluster with an audit log, and the operator in it as it is shipped.

use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result};
use kube::Client;

use super::audit::AuditLog;
use super::load::{self, Kind, Pace};
use super::machine::Cpu;
use crate::cache;
use crate::cluster::Cluster;
use crate::images::Image;
use crate::node::Node;
use crate::operator::{OPERATOR_NAMESPACE, Operator, SERVICE_ACCOUNT, WHOLE_CLUSTER, kubeconfig_of};
use crate::operator_binary::{Build, build_operator};
use crate::options::{ClusterOptions, NodeOptions};
use crate::progress::note;
use crate::release::{Release, without_pods};

/// Namespace of the bare pods.
pub(super) const BARE: &str = "bench-bare";
/// Namespace of the jobs.
pub(super) const JOBS: &str = "bench-jobs";
/// As the operator logs when nobody asks for more.
const LOG_FILTER: &str = "info";

/// A cluster, an operator, and where their logs are.
pub(super) struct Stage {
    // Fields are dropped in order: processes first, then the folder that they write to.
    operator: Option<Operator>,
    cluster: Cluster,
    release: Release,
    audit: AuditLog,
    binary: PathBuf,
    kubeconfig: PathBuf,
    starts: u32,
    folder: Folder,
}

impl Stage {
    /// Boots a cluster, installs Trainyard and starts it. Logs go to `logs`, or to a folder that goes with the stage.
    ///
    /// With images, a real node that has them can be started in it.
    pub(super) async fn set(
        fake_nodes: usize,
        images: Option<Vec<Image>>,
        apiserver_flags: Vec<String>,
        logs: Option<PathBuf>,
    ) -> Result<Self> {
        let folder = Folder::create(logs)?;
        let binary = build_operator(Build::Release).await?;
        let audit_log = folder.path.join("audit.log");
        // Neither may hold up pods of either kind by its own rate limit.
        let unthrottled = ["--kube-api-qps=2000", "--kube-api-burst=4000"].map(str::to_owned).to_vec();
        let options = ClusterOptions {
            audit_log: Some(audit_log.clone()),
            fake_nodes,
            node: images.map(|images| NodeOptions { images, tainted: true }),
            apiserver_flags,
            scheduler_flags: unthrottled.clone(),
            controller_manager_flags: unthrottled,
        };
        let cluster = Cluster::start(options).await?;
        let client = cluster.client();
        let release = Release::new(&client, cluster.kubeconfig_path(), &folder.path).await?;
        release.install(&without_pods()).await?;
        for namespace in [BARE, JOBS] {
            load::create_namespace(&client, namespace).await?;
        }
        let account = (OPERATOR_NAMESPACE, SERVICE_ACCOUNT);
        let kubeconfig = kubeconfig_of(&client, account, cluster.kubeconfig_path(), &folder.path).await?;
        let audit = AuditLog::at(&audit_log);
        let mut stage = Self { operator: None, cluster, release, audit, binary, kubeconfig, starts: 0, folder };
        stage.spawn_operator()?;
        stage.operator()?.until_ready().await?;
        Ok(stage)
    }

    /// Starts another operator; the last one must have been stopped.
    pub(super) fn spawn_operator(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.folder.path.join(format!("operator-{}.log", self.starts));
        self.operator = Some(Operator::spawn(&self.binary, &self.kubeconfig, &log, LOG_FILTER, &WHOLE_CLUSTER)?);
        Ok(())
    }

    /// Stops the operator as Kubernetes would.
    pub(super) async fn stop_operator(&mut self) -> Result<()> {
        self.operator.take().context("no operator runs")?.stop().await
    }

    /// Replaces the operator by a fresh one, so that what it holds does not stem from an earlier benchmark.
    pub(super) async fn restart_operator(&mut self) -> Result<()> {
        self.stop_operator().await?;
        self.spawn_operator()?;
        self.operator()?.until_ready().await
    }

    /// The operator that runs.
    pub(super) fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("no operator runs")
    }

    /// The real node, started if need be: most benchmarks do without.
    pub(super) async fn node(&self) -> Result<&Node> {
        Ok(self.cluster.node().await?)
    }

    /// Trainyard in the cluster, so far without pods.
    pub(super) fn release(&self) -> &Release {
        &self.release
    }

    /// The user.
    pub(super) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// The audit log.
    pub(super) fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Processor time of the cluster, the operator and this program.
    pub(super) fn cpu(&self) -> Cpu {
        let operator = self.operator.iter().map(|operator| ("trainyard".to_owned(), operator.pid()));
        let client = ("this client".to_owned(), process::id());
        Cpu::now(self.cluster.processes().chain(operator).chain([client]))
    }

    /// Makes jobs until the cluster holds that many finished ones.
    pub(super) async fn fill(&self, jobs: usize) -> Result<()> {
        note(&format!("making {jobs} jobs and waiting until they have finished"));
        Kind::Job.run(&self.client(), JOBS, jobs, &Pace::default()).await.map(drop)
    }

    /// Stops everything.
    pub(super) async fn clear_away(mut self) -> Result<()> {
        if self.operator.is_some() {
            self.stop_operator().await?;
        }
        Ok(self.cluster.stop().await?)
    }
}

/// Where logs go.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn create(kept: Option<PathBuf>) -> Result<Self> {
        let own = || std::env::temp_dir().join(format!("trainyard-bench-{}", process::id()));
        let folder = Self { kept: kept.is_some(), path: kept.unwrap_or_else(own) };
        // The apiserver and the operator run in other folders.
        let path = std::path::absolute(&folder.path).context("the folder for logs")?;
        cache::create_private(&path)?;
        remove_old(&path.join("audit.log"))?;
        Ok(Self { path, ..folder })
    }
}

/// The apiserver appends to a log that is there.
fn remove_old(log: &Path) -> Result<()> {
    match std::fs::remove_file(log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", log.display()))
        }
        _ => Ok(()),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = cache::remove(&self.path)
        {
            note(&error.to_string());
        }
    }
}
