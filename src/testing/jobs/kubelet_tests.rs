//! Pods of the simulated cluster live as those of a real one do.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::behaviour::{Behaviour, Ending, Odds};
use super::kubelet::{Kubelet, Part};
use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::dice;
use crate::testing::faults::ApiFaults;
use crate::testing::json;
use crate::testing::pod_status::unschedulable;
use crate::testing::story::Actor;
use crate::testing::subject::Machinery;
use crate::testing::world::World;

struct Node {
    world: World,
    kubelet: Kubelet,
    job: String,
}

impl Node {
    /// A job of two pods, which need to find each other, and the nodes for them.
    fn new() -> Self {
        let world = World::new(1, ApiFaults::none());
        let spec = json!({ "nodes": 2, "framework": "torch" });
        let job = world.create_by_person(
            Resource::TrainingJob,
            json!({ "metadata": { "name": "digits", "namespace": "team" }, "spec": spec }),
        );
        Node { world, kubelet: Kubelet::new(1, Odds::calm()), job }
    }

    /// Creates the pod of a rank, which is to behave so.
    fn start(&mut self, rank: u32, change: impl FnOnce(&mut Behaviour)) -> ObjectId {
        let part = Part { job: ("team".to_owned(), "digits".to_owned()), rank, attempt: 1 };
        let mut behaviour = Behaviour {
            scheduled_after: SignedDuration::ZERO,
            unschedulable_for: SignedDuration::ZERO,
            started_after: SignedDuration::from_secs(1),
            pull_stuck_for: SignedDuration::ZERO,
            runs_for: SignedDuration::from_secs(60),
            ending: Ending::Exit(0),
            says: None,
            sidecars_go_on: false,
            phase_after: SignedDuration::ZERO,
            stops_after: SignedDuration::from_secs(5),
            stop_exit_code: 143,
            removed_after: SignedDuration::from_secs(1),
        };
        change(&mut behaviour);
        self.kubelet.fix(part, behaviour);
        let id = ObjectId::new(Resource::Pod, "team", &format!("pod-{rank}"));
        let labels = json!({
            "trainyard.dev/job": "digits", "trainyard.dev/rank": rank.to_string(), "trainyard.dev/attempt": "1",
        });
        let owners = json!([{ "uid": &self.job, "controller": true }]);
        let containers =
            json!([{ "name": "main", "image": "example/a:1" }, { "name": "logs", "image": "example/b:1" }]);
        let metadata = json!({ "labels": labels, "ownerReferences": owners });
        self.insert(&id, json!({ "metadata": metadata, "spec": { "containers": containers } }));
        id
    }

    fn insert(&self, id: &ObjectId, object: Value) {
        self.world.state().insert(Actor::Operator, id, object);
    }

    /// Lets so many seconds pass, in which pods move.
    fn pass(&mut self, seconds: i64) {
        let end = self.world.now() + SignedDuration::from_secs(seconds);
        while let Some(due) = self.kubelet.next_due(&self.world).filter(|due| *due <= end) {
            self.world.advance_to(due);
            self.kubelet.step(&self.world, &mut dice(1, "test"));
        }
        self.world.advance_to(end);
    }

    fn phase(&self, id: &ObjectId) -> Option<String> {
        self.world.get(id).and_then(|pod| json::text(&pod, "/status/phase").map(str::to_owned))
    }

    fn primary(&self, id: &ObjectId) -> Value {
        self.world.get(id).expect("it is there")["status"]["containerStatuses"][0]["state"].clone()
    }
}

