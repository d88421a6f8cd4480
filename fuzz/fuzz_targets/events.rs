//! Lists and watch events as kube reads them: one object costs no other anything.
#![no_main]

use kube::core::{ObjectList, WatchEvent};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use trainyard::api::TrainingJob;
use trainyard::cluster::guard::Guarded;
use trainyard::cluster::pod::WatchedPod;

const GOOD: &str = r#"{"metadata": {"name": "good", "namespace": "ns", "resourceVersion": "7"}}"#;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Any text as an event: an answer or an error, never a panic.
    let _ = serde_json::from_str::<WatchEvent<Guarded<TrainingJob>>>(text);
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return;
    }
    let event = format!(r#"{{"type": "MODIFIED", "object": {text}}}"#);
    let event: WatchEvent<Guarded<WatchedPod>> = serde_json::from_str(&event).expect("whatever the object is");
    assert!(matches!(event, WatchEvent::Modified(_)));
    let list = format!(
        r#"{{"apiVersion": "v1", "kind": "PodList", "metadata": {{"resourceVersion": "9"}}, "items": [{text}, {GOOD}]}}"#
    );
    let list: ObjectList<Guarded<WatchedPod>> = serde_json::from_str(&list).expect("whatever the object is");
    assert_eq!(list.items.len(), 2);
    let good = list.items[1].0.as_ref().expect("its neighbour is no matter of its own");
    assert_eq!(kube::Resource::meta(good).name.as_deref(), Some("good"));
});
