//! Operators with Leases of their own in other namespaces, against an apiserver that lists what it is told to.

use std::future::pending;
use std::sync::atomic::AtomicUsize;

use axum::http::Uri;
use tokio::sync::Notify;

use super::*;
use crate::cluster::territory::Territory;
use crate::cluster::watch::Filled;
use crate::cluster::watch::shared::Watches;
use crate::server::metrics::Metrics;

fn claim_to(namespace: &str) -> LeasePlace {
    LeasePlace {
        namespace: namespace.to_owned(),
        name: "operator".to_owned(),
        scope: Scope::Namespace(namespace.to_owned()),
    }
}

async fn claim(server: &Server, identity: &str) -> LeaseHolder {
    let acquired = LeaseHolder::acquire(server.client(), claim_to("train"), identity, TIMES, |_| {});
    timeout(Duration::from_secs(20), acquired).await.expect("acquired long before").unwrap()
}

fn lease(namespace: &str, scope: &str, holder: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": "operator", "resourceVersion": "7", "labels": {LABEL_SCOPE: scope}},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
    })
}

/// Answers lists of all Leases, and lets watches wait.
fn listing(answer: Answer) -> kube::Client {
    let router = Router::new().fallback(move |uri: Uri| async move {
        let query = uri.query().unwrap_or_default();
        assert!(query.contains("fieldSelector=metadata.name%3Doperator"), "the right is limited by name: {query}");
        match query {
            _ if query.contains("sendInitialEvents") => no_streamed_lists(),
            _ if query.contains("watch=") => pending().await,
            _ => answer,
        }
    });
    kube::Client::new(router, "train")
}

/// As Kubernetes 1.33 answers.
fn no_streamed_lists() -> Answer {
    status(StatusCode::UNPROCESSABLE_ENTITY, "Invalid")
}

fn leases(items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": "9"});
    let list =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList", "metadata": metadata, "items": items});
    (StatusCode::OK, list.to_string())
}

#[tokio::test]
async fn a_lease_without_spec_is_taken_and_labelled() {
    let server = Server::default();
    *server.lease.lock().unwrap() = Some(json!({"metadata": {"name": "operator", "resourceVersion": "7"}}));
    let holder = claim(&server, "me").await;
    assert_eq!(server.spec("holderIdentity"), "me");
    assert_eq!(server.lease.lock().unwrap().as_ref().unwrap()["metadata"]["labels"], json!({LABEL_SCOPE: "namespace"}));
    assert_eq!(holder.wait_before_writing(), TIMES.duration);
}

#[tokio::test]
async fn times_that_no_clock_knows_hold_up_no_election() {
    let server = Server::default();
    let mut odd = lease("train", "cluster", "");
    odd["spec"]["renewTime"] = json!("9999-12-31T23:59:59.000000Z");
    odd["spec"]["strategy"] = json!("OldestEmulationVersion");
    *server.lease.lock().unwrap() = Some(odd);
    let holder = acquire(&server, "me").await.unwrap();
    assert_eq!(
        (server.spec("holderIdentity"), server.spec("strategy")),
        (json!("me"), json!("OldestEmulationVersion"))
    );
    holder.release().await;
}

#[tokio::test]
async fn an_operator_of_the_other_scope_is_no_replica_of_ours_and_keeps_its_label() {
    let serving = |label: &str, scope: Scope| (label.to_owned(), LeasePlace { scope, ..place() });
    let namespace = || Scope::Namespace("train".to_owned());
    for ((label, place), serves_other_scope) in [
        (serving("cluster", Scope::Cluster), false),
        (serving("cluster", namespace()), true),
        (serving("namespace", namespace()), false),
        (serving("namespace", Scope::Cluster), true),
    ] {
        let server = Server::default();
        *server.lease.lock().unwrap() = Some(lease("train", &label, "other"));
        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let waiting = |holder: &Holder| told.send(holder.clone()).unwrap();
        let heard = tokio::select! {
            acquired = LeaseHolder::acquire(server.client(), place.clone(), "me", TIMES, waiting) => panic!("{acquired:?}"),
            heard = hears.recv() => heard,
        };
        assert_eq!(heard, Some(Holder { identity: "other".to_owned(), serves_other_scope }), "{label}, {place:?}");
        assert_eq!(server.lease.lock().unwrap().as_ref().unwrap()["metadata"]["labels"], json!({LABEL_SCOPE: label}));
    }
}

