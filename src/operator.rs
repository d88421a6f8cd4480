//! The operator's process: a term of leadership for each scope, endpoints for probes and metrics, and an orderly end.

use std::io;
use std::sync::Arc;

use futures::future::{self, BoxFuture, Shared};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument;

use crate::cli::RunArgs;
use crate::cluster::client::{ConnectError, connect};
use crate::cluster::lease::{LeaseError, LeasePlace, Loss};
use crate::cluster::schema;
use crate::cluster::scope::Scope;
use crate::names::SYSTEM_NAMESPACES;
use crate::server;
use crate::server::health::Health;
use crate::server::metrics::Metrics;
use crate::version::{COMMIT, VERSION};

mod candidacy;
mod reign;
mod service;

use service::Service;

/// Completes when the process is told to stop.
type Shutdown = Shared<BoxFuture<'static, ()>>;

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

/// Runs until SIGTERM or SIGINT; then finishes what is under way and releases the leases.
///
/// # Errors
/// Whatever makes it impossible or unsafe to go on.
pub async fn run(args: RunArgs) -> Result<(), OperatorError> {
    let shutdown = shutdown_signal()?.shared();
    let client = connect(args.context.as_deref()).await?;
    let scopes = args.namespaces.scopes();
    let (health, metrics) = (Arc::new(Health::new(scopes.clone())), Arc::new(Metrics::new()));
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|source| OperatorError::Listen { address: args.listen, source })?;
    let served: Vec<&str> = scopes.iter().map(Scope::name).collect();
    tracing::info!(version = VERSION, commit = COMMIT, listen = %args.listen, scopes = served.join(","), "trainyard starts");
    tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), shutdown.clone()));
    tokio::spawn(schema::follow(client.clone(), metrics.clone(), shutdown.clone()));

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
            place: LeasePlace { namespace, name: args.lease_name.clone(), scope },
            concurrency: args.concurrency,
            health: health.clone(),
            metrics: metrics.clone(),
        };
        service.run(shutdown.clone()).instrument(span)
    });
    // One that cannot go on ends the process; those that are told to stop leave each other their time.
    let mut services: FuturesUnordered<_> = services.collect();
    while let Some(ended) = services.next().await {
        ended?;
    }
    Ok(())
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
