//! kube's own watcher, as it is used here, against an apiserver of a few lines. Time is turned by the tests.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use http::{StatusCode, Uri};
use kube::Api;
use kube::runtime::watcher::Config;
use tokio::time::{Instant, sleep};

use super::*;
use crate::cluster::guard::Guarded;
use crate::cluster::watch::events::events;

type Answer = (StatusCode, Body);

/// Requests, each with the time since the start at which it came.
type Asked = Arc<Mutex<Vec<(Duration, String)>>>;

/// An apiserver that answers the number of a request, counted from 0, and its query.
fn server(answer: impl Fn(usize, &str) -> Answer + Clone + Send + Sync + 'static) -> (kube::Client, Asked) {
    let (asked, start) = (Asked::default(), Instant::now());
    let seen = asked.clone();
    let router = Router::new().fallback(move |uri: Uri| {
        let query = uri.query().unwrap_or_default().to_owned();
        let number = {
            let mut seen = locked(&seen);
            seen.push((start.elapsed(), query.clone()));
            seen.len() - 1
        };
        let answer = answer(number, &query);
        async move { answer }
    });
    (kube::Client::new(router, "ns"), asked)
}

fn failure(code: u16) -> Answer {
    let body = json!({"kind": "Status", "code": code, "reason": "R", "message": "m"}).to_string();
    (StatusCode::from_u16(code).unwrap(), body.into())
}

/// A watch that shows these lines, and then nothing.
fn lines(lines: Vec<String>) -> Answer {
    let lines = stream::iter(lines.into_iter().map(|line| Ok::<_, std::io::Error>(format!("{line}\n"))));
    (StatusCode::OK, Body::from_stream(lines.chain(stream::pending())))
}

fn object(number: usize) -> String {
    let owner = json!({"apiVersion": "trainyard.dev/v1alpha1", "kind": "K", "name": "o", "uid": format!("{number}"), "controller": true});
    let meta =
        json!({"namespace": "ns", "name": format!("p{number}"), "resourceVersion": "5", "ownerReferences": [owner]});
    json!({"metadata": meta}).to_string()
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type": "{kind}", "object": {object}}}"#)
}

fn end_of_list() -> String {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    let bookmark =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "5", "annotations": annotations}});
    event("BOOKMARK", &bookmark.to_string())
}

fn list(numbers: std::ops::Range<usize>, next: &str) -> Answer {
    let items: Vec<String> = numbers.map(object).collect();
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "PodList", "metadata": {{"resourceVersion": "5", "continue": "{next}"}}, "items": [{}]}}"#,
        items.join(",")
    );
    (StatusCode::OK, text.into())
}

fn pods(client: kube::Client, watches: Watches) -> impl Stream<Item = watcher::Result<Event<Guarded<WatchedPod>>>> {
    events(Api::all(client), Config::default().labels("l"), watches)
}

/// A short form of an event.
fn short(event: &watcher::Result<Event<Guarded<WatchedPod>>>) -> String {
    match event {
        Ok(Event::Init) => "[".to_owned(),
        Ok(Event::InitDone) => "]".to_owned(),
        Ok(Event::InitApply(pod)) => pod.name_any(),
        Ok(Event::Apply(pod)) => format!("+{}", pod.name_any()),
        Ok(Event::Delete(pod)) => format!("-{}", pod.name_any()),
        Err(_) => "!".to_owned(),
    }
}

async fn shown(events: impl Stream<Item = watcher::Result<Event<Guarded<WatchedPod>>>>, number: usize) -> Vec<String> {
    events.take(number).map(|event| short(&event)).collect().await
}