#[test]
fn the_lease_of_another_namespace_counts_no_longer_than_ours() {
    let ours = Duration::from_secs(15);
    for (written, expected) in [
        (json!(null), 15),
        (json!(-1), 15),
        (json!(0), 0),
        (json!(5), 5),
        (json!(15), 15),
        (json!(16), 15),
        (json!(i32::MAX), 15),
    ] {
        let spec = json!({"holderIdentity": "other", "leaseDurationSeconds": written});
        let lease: Lease = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        assert_eq!(foreign_record(&lease, ours).duration, Duration::from_secs(expected), "{written}");
    }
}

#[tokio::test]
async fn a_claim_waits_until_somebody_has_waited() {
    let server = Server::default();
    let first = claim(&server, "first").await;
    assert_eq!(first.wait_before_writing(), TIMES.duration, "nobody had laid it before");
    first.release().await;

    let second = claim(&server, "second").await;
    assert_eq!(second.wait_before_writing(), TIMES.duration, "the first one was stopped before it had waited");
    assert!(!second.gate().holds(), "nothing is written during the wait");
    second.gate().end_wait();
    assert!(second.gate().holds());
    second.release().await;

    assert_eq!(claim(&server, "third").await.wait_before_writing(), Duration::ZERO);
}

#[tokio::test]
async fn the_operator_of_the_whole_cluster_waits_for_nobody_and_lays_no_claim() {
    let server = Server::default();
    let holder = acquire(&server, "me").await.unwrap();
    assert_eq!(holder.wait_before_writing(), Duration::ZERO);
    holder.release().await;
    let claimed = claim(&server, "other").await;
    assert_eq!(claimed.wait_before_writing(), TIMES.duration, "what was held for the whole cluster was no claim");
}

#[tokio::test]
async fn other_operators_of_the_whole_cluster_are_found() {
    let own = lease("train", "cluster", "me");
    let rival = |namespace: &str| Look::Beside(Rival { namespace: namespace.to_owned(), holder: "other".to_owned() });
    let mut unlabelled = lease("old", "", "other");
    unlabelled["metadata"]["labels"] = json!({});
    // A tenant may write whatever it likes into a Lease of its own namespace, and the name is no secret.
    let odd = json!({
        "metadata": {"namespace": "mine", "name": "operator", "resourceVersion": "8", "labels": {LABEL_SCOPE: "namespace"},
            "managedFields": [{"time": "9999-12-31T23:59:59Z"}]},
        "spec": {"holderIdentity": "x".repeat(10_000), "leaseDurationSeconds": 15, "renewTime": "9999-12-31T23:59:59.000000Z"},
    });
    let mut odd_rival = odd.clone();
    odd_rival["metadata"]["labels"] = json!({});
    odd_rival["spec"]["holderIdentity"] = json!("other");
    for (answer, expected) in [
        (leases(&[own.clone(), odd]), Look::Alone),
        (leases(&[odd_rival, own.clone()]), rival("mine")),
        (leases(std::slice::from_ref(&own)), Look::Alone),
        (leases(&[own.clone(), lease("elsewhere", "cluster", "other")]), rival("elsewhere")),
        (leases(&[own.clone(), lease("elsewhere", "cluster", "")]), Look::Alone),
        (leases(&[own.clone(), lease("team-a", "namespace", "other")]), Look::Alone),
        (leases(&[own, unlabelled]), rival("old")),
    ] {
        let mut census = Census::new(listing(answer.clone()), place(), TIMES);
        assert_eq!(census.look().await, expected, "{answer:?}");
    }
    for (code, says) in [(StatusCode::NOT_FOUND, "no such thing"), (StatusCode::FORBIDDEN, RULE)] {
        let mut census = Census::new(listing(status(code, "no such thing")), place(), TIMES);
        match census.look().await {
            Look::Failed(why) => assert!(why.contains(says), "{why}"),
            other => panic!("{code}: {other:?}"),
        }
    }
}

