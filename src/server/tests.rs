use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;
use crate::cluster::scope::Scope;
use health::Stage;

/// A server of this process; it ends when it is dropped.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn served(router: Router, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    Served { address, stop, server: tokio::spawn(serve(listener, router, limits, stopped)) }
}

/// Status code and everything after the status line.
async fn fetch(address: SocketAddr, path: &'static str) -> (u16, String) {
    let answer = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        // Nothing is said about the connection: it is the server that ends it.
        write!(stream, "GET {path} HTTP/1.1\r\nHost: trainyard\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = answer.await.unwrap().unwrap();
    let (status, rest) = answer.split_once("\r\n").unwrap();
    (status.split(' ').nth(1).unwrap().parse().unwrap(), rest.to_owned())
}

/// Connections that have sent half a request each.
async fn half_sent(address: SocketAddr, number: usize) -> Vec<TcpStream> {
    let connect = move || {
        let connect = |_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ").unwrap();
            stream
        };
        (0..number).map(connect).collect()
    };
    spawn_blocking(connect).await.unwrap()
}

/// How many of them the server has closed by now.
fn count_closed(connections: &[TcpStream]) -> usize {
    let is_closed = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    };
    connections.iter().filter(|stream| is_closed(stream)).count()
}

async fn until_closed(connections: &[TcpStream], number: usize) {
    let closing = async {
        while count_closed(connections) < number {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let closed = timeout(Duration::from_secs(10), closing).await;
    assert!(closed.is_ok(), "{} of {} closed, not {number}", count_closed(connections), connections.len());
}

#[tokio::test]
async fn probes_follow_health_and_each_port_has_its_own_endpoints() {
    let (health, metrics) = (Arc::new(Health::new([Scope::Cluster])), Arc::new(Metrics::new()));
    let probed = served(probes(health.clone()), Limits::default()).await;
    let scraped = served(scrapes(metrics), Limits::default()).await;

    assert_eq!(fetch(probed.address, "/healthz").await.0, 200);
    for (stage, alive, ready) in [
        (Stage::Starting, 200, 503),
        (Stage::Standby, 200, 200),
        (Stage::Filling("pods are still listed".to_owned()), 200, 503),
        (Stage::Working, 200, 200),
        (Stage::Stopped, 503, 503),
    ] {
        health.set(&Scope::Cluster, stage.clone());
        let (health, (code, answer)) =
            (fetch(probed.address, "/healthz").await.0, fetch(probed.address, "/readyz").await);
        assert_eq!((health, code), (alive, ready), "{stage:?}");
        assert!(ready == 200 || answer.contains("\r\n\r\ncluster: "), "{answer}");
    }

    let (status, answer) = fetch(scraped.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.to_ascii_lowercase().contains(&format!("content-type: {OPENMETRICS}")), "{answer}");
    assert!(answer.contains("trainyard_build_info{"), "{answer}");
    for (address, path) in [(probed.address, "/metrics"), (scraped.address, "/healthz"), (scraped.address, "/readyz")] {
        assert_eq!(fetch(address, path).await.0, 404, "{path}");
    }

    // A connection that stays open does not hold up the end.
    let _idle = TcpStream::connect(probed.address).unwrap();
    probed.stop.send(()).unwrap();
    timeout(Duration::from_secs(5), probed.server).await.expect("ends at once").unwrap();
}

#[tokio::test]
async fn many_half_sent_requests_leave_room_for_a_probe() {
    let limits = Limits { connections: 8, lifetime: Duration::from_secs(600) };
    let served = served(probes(Arc::new(Health::new([Scope::Cluster]))), limits).await;
    let held = half_sent(served.address, 300).await;
    until_closed(&held, 300 - limits.connections).await;
    assert_eq!(fetch(served.address, "/healthz").await.0, 200);
    assert_eq!(count_closed(&held), 300 - limits.connections + 1, "the probe took the place of the oldest");
    let newest = &held[held.len() - limits.connections + 1..];
    assert_eq!(count_closed(newest), 0, "the oldest go first");
}

#[tokio::test]
async fn a_connection_is_closed_after_its_time() {
    let limits = Limits { connections: 400, lifetime: Duration::from_millis(500) };
    let served = served(probes(Arc::new(Health::new([Scope::Cluster]))), limits).await;
    let silent = spawn_blocking(move || TcpStream::connect(served.address).unwrap()).await.unwrap();
    let mut held = half_sent(served.address, 200).await;
    held.push(silent);
    until_closed(&held, held.len()).await;
    assert_eq!(fetch(served.address, "/healthz").await.0, 200);
}
