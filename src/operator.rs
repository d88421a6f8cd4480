//! The operator's process: a term of leadership for each scope, endpoints for probes and metrics, and an orderly end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::{self, BoxFuture, Shared};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::cli::RunArgs;
use crate::cluster::client::{ConnectError, client, configuration};
use crate::cluster::lease::{LeaseError, LeasePlace, LeaseTimes, Loss};
use crate::cluster::schema;
use crate::cluster::scope::Scope;
use crate::names::SYSTEM_NAMESPACES;
use crate::server::health::Health;
use crate::server::metrics::Metrics;
use crate::server::{self, Limits};
use crate::version::{COMMIT, VERSION};

mod candidacy;
mod reign;
mod service;
#[cfg(test)]
mod tests;

use service::Service;

/// Completes when the process is told to stop.
type Shutdown = Shared<BoxFuture<'static, ()>>;

/// Why the operator stopped other than by request.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A port of ours.
    #[error("cannot listen on {address} ({option}): {source}")]
    Listen {
        /// The option that says where.
        option: &'static str,
        /// What was asked for.
        address: SocketAddr,
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

/// Runs until SIGTERM or SIGINT; then finishes what is under way and releases the leases.
///
/// What looks at users' objects runs on the threads of `controllers`; leases, probes and metrics on those of the caller's
/// runtime, with a client of their own, so that no object can hold them up.
///
/// # Errors
/// Whatever makes it impossible or unsafe to go on.
pub async fn run(args: RunArgs, controllers: Handle) -> Result<(), OperatorError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = future::select(shutdown_signal()?, stopped).map(drop).boxed().shared();
    let configuration = configuration(args.context.as_deref()).await?;
    let lease_client = client(configuration.clone(), &Handle::current())?;
    let client = client(configuration, &controllers)?;
    let scopes = args.namespaces.scopes();
    let (health, metrics) = (Arc::new(Health::new(scopes.clone())), Arc::new(Metrics::new()));
    let probed = listen(args.probe_listen, "--probe-listen").await?;
    let scraped = listen(args.metrics_listen, "--metrics-listen").await?;
    let served: Vec<&str> = scopes.iter().map(Scope::name).collect();
    tracing::info!(
        version = VERSION,
        commit = COMMIT,
        probes = %args.probe_listen,
        metrics = %args.metrics_listen,
        scopes = served.join(","),
        "trainyard starts"
    );
    tokio::spawn(server::serve(probed, server::probes(health.clone()), Limits::default(), shutdown.clone()));
    tokio::spawn(server::serve(scraped, server::scrapes(metrics.clone()), Limits::default(), shutdown.clone()));
    controllers.spawn(schema::follow(client.clone(), metrics.clone(), shutdown.clone()));

    let own = args.lease_namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    tell_of_own_namespace(&scopes, &own);
    let services = scopes.into_iter().map(|scope| {
        let namespace = match &scope {
            Scope::Cluster => own.clone(),
            Scope::Namespace(namespace) => namespace.clone(),
        };
        let span = tracing::info_span!("serving", %scope);
        let service = Service {
            client: client.clone(),
            lease_client: lease_client.clone(),
            controllers: controllers.clone(),
            times: LeaseTimes::default(),
            place: LeasePlace { namespace, name: args.lease_name.clone(), scope },
            concurrency: args.concurrency,
            health: health.clone(),
            metrics: metrics.clone(),
        };
        service.run(shutdown.clone()).instrument(span)
    });
    // One that cannot go on ends the process, once the others have finished what is under way and released their leases.
    let mut services: FuturesUnordered<_> = services.collect();
    let (mut result, mut stop) = (Ok(()), Some(stop));
    while let Some(ended) = services.next().await {
        if ended.is_err() {
            drop(stop.take());
        }
        result = result.and(ended);
    }
    result
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(address).await.map_err(|source| OperatorError::Listen { option, address, source })
}

/// Says what may surprise: that its own namespace is not served, or that it is.
fn tell_of_own_namespace(scopes: &[Scope], own: &str) {
    if scopes.contains(&Scope::Cluster) {
        let system = SYSTEM_NAMESPACES.join(", ");
        tracing::info!("objects in namespaces {system} and in the operator's own, {own}, are left alone");
    } else if scopes.iter().any(|scope| scope.name() == own) {
        tracing::warn!(
            "the operator serves its own namespace {own}: whoever may create tokens of ServiceAccounts there, as the role edit \
             may, has the operator's rights; run it in a namespace of its own"
        );
    }
}

fn shutdown_signal() -> Result<BoxFuture<'static, ()>, OperatorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signals)?;
    Ok(future::FutureExt::boxed(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}
