//! The operator's own HTTP endpoints: `/healthz`, `/readyz` and `/metrics`.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;

pub mod health;
pub mod metrics;

use health::{Health, Readiness};
use metrics::{Metrics, OPENMETRICS};

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
mod tests {
    use super::*;
    use crate::cluster::scope::Scope;
    use health::Stage;
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
        let (health, metrics) = (Arc::new(Health::new([Scope::Cluster])), Arc::new(Metrics::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, health.clone(), metrics, stopped));

        assert_eq!(fetch(address, "/healthz").await.0, 200);
        for (stage, alive, ready) in [
            (Stage::Starting, 200, 503),
            (Stage::Standby, 200, 200),
            (Stage::Filling("pods are still listed".to_owned()), 200, 503),
            (Stage::Working, 200, 200),
            (Stage::Stopped, 503, 503),
        ] {
            health.set(&Scope::Cluster, stage.clone());
            let (health, (code, answer)) = (fetch(address, "/healthz").await.0, fetch(address, "/readyz").await);
            assert_eq!((health, code), (alive, ready), "{stage:?}");
            assert!(ready == 200 || answer.contains("\r\n\r\ncluster: "), "{answer}");
        }

        let (status, answer) = fetch(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(answer.to_ascii_lowercase().contains(&format!("content-type: {OPENMETRICS}")), "{answer}");
        assert!(answer.contains("trainyard_build_info{"), "{answer}");
        assert_eq!(fetch(address, "/other").await.0, 404);

        // A connection that stays open does not hold up the end.
        let _idle = TcpStream::connect(address).unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server).await.expect("ends at once").unwrap().unwrap();
    }
}
