//! The cluster that a person keeps: `up`, `down`, `status`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::binaries::ensure_binaries;
use crate::cache::Cache;
use crate::certs;
use crate::cluster::Cluster;
use crate::control_plane::is_ready;
use crate::error::Error;
use crate::lock::{self, Lock};
use crate::node::check_requirements;
use crate::options::ClusterOptions;
use crate::process::Lifetime;
use crate::run_folder::{Kind, RunFolder, state_file, sweep};
use crate::state::{Phase, State};

/// What `up` found or did.
#[derive(Clone, Debug)]
pub enum Up {
    /// It was running already, and stays as it is, whatever options it was booted with.
    Already(PathBuf),
    /// It was booted.
    Booted(PathBuf),
}

/// One component, as [`status`] sees it.
#[derive(Clone, Debug)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether that very process still runs.
    pub alive: bool,
    /// Its log.
    pub log: PathBuf,
}

/// The kept cluster, as [`status`] sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it came up, everything still runs and the apiserver calls itself ready.
    pub healthy: bool,
    /// Whether it came up, whatever happened since.
    pub came_up: bool,
    /// How long ago its boot began, to the second.
    pub age: SignedDuration,
    /// The apiserver's address; empty while it boots.
    pub server: String,
    /// The kubeconfig of its administrator.
    pub kubeconfig: PathBuf,
    /// Its processes.
    pub components: Vec<ComponentStatus>,
}

/// Boots the kept cluster, unless it runs. What a crash has left of an earlier one is cleaned up first.
pub async fn up(options: ClusterOptions) -> Result<Up, Error> {
    let cache = Cache::locate()?;
    if is_running(&cache)? {
        return Ok(Up::Already(kubeconfig()?));
    }
    let Some(cluster) = boot_unless_running(&options).await? else { return Ok(Up::Already(kubeconfig()?)) };
    if options.node.is_some() {
        cluster.node().await?;
    }
    let kubeconfig = cluster.kubeconfig_path().to_owned();
    cluster.leave();
    Ok(Up::Booted(kubeconfig))
}

/// Boots the kept cluster for somebody who lets it go on later; it must not run yet.
pub(crate) async fn boot(options: &ClusterOptions) -> Result<Cluster, Error> {
    boot_unless_running(options).await?.ok_or(Error::AlreadyUp)
}

async fn boot_unless_running(options: &ClusterOptions) -> Result<Option<Cluster>, Error> {
    if options.node.is_some() {
        check_requirements().await?;
    }
    let cache = Cache::locate()?;
    let binaries = ensure_binaries().await?;
    let lock = Lock::acquire(&cache.run_lock(Kind::Kept.name()), lock::PATIENCE).await?;
    // Another `up` may have been faster.
    if is_running(&cache)? {
        return Ok(None);
    }
    let run = RunFolder::claim_locked(&cache, Kind::Kept, lock)?;
    Cluster::boot(run, binaries, options, Lifetime::Detachable).await.map(Some)
}

/// Stops the kept cluster and removes its folder. Says whether there was one.
pub async fn down() -> Result<bool, Error> {
    let cache = Cache::locate()?;
    let folder = cache.run(Kind::Kept.name());
    let _lock = Lock::acquire(&cache.run_lock(Kind::Kept.name()), lock::PATIENCE).await?;
    sweep(&folder)
}

/// Looks at the kept cluster, without waiting for whoever is booting it. Nothing if there is none.
pub async fn status() -> Result<Option<Status>, Error> {
    let cache = Cache::locate()?;
    let Some(state) = State::load(&state_file(&cache.run(Kind::Kept.name())))? else { return Ok(None) };
    let kubeconfig = kubeconfig()?;
    let components = state.processes.iter().map(|process| ComponentStatus {
        name: process.name.clone(),
        pid: process.pid,
        alive: process.is_alive(),
        log: process.log.clone(),
    });
    let age = Timestamp::now().duration_since(state.started_at);
    Ok(Some(Status {
        healthy: state.is_running() && answers(&kubeconfig).await,
        came_up: state.phase == Phase::Running,
        age: SignedDuration::from_secs(age.as_secs()),
        server: state.server.clone(),
        components: components.collect(),
        kubeconfig,
    }))
}

/// Where the kept cluster's kubeconfig is, or will be.
pub fn kubeconfig() -> Result<PathBuf, Error> {
    Ok(Cache::locate()?.run(Kind::Kept.name()).join(certs::kubeconfig_file(certs::ADMIN)))
}

fn is_running(cache: &Cache) -> Result<bool, Error> {
    let state = State::load(&state_file(&cache.run(Kind::Kept.name())))?;
    Ok(state.is_some_and(|state| state.is_running()))
}

/// Whether the apiserver answers within a moment.
async fn answers(kubeconfig: &Path) -> bool {
    let asked = async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).ok()?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.ok()?;
        let client = Client::try_from(config).ok()?;
        Some(is_ready(&client).await)
    };
    tokio::time::timeout(Duration::from_secs(3), asked).await.ok().flatten().unwrap_or(false)
}