/// The right that an operator of the whole cluster cannot do without.
const RULE: &str = "a ClusterRole with list and watch of leases (coordination.k8s.io) named operator";

/// A watch of claims that has shown nothing yet; the last renewal made version `renewed` of our Lease.
fn claim_watch(renewed: &str) -> (ClaimWatch, LeaseGate, Territory) {
    let (gate, territory, metrics) =
        (LeaseGate::closed(TIMES), Territory::of_cluster(&place().namespace), Arc::new(Metrics::new()));
    gate.count_what_is_shown();
    gate.open(Instant::now(), renewed);
    assert!(!gate.holds(), "the watch has shown nothing yet");
    let watches = Watches::new(metrics.clone());
    let (own, territories) = (place(), territory.clone());
    let watch = ClaimWatch { own, times: TIMES, gate: gate.clone(), territory: territories, metrics, watches };
    (watch, gate, territory)
}

#[tokio::test]
async fn claimed_namespaces_are_left_alone_from_the_first_list_on() {
    let own = lease("train", "cluster", "me");
    let mut odd = lease("mine", "namespace", "x");
    odd["spec"]["renewTime"] = json!("9999-12-31T23:59:59.000000Z");
    let answer = leases(&[own, odd, lease("team-a", "namespace", ""), lease("elsewhere", "cluster", "other")]);
    let (watch, _, territory) = claim_watch("7");
    let mut known = territory.known();
    tokio::select! {
        () = watch.run(listing(answer)) => {}
        known = known.wait_for(|known| *known == Filled::Yes) => drop(known.unwrap()),
    }
    assert!(!territory.is_ours("team-a"), "a claim is one whoever holds it");
    assert!(!territory.is_ours("mine"), "an odd one takes its own namespace out, and nothing else");
    assert!(territory.is_ours("team-b") && territory.is_ours("elsewhere"));
    assert!(!territory.is_ours("train"), "its own");
}

#[tokio::test]
async fn without_the_right_to_see_claims_nothing_is_written() {
    let (watch, gate, territory) = claim_watch("7");
    let mut deaf = territory.deaf();
    let told = tokio::select! {
        () = watch.run(listing(status(StatusCode::FORBIDDEN, "Forbidden"))) => unreachable!(),
        deaf = deaf.wait_for(Option::is_some) => deaf.unwrap().clone().unwrap(),
    };
    assert!(told.contains(RULE) && told.contains("nothing is written"), "{told}");
    assert_eq!(*territory.known().borrow(), Filled::No);
    gate.open(Instant::now(), "8");
    assert!(!gate.holds());
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_begun_anew() {
    let (watch, gate, territory) = claim_watch("7");
    let (lists, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let router = Router::new().fallback({
        let (lists, goes_on) = (lists.clone(), goes_on.clone());
        move |uri: Uri| async move {
            let query = uri.query().unwrap_or_default();
            if query.contains("sendInitialEvents") {
                return no_streamed_lists();
            }
            if query.contains("watch=") {
                pending().await
            }
            let count = lists.fetch_add(1, Ordering::SeqCst);
            let mut own = lease("train", "cluster", "me");
            if count > 0 {
                goes_on.notified().await;
                own["metadata"]["resourceVersion"] = json!("8");
            }
            leases(&[own])
        }
    });
    let following = tokio::spawn(watch.run(kube::Client::new(router, "train")));
    let (mut known, mut deaf) = (territory.known(), territory.deaf());
    known.wait_for(|known| *known == Filled::Yes).await.unwrap();
    gate.open(Instant::now(), "8");

    let told = deaf.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(told.contains("shows nothing, not even our own renewals"), "{told}");
    assert!(!gate.holds(), "what the list has shown counts no longer");
    gate.open(Instant::now(), "8");
    goes_on.notify_one();
    deaf.wait_for(Option::is_none).await.unwrap();
    assert_eq!(lists.load(Ordering::SeqCst), 2);
    following.abort();
}
