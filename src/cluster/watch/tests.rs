//! Feeding an index, and the real watcher against an apiserver of a few lines.

use super::*;
use crate::cluster::pod::{PodFacts, WatchedPod};
use crate::server::metrics::Metrics;
use futures::stream;
use serde_json::json;

mod poison;
mod streams;

fn watches() -> Watches {
    Watches::new(Arc::new(Metrics::new()))
}

fn pod(number: usize) -> WatchedPod {
    serde_json::from_value(json!({"metadata": {
        "namespace": "ns", "name": format!("p{number}"),
        "ownerReferences": [{"apiVersion": "trainyard.dev/v1alpha1", "kind": "K", "name": "o", "uid": format!("{number}"), "controller": true}],
    }}))
    .unwrap()
}

#[test]
fn a_kind_that_is_not_served_outweighs_caches_that_fill() {
    use Filled::{No, Unserved, Yes};
    let cases: [(&[Filled], Filled); 6] = [
        (&[], Yes),
        (&[Yes, Yes], Yes),
        (&[Yes, No], No),
        (&[No, Unserved, Yes], Unserved),
        (&[Yes, Unserved], Unserved),
        (&[No, No], No),
    ];
    for (caches, expected) in cases {
        assert_eq!(Filled::all(caches.iter().copied()), expected, "{caches:?}");
    }
}

#[test]
fn a_kind_that_is_not_served_is_told_from_a_watch_that_breaks() {
    let error = |code| {
        let status = kube::core::Status { code, ..kube::core::Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    };
    let mut trouble = Trouble::of("trainingjobs".to_owned(), watches());
    assert!(trouble.tell(&error(404)));
    for code in [403, 410, 500] {
        assert!(!trouble.tell(&error(code)), "{code}");
    }
}

#[test]
fn a_long_first_list_does_not_wait_for_listeners_and_later_changes_are_announced() {
    let caches: Shared<OwnedIndex<PodFacts>> = Shared::default();
    let (triggers, mut triggered) = mpsc::channel(1);
    let (synced, is_synced) = flag::channel(Filled::No);
    let first_list = (0..100).map(|number| Event::InitApply(pod(number)));
    let later = [Event::InitDone, Event::Delete(pod(7))];
    let events = stream::iter(std::iter::once(Event::Init).chain(first_list).chain(later).map(Ok));
    futures::executor::block_on(feed(
        events,
        caches.clone(),
        |index| index,
        triggers,
        &synced,
        Trouble::of("pods".to_owned(), watches()),
    ));
    assert_eq!(*is_synced.borrow(), Filled::Yes);
    assert_eq!(caches.lock().unwrap().of("ns", "8").len(), 1);
    let announced: Vec<OwnerKey> = std::iter::from_fn(|| triggered.try_recv().ok()).collect();
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].owner.uid, "7");
}