#[tokio::test(start_paused = true)]
async fn lists_are_streamed_and_what_cannot_be_read_delays_nothing() {
    let poison =
        r#"{"metadata": {"namespace": "ns", "name": "poison", "resourceVersion": "6"}, "status": {"podIPs": 5}}"#;
    let (client, asked) = server(move |_, _| {
        let mut shows = vec![event("ADDED", &object(1)), event("ADDED", poison), end_of_list()];
        shows.extend((0..20).map(|_| event("MODIFIED", poison)));
        // No name, no event.
        shows.extend([
            event("MODIFIED", r#"{"metadata": {"resourceVersion": "6"}}"#),
            event("NEVER", "{}"),
            "[]".to_owned(),
        ]);
        shows.extend([event("MODIFIED", &object(2)), event("DELETED", &object(1))]);
        lines(shows)
    });
    let (start, metrics) = (Instant::now(), Arc::new(Metrics::new()));
    let seen = shown(pods(client, Watches::new(metrics.clone())), 26).await;
    assert_eq!(seen[..4], ["[", "p1", "poison", "]"]);
    assert!(seen[4..24].iter().all(|event| event == "+poison"), "{seen:?}");
    assert_eq!(seen[24..], ["+p2", "-p1"]);
    assert_eq!(start.elapsed(), Duration::ZERO, "kube's own back-off for 20 errors is a quarter of an hour");
    let text = metrics.text();
    assert!(text.contains(r#"trainyard_unreadable_objects_total{kind="Pod"} 24"#), "{text}");
    let asked = locked(&asked);
    let [(_, query)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(query.contains("sendInitialEvents=true") && query.contains("labelSelector=l"), "{query}");
}

#[tokio::test(start_paused = true)]
async fn where_lists_are_not_streamed_they_are_asked_for_in_small_pages() {
    for code in [400, 422] {
        let (client, asked) = server(move |_, query| match query {
            _ if query.contains("sendInitialEvents") => failure(code),
            _ if query.contains("watch=") => lines(vec![event("MODIFIED", &object(7))]),
            _ if query.contains("continue=") => list(5..7, ""),
            _ => list(0..5, "more"),
        });
        let start = Instant::now();
        let seen = shown(pods(client, watches()), 10).await;
        assert_eq!(seen, ["[", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "]", "+p7"], "{code}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{code}");
        let asked = locked(&asked);
        assert_eq!(asked.iter().filter(|(_, query)| query.contains("limit=5")).count(), 2, "{code}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_streamed_list_that_falls_silent_is_asked_for_in_pages() {
    let (client, _) = server(|_, query| match query {
        _ if query.contains("sendInitialEvents") => lines(vec![event("ADDED", &object(1))]),
        _ if query.contains("watch=") => lines(vec![]),
        _ => list(0..2, ""),
    });
    let start = Instant::now();
    assert_eq!(shown(pods(client, watches()), 6).await, ["[", "p1", "[", "p0", "p1", "]"]);
    assert_eq!(start.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_the_stream_fails_and_begin_anew_after_a_success() {
    let (client, asked) = server(|number, _| match number {
        0..4 | 5..8 => failure(500),
        4 => (StatusCode::OK, Body::from(format!("{}\n{}\n", end_of_list(), event("MODIFIED", &object(1))))),
        _ => lines(vec![]),
    });
    let watching = pods(client, watches()).for_each(|_| std::future::ready(()));
    tokio::select! {
        () = watching => unreachable!(),
        () = sleep(Duration::from_secs(600)) => {}
    }
    let asked = locked(&asked);
    let pause = |number: usize| (asked[number + 1].0 - asked[number].0).as_secs_f64();
    // 0.8 s, doubled each time, and up to as much again.
    for (number, least) in [(0, 0.8), (1, 1.6), (2, 3.2), (3, 6.4), (5, 0.8), (6, 1.6)] {
        let pause = pause(number);
        assert!(pause >= least && pause <= 2.1 * least, "{number}: {pause} s in {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_feeder_that_panics_is_started_again_with_a_fresh_list() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    fn pick(index: &mut OwnedIndex<PodFacts>) -> &mut OwnedIndex<PodFacts> {
        let number = PANICS.fetch_add(1, Ordering::SeqCst);
        // In the middle of the first list, and once more soon after.
        assert!(number != 2 && number != 4, "as the test wants it");
        index
    }
    let (client, asked) =
        server(|_, _| lines(vec![event("ADDED", &object(1)), event("ADDED", &object(2)), end_of_list()]));
    let (caches, shared): (Shared<OwnedIndex<PodFacts>>, _) = (Shared::default(), watches());
    let (triggers, _triggered) = mpsc::channel(100);
    let (synced, mut is_synced) = flag::channel(Filled::No);
    let feeding = restarted("pods", &shared, || {
        let read = |event| match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(pod) => Event::InitApply(Guarded::or_bare(pod)),
            Event::Apply(pod) => Event::Apply(Guarded::or_bare(pod)),
            Event::Delete(pod) => Event::Delete(Guarded::or_bare(pod)),
        };
        let events = pods(client.clone(), shared.clone()).map(move |event| event.map(read));
        let trouble = Trouble::of("pods".to_owned(), shared.clone());
        feed(events, caches.clone(), pick, triggers.clone(), &synced, trouble)
    });
    let start = Instant::now();
    tokio::select! {
        () = feeding => unreachable!(),
        _ = is_synced.wait_for(|filled| *filled == Filled::Yes) => {}
    }
    assert_eq!(start.elapsed(), Duration::from_secs(1 + 2));
    assert_eq!(locked(&asked).len(), 3);
    let owners: BTreeSet<bool> = ["1", "2"].map(|uid| locked(&caches).of("ns", uid).len() == 1).into();
    assert_eq!(owners, [true].into());
}
