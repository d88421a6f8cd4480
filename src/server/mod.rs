//! The operator's own HTTP endpoints: `/healthz`, `/readyz` and `/metrics`.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;

pub mod metrics;

use metrics::{Metrics, OPENMETRICS};

type Watchdog = Box<dyn Fn() -> bool + Send + Sync>;

/// What the probes answer from. Cheap to read; written by whoever wires the process together.
///
/// A process starts neither waiting nor synced, so it is alive but not ready.
#[derive(Default)]
pub struct Health {
    /// The lease is someone else's and we wait for it. A standby is ready: it does what it is there for, and a
    /// Deployment's rollout must not hang on it.
    standby: AtomicBool,
    /// Every cache has seen its first full list.
    synced: AtomicBool,
    /// Whether the controllers' tasks still run; unset until they are started.
    watchdog: OnceLock<Watchdog>,
}

impl Health {
    /// Alive, not ready.
    pub fn new() -> Self {
        Health::default()
    }

    /// Whether this process waits for the lease.
    pub fn set_standby(&self, waits: bool) {
        self.standby.store(waits, Ordering::Relaxed);
    }

    /// Whether all caches have been filled once.
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// Sets what tells whether the controllers' tasks still run. It is asked at every probe, so it must not block.
    /// Only the first call counts: a process starts its controllers once.
    pub fn set_watchdog(&self, running: impl Fn() -> bool + Send + Sync + 'static) {
        if self.watchdog.set(Box::new(running)).is_err() {
            tracing::warn!("a second watchdog was ignored");
        }
    }

    /// Whether the process should live on.
    pub fn is_alive(&self) -> bool {
        self.watchdog.get().is_none_or(|running| running())
    }

    /// Whether the process does what it is there for.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && (self.standby.load(Ordering::Relaxed) || self.synced.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("alive", &self.is_alive()).field("ready", &self.is_ready()).finish()
    }
}

/// Answers probes and scrapes until `shutdown` completes.
///
/// It does not wait for open connections then: a scraper that keeps one alive must not hold up the process's end, and
/// an answer under way finishes in its connection's own task.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: impl Future,
) -> io::Result<()> {
    tokio::select! {
        served = axum::serve(listener, router(health, metrics)).into_future() => served,
        _ = shutdown => Ok(()),
    }
}

fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    Router::new().route("/metrics", get(scrape)).with_state(metrics).merge(probes)
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    probe(health.is_alive(), "a controller's task has stopped\n")
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    probe(health.is_ready(), "the caches are not filled yet, or a controller's task has stopped\n")
}

fn probe(passes: bool, problem: &'static str) -> (StatusCode, &'static str) {
    if passes { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, problem) }
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;
    use tokio::sync::oneshot;

    /// Status code and everything after the status line.
    async fn fetch(address: SocketAddr, path: &'static str) -> (u16, String) {
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address)?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: trainyard\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        let answer = answer.await.unwrap().unwrap();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.split(' ').nth(1).unwrap().parse().unwrap(), rest.to_owned())
    }

    #[tokio::test]
    async fn probes_follow_health_and_metrics_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, metrics) = (Arc::new(Health::new()), Arc::new(Metrics::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, health.clone(), metrics, stopped));

        assert_eq!(fetch(address, "/healthz").await.0, 200);
        assert_eq!(fetch(address, "/readyz").await.0, 503, "nothing is synced yet");

        health.set_standby(true);
        assert_eq!(fetch(address, "/readyz").await.0, 200, "a standby is ready");
        health.set_standby(false);
        assert_eq!(fetch(address, "/readyz").await.0, 503, "a new leader fills its caches first");
        health.set_synced(true);
        assert_eq!(fetch(address, "/readyz").await.0, 200);

        let (status, answer) = fetch(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(answer.to_ascii_lowercase().contains(&format!("content-type: {OPENMETRICS}")), "{answer}");
        assert!(answer.contains("trainyard_build_info{"), "{answer}");
        assert_eq!(fetch(address, "/other").await.0, 404);

        let running = Arc::new(AtomicBool::new(true));
        health.set_watchdog({
            let running = running.clone();
            move || running.load(Ordering::Relaxed)
        });
        assert_eq!(fetch(address, "/healthz").await.0, 200);
        running.store(false, Ordering::Relaxed);
        assert_eq!(fetch(address, "/healthz").await.0, 503);
        assert_eq!(fetch(address, "/readyz").await.0, 503, "what is not alive is not ready");

        // A connection that stays open does not hold up the end.
        let _idle = TcpStream::connect(address).unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.expect("ends at once").unwrap().unwrap();
    }
}
