//! The process as a whole: what goes on whatever the controllers are doing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use http::StatusCode;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::*;
use crate::cluster::lease::tests as election;

const PATIENCE: Duration = Duration::from_secs(20);

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().unwrap()
}

/// Waits for what happens on other threads.
fn until(what: &str, happens: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happens() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_controller_that_holds_up_its_thread_holds_up_neither_lease_nor_probes() {
    let (controllers, upkeep) = (runtime("controllers"), runtime("upkeep"));
    // Whatever the controllers ask for keeps their only thread busy until it is let go.
    let (is_held, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let hold = {
        let (is_held, let_go) = (is_held.clone(), let_go.clone());
        move || {
            is_held.store(true, Ordering::SeqCst);
            while !let_go.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            future::ready(StatusCode::NOT_FOUND)
        }
    };
    let server = election::Server::default();
    let scope = Scope::Namespace("train".to_owned());
    let health = Arc::new(Health::new([scope.clone()]));
    let service = {
        let client = controllers.block_on(async { kube::Client::new(Router::new().fallback(hold), "train") });
        let lease_client = upkeep.block_on(async { server.client() });
        Service {
            client,
            lease_client,
            controllers: controllers.handle().clone(),
            times: election::TIMES,
            place: LeasePlace { namespace: "train".to_owned(), name: "operator".to_owned(), scope: scope.clone() },
            concurrency: 1,
            health: health.clone(),
            metrics: Arc::new(Metrics::new()),
        }
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = stopped.map(drop).boxed().shared();
    let listener = upkeep.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    upkeep.spawn(server::serve(listener, server::probes(health.clone()), Limits::default(), shutdown.clone()));
    let serving = upkeep.spawn(service.run(shutdown));

    until("the controllers' thread is held up", || is_held.load(Ordering::SeqCst));
    let mut renewal = server.spec("renewTime");
    for number in 0..5 {
        until(&format!("renewal {number}"), || server.spec("renewTime") != renewal);
        renewal = server.spec("renewTime");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(!let_go.load(Ordering::SeqCst) && is_held.load(Ordering::SeqCst));

    let_go.store(true, Ordering::SeqCst);
    stop.send(()).unwrap();
    let ended = upkeep.block_on(async { tokio::time::timeout(PATIENCE, serving).await }).expect("it stops").unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(server.spec("holderIdentity"), serde_json::Value::Null, "the lease is released");
}
