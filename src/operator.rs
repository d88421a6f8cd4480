//! The operator's process: lease, controllers, endpoints for probes and metrics, and an orderly end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, future};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{ModelDeployment, Pipeline, PipelineRun, TrainingJob};
use crate::cli::RunArgs;
use crate::cluster::client::{ApiClient, ConnectError, connect};
use crate::cluster::controller;
use crate::cluster::lease::{Ended, LeaseError, LeaseHolder, LeaseTimes, Loss};
use crate::server::metrics::Metrics;
use crate::server::{self, Health};

/// Longest wait for reconciles under way when the process is told to stop; Kubernetes gives a pod 30 s.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);

/// Why the operator stopped other than by request.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The probes' port.
    #[error("cannot listen on {address} (--listen): {source}")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No lease to be had.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The lease is gone; somebody else may write now.
    #[error("the lease was lost: {0}; stopping, so that a fresh process starts from fresh caches")]
    LeaseLost(Loss),
    /// Controllers never end by themselves.
    #[error("a controller ended by itself")]
    ControllerEnded,
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT; then finishes what is under way and releases the lease.
///
/// # Errors
/// Whatever makes it impossible or unsafe to go on.
pub async fn run(args: RunArgs) -> Result<(), OperatorError> {
    let shutdown = shutdown_signal()?.shared();
    let client = connect(args.context.as_deref()).await?;
    let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|source| OperatorError::Listen { address: args.listen, source })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %args.listen, "trainyard starts");
    tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), shutdown.clone()));

    let namespace = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    health.set_standby(true);
    let identity = identity();
    let acquired = LeaseHolder::acquire(client.clone(), &namespace, &args.lease_name, &identity, LeaseTimes::default());
    let lease = tokio::select! {
        lease = acquired => lease?,
        () = shutdown.clone() => return Ok(()),
    };
    health.set_standby(false);
    metrics.set_leader(true);
    tracing::info!(namespace, lease = args.lease_name, "this operator leads");
    lead(&args, client, lease, health, metrics, shutdown).await
}

/// Runs the controllers while the lease holds.
async fn lead(
    args: &RunArgs,
    client: kube::Client,
    mut lease: LeaseHolder,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> Result<(), OperatorError> {
    let api = ApiClient::new(client.clone(), lease.gate(), metrics.clone());
    let mut all_synced = Vec::new();
    let running = Arc::new(AtomicBool::new(true));
    let still_running = running.clone();
    health.set_watchdog(move || still_running.load(Ordering::Relaxed));
    let mut options = || {
        let (synced, is_synced) = watch::channel(false);
        all_synced.push(is_synced);
        let (client, api, metrics) = (client.clone(), api.clone(), metrics.clone());
        controller::Options { client, api, metrics, concurrency: args.concurrency, synced }
    };
    let controllers = vec![
        controller::run::<TrainingJob>(options(), shutdown.clone()).boxed(),
        controller::run::<ModelDeployment>(options(), shutdown.clone()).boxed(),
        controller::run::<Pipeline>(options(), shutdown.clone()).boxed(),
        controller::run::<PipelineRun>(options(), shutdown.clone()).boxed(),
    ];
    let ready = health.clone();
    tokio::spawn(async move {
        for synced in &mut all_synced {
            if synced.wait_for(|synced| *synced).await.is_err() {
                return;
            }
        }
        ready.set_synced(true);
    });
    let stop = shutdown.clone();
    let mut controllers = tokio::spawn(async move {
        // One that ends by itself ends them all; one that was told to stop leaves the others their time.
        let (_, _, others) = future::select_all(controllers).await;
        if stop.now_or_never().is_some() {
            future::join_all(others).await;
        }
        running.store(false, Ordering::Relaxed);
    });
    tokio::select! {
        ended = lease.keep(shutdown.clone()) => match ended {
            Ended::Shutdown => {}
            Ended::Lost(loss) => return Err(OperatorError::LeaseLost(loss)),
        },
        _ = &mut controllers => {
            if shutdown.now_or_never().is_none() {
                return Err(OperatorError::ControllerEnded);
            }
            lease.release().await;
            return Ok(());
        }
    }
    tracing::info!("told to stop: finishing what is under way");
    if tokio::time::timeout(LONGEST_FAREWELL, controllers).await.is_err() {
        tracing::warn!("some reconciles did not finish within {LONGEST_FAREWELL:?}; the next leader redoes them");
    }
    lease.release().await;
    tracing::info!("the lease is released");
    Ok(())
}

/// Unlike any other process, this one included after a restart: the pod's name and something random.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "trainyard".to_owned());
    format!("{host}-{:08x}", rand::random::<u32>())
}

fn shutdown_signal() -> Result<futures::future::BoxFuture<'static, ()>, OperatorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    .boxed())
}