#[test]
fn a_pod_waits_starts_and_fails() {
    let mut node = Node::new();
    let pod = node.start(0, |pod| {
        pod.unschedulable_for = SignedDuration::from_secs(10);
        pod.pull_stuck_for = SignedDuration::from_secs(10);
        pod.ending = Ending::OutOfMemory;
    });
    node.pass(1);
    let mut expected = json!({ "status": {} });
    unschedulable(&mut expected, "2026-01-05T09:00:00Z".parse().expect("a time"));
    let condition = |pod: &Value| pod["status"]["conditions"].clone();
    assert_eq!(condition(&node.world.get(&pod).expect("it is there")), condition(&expected));
    node.pass(12);
    assert_eq!(node.primary(&pod)["waiting"]["reason"], "ImagePullBackOff");
    node.pass(10);
    assert_eq!(node.phase(&pod).as_deref(), Some("Running"));
    node.pass(60);
    assert_eq!(node.phase(&pod).as_deref(), Some("Failed"));
    let ended = &node.primary(&pod)["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(137), &json!("OOMKilled")));
    assert_eq!(ended["finishedAt"], "2026-01-05T09:01:21Z");
}

#[test]
fn pods_vanish_and_are_evicted() {
    let mut node = Node::new();
    let vanishing = node.start(0, |pod| pod.ending = Ending::Vanishes);
    let evicted = node.start(1, |pod| pod.ending = Ending::Evicted);
    node.pass(70);
    assert_eq!(node.phase(&vanishing), None);
    let pod = node.world.get(&evicted).expect("it stays");
    assert_eq!((&pod["status"]["phase"], &pod["status"]["reason"]), (&json!("Failed"), &json!("Evicted")));
    assert_eq!(pod["status"].get("containerStatuses"), None);
}

#[test]
fn sidecars_keep_a_pod_running_until_it_is_deleted() {
    let mut node = Node::new();
    let pod = node.start(0, |pod| {
        pod.ending = Ending::Exit(1);
        pod.sidecars_go_on = true;
    });
    node.pass(70);
    assert_eq!(node.primary(&pod)["terminated"]["exitCode"], 1);
    assert_eq!(node.phase(&pod).as_deref(), Some("Running"));
    node.world.delete_as(Actor::Person, &pod);
    node.pass(5);
    assert_eq!(node.phase(&pod).as_deref(), Some("Failed"));
    assert_eq!(node.primary(&pod)["terminated"]["exitCode"], 1, "an end is final");
    node.pass(2);
    assert_eq!(node.phase(&pod), None);
}

#[test]
fn the_phase_follows_the_containers() {
    let mut node = Node::new();
    let pod = node.start(0, |pod| {
        pod.ending = Ending::Exit(1);
        pod.phase_after = SignedDuration::from_secs(2);
    });
    node.pass(62);
    assert_eq!(node.primary(&pod)["terminated"]["exitCode"], 1);
    assert_eq!(node.phase(&pod).as_deref(), Some("Running"));
    node.pass(2);
    assert_eq!(node.phase(&pod).as_deref(), Some("Failed"));
}

#[test]
fn a_pod_may_end_by_itself_while_it_is_being_deleted() {
    let mut node = Node::new();
    let pod = node.start(0, |pod| pod.ending = Ending::Exit(2));
    node.pass(58);
    node.world.delete_as(Actor::Person, &pod);
    node.pass(4);
    assert_eq!(node.primary(&pod)["terminated"]["exitCode"], 2);
    node.pass(2);
    assert_eq!(node.phase(&pod), None);
}

#[test]
fn pods_that_cannot_find_each_other_never_end() {
    let mut node = Node::new();
    let pods = [node.start(0, |_| {}), node.start(1, |_| {})];
    node.pass(1_000);
    assert!(pods.iter().all(|pod| node.phase(pod).as_deref() == Some("Running")));
    let leader = node.world.get(&pods[0]).expect("it is there")["status"]["podIP"].clone();
    let slice = ObjectId::new(Resource::EndpointSlice, "team", "digits-ipv4");
    let owners = json!([{ "uid": &node.job, "controller": true }]);
    node.insert(&slice, json!({ "metadata": { "ownerReferences": owners }, "endpoints": [{ "addresses": [leader] }] }));
    node.pass(1);
    assert!(pods.iter().all(|pod| node.phase(pod).as_deref() == Some("Succeeded")));
}

#[test]
fn a_pod_that_never_ends_stops_when_told_to() {
    let mut node = Node::new();
    let pod = node.start(0, |pod| {
        pod.ending = Ending::Never;
        pod.stop_exit_code = 0;
    });
    node.pass(100_000);
    assert_eq!(node.phase(&pod).as_deref(), Some("Running"));
    node.world.delete_as(Actor::Person, &pod);
    node.pass(5);
    assert_eq!(node.phase(&pod).as_deref(), Some("Succeeded"), "exit 0 upon SIGTERM looks like success");
}

#[test]
fn addresses_come_again() {
    let mut node = Node::new();
    let mut addresses = BTreeSet::new();
    for rank in 0..20 {
        let pod = node.start(rank, |pod| pod.ending = Ending::Exit(1));
        node.pass(100);
        let pod = node.world.get(&pod).expect("it is there");
        addresses.insert(json::text(&pod, "/status/podIP").expect("it ran").to_owned());
    }
    assert!(addresses.len() < 20, "{addresses:?}");
}
