//! The election against an apiserver of a few lines: one Lease, optimistic locking, failures on demand.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

mod neighbours;

#[derive(Clone, Default)]
pub(crate) struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    fails: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
}

type Answer = (StatusCode, String);

fn status(code: StatusCode, reason: &str) -> Answer {
    let body =
        json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason});
    (code, body.to_string())
}

impl Server {
    pub(crate) fn client(&self) -> kube::Client {
        let collection = "/apis/coordination.k8s.io/v1/namespaces/train/leases";
        let router = Router::new()
            .route(collection, axum::routing::post(Server::create))
            .route(&format!("{collection}/operator"), get(Server::read).put(Server::replace))
            .with_state(self.clone());
        kube::Client::new(router, "train")
    }

    fn down(&self) -> Option<Answer> {
        if self.refuses.load(Ordering::SeqCst) {
            return Some(status(StatusCode::FORBIDDEN, "no right to leases"));
        }
        self.fails.load(Ordering::SeqCst).then(|| status(StatusCode::INTERNAL_SERVER_ERROR, "etcd is away"))
    }

    async fn read(State(server): State<Server>) -> Answer {
        if let Some(answer) = server.down() {
            return answer;
        }
        match &*server.lease.lock().unwrap() {
            Some(lease) => (StatusCode::OK, lease.to_string()),
            None => status(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    async fn create(State(server): State<Server>, body: Bytes) -> Answer {
        server.down().unwrap_or_else(|| server.write(&body, None))
    }

    async fn replace(State(server): State<Server>, body: Bytes) -> Answer {
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let version = sent["metadata"]["resourceVersion"].as_str().expect("every update is conditional").to_owned();
        server.down().unwrap_or_else(|| server.write(&body, Some(version)))
    }

    /// `expected`: the version that is replaced; `None` creates.
    fn write(&self, body: &[u8], expected: Option<String>) -> Answer {
        let mut stored = self.lease.lock().unwrap();
        let version = stored.as_ref().map(|lease| lease["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
        if version != expected {
            return status(StatusCode::CONFLICT, if expected.is_some() { "Conflict" } else { "AlreadyExists" });
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let next = version.map_or(1, |version| version.parse::<u64>().unwrap() + 1);
        lease["metadata"]["resourceVersion"] = json!(next.to_string());
        let answer = lease.to_string();
        *stored = Some(lease);
        (StatusCode::OK, answer)
    }

    pub(crate) fn spec(&self, field: &str) -> Value {
        self.lease.lock().unwrap().as_ref().unwrap()["spec"][field].clone()
    }
}

/// Short, but long enough that a busy machine does not look like a lost lease.
pub(crate) const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(2),
    renew_every: Duration::from_millis(50),
    renew_deadline: Duration::from_millis(1200),
    retry_every: Duration::from_millis(20),
    request_limit: Duration::from_millis(500),
};

fn place() -> LeasePlace {
    LeasePlace { namespace: "train".to_owned(), name: "operator".to_owned(), scope: Scope::Cluster }
}

async fn acquire(server: &Server, identity: &str) -> Result<LeaseHolder, LeaseError> {
    let acquired = LeaseHolder::acquire(server.client(), place(), identity, TIMES, |_| {});
    timeout(Duration::from_secs(20), acquired).await.expect("acquired long before")
}

#[tokio::test]
async fn a_released_lease_passes_on_at_once() {
    let server = Server::default();
    let mut first = acquire(&server, "first").await.unwrap();
    let gate = first.gate();
    assert!(gate.holds());
    assert_eq!(server.spec("holderIdentity"), "first");

    let (stop, stopped) = oneshot::channel::<()>();
    let keeping = tokio::spawn(async move {
        let ended = first.keep(stopped).await;
        (first, ended)
    });
    let standby = tokio::spawn({
        let server = server.clone();
        async move { acquire(&server, "second").await }
    });
    // Longer than the lease: renewals keep it, and the standby out of it.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(gate.holds() && !standby.is_finished());

    stop.send(()).unwrap();
    let (first, ended) = keeping.await.unwrap();
    assert_eq!(ended, Ended::Shutdown);
    assert!(gate.holds(), "what is under way may be finished before the release");
    first.release().await;
    assert!(!gate.holds());

    let released = Instant::now();
    let second = standby.await.unwrap().unwrap();
    assert!(released.elapsed() < TIMES.duration, "the next one need not wait for the lease to run out");
    assert!(second.gate().holds());
    assert_eq!((server.spec("holderIdentity"), server.spec("leaseTransitions")), (json!("second"), json!(1)));
}

#[tokio::test]
async fn a_renewal_time_from_a_skewed_clock_changes_nothing() {
    for skewed in ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let server = Server::default();
        let spec = json!({"holderIdentity": "dead", "renewTime": skewed, "leaseDurationSeconds": 1});
        let lease = json!({"metadata": {"name": "operator", "resourceVersion": "7"}, "spec": spec});
        *server.lease.lock().unwrap() = Some(lease);
        let start = Instant::now();
        acquire(&server, "next").await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1), "taken although its holder may live");
    }
}

#[tokio::test]
async fn of_many_takers_one_wins() {
    let server = Server::default();
    let lease = json!({"metadata": {"name": "operator", "resourceVersion": "1"}, "spec": {"leaseDurationSeconds": 15}});
    *server.lease.lock().unwrap() = Some(lease);
    let takers = (0..8).map(|taker| {
        let client = server.client();
        tokio::spawn(async move {
            let mut holder =
                LeaseHolder::acquire(client, place(), &format!("taker-{taker}"), TIMES, |_| {}).await.unwrap();
            let gate = holder.gate();
            tokio::spawn(async move { holder.keep(pending::<()>()).await });
            gate
        })
    });
    let takers: Vec<_> = takers.collect();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(takers.iter().filter(|taker| taker.is_finished()).count(), 1);
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_and_a_short_outage_is_survived() {
    let server = Server::default();
    let mut holder = acquire(&server, "me").await.unwrap();
    let gate = holder.gate();
    let keeping = tokio::spawn(async move { holder.keep(pending::<()>()).await });

    server.fails.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(TIMES.renew_deadline).await;
    assert!(gate.holds() && !keeping.is_finished(), "it renewed after the outage");

    server.fails.store(true, Ordering::SeqCst);
    let ended = timeout(Duration::from_secs(5), keeping).await.expect("ends by itself").unwrap();
    assert_eq!(ended, Ended::Lost(Loss::Deadline));
    assert!(!gate.holds());
}

#[tokio::test]
async fn a_lease_that_someone_took_is_lost() {
    let server = Server::default();
    let mut holder = acquire(&server, "me").await.unwrap();
    let taken = json!({"metadata": {"resourceVersion": "99"}, "spec": {"holderIdentity": "thief"}});
    *server.lease.lock().unwrap() = Some(taken);
    let ended = timeout(Duration::from_secs(5), holder.keep(pending::<()>())).await.expect("ends by itself");
    assert_eq!(ended, Ended::Lost(Loss::TakenBy("thief".to_owned())));
    assert!(!holder.gate().holds());
    holder.release().await;
    assert_eq!(server.spec("holderIdentity"), "thief", "only our own name is cleared");
}

#[tokio::test]
async fn missing_rights_and_bad_times_are_errors() {
    let server = Server::default();
    server.refuses.store(true, Ordering::SeqCst);
    let error = acquire(&server, "me").await.unwrap_err().to_string();
    assert_eq!(error, "the apiserver refuses Lease train/operator: no right to leases");
    assert!(matches!(acquire(&server, "").await, Err(LeaseError::EmptyIdentity)));
    let times = LeaseTimes { renew_deadline: TIMES.duration, ..TIMES };
    let acquired = LeaseHolder::acquire(server.client(), place(), "me", times, |_| {}).await;
    assert!(matches!(acquired, Err(LeaseError::Times(_))));
}
