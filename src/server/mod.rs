//! The operator's own HTTP endpoints: `/healthz` and `/readyz` on one address, `/metrics` on another.
//!
//! Whoever reaches a port may connect to it, so a connection is cheap and short: it carries one request, ends after
//! [`Limits::lifetime`] whatever its other end does, and gives way to newer ones when there are too many.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

pub mod health;
pub mod metrics;

use health::{Health, Readiness};
use metrics::{Metrics, OPENMETRICS};

/// After an accept that failed, for want of file descriptors for instance: trying at once would only use up the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest request head that is read, in bytes; hyper's least.
const LONGEST_HEAD: usize = 8 * 1024;

/// What the connections to one port may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. One more closes the oldest: a probe that has just connected must not fail because somebody
    /// else holds connections open.
    pub connections: usize,
    /// How long a connection may take in all: to send its request, and to read the answer.
    pub lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 64, lifetime: Duration::from_secs(10) }
    }
}

/// Answers with `router` until `shutdown` completes.
///
/// It does not wait for open connections then: an answer under way finishes in its connection's own task.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: impl Future) {
    let accepting = async {
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    while open.len() >= limits.connections.max(1)
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    open.push_back(tokio::spawn(answer(stream, router.clone(), limits.lifetime)).abort_handle());
                }
                Err(error) => {
                    tracing::debug!("a connection was not accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = shutdown => {}
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, router: Router, lifetime: Duration) {
    let mut server = http1::Builder::new();
    // An idle connection is one of the few; the kubelet's probes and a scraper connect anew.
    server.keep_alive(false).max_buf_size(LONGEST_HEAD).timer(TokioTimer::new()).header_read_timeout(lifetime);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(lifetime, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a request was not answered: {error}"),
        Err(_) => tracing::debug!("a connection was closed after {lifetime:?}"),
    }
}

/// `/healthz` and `/readyz`, for the kubelet.
pub fn probes(health: Arc<Health>) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

/// `/metrics`, for Prometheus.
pub fn scrapes(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(metrics)
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let problem = (!health.is_alive()).then(|| "a controller's task has stopped".to_owned());
    probe(problem.is_none(), problem.as_slice())
}

async fn readyz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let Readiness { is_ready, problems } = health.readiness();
    probe(is_ready, &problems)
}

fn probe(is_fine: bool, problems: &[String]) -> (StatusCode, String) {
    let code = if is_fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if problems.is_empty() { "ok".to_owned() } else { problems.join("\n") };
    (code, text + "\n")
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.text())
}

#[cfg(test)]
mod tests;
