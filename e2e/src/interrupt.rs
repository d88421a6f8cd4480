//! Ctrl-C: work that is interrupted is dropped, and dropping cleans up.

use std::future::Future;
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, IoContext};

/// Runs `work` until it ends or SIGINT, SIGTERM or SIGHUP comes. In that case `work` is dropped first, and with it
/// every [`Cluster`](crate::Cluster) that it owns: processes killed, folders removed.
///
/// What runs a cluster must be run through this: a signal otherwise ends the process without any clean-up (the
/// cluster's processes still die with it, and the next start removes its folder).
pub async fn until_interrupted<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hangup = watch(SignalKind::hangup())?;
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err(Error::Interrupted("SIGINT").into()),
        _ = terminate.recv() => Err(Error::Interrupted("SIGTERM").into()),
        _ = hangup.recv() => Err(Error::Interrupted("SIGHUP").into()),
    }
}

fn watch(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).context("watching", Path::new("signals"))
}
