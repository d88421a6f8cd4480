//! Deployments of the simulated cluster make, count and remove pods, and their pods live, as those of a real one do.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::ServingMachinery;
use super::behaviour::Odds;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::dice::dice;
use crate::testing::faults::ApiFaults;
use crate::testing::json;
use crate::testing::story::Actor;
use crate::testing::subject::Machinery;
use crate::testing::world::World;

struct Cluster {
    world: World,
    machinery: ServingMachinery,
}

impl Cluster {
    fn new() -> Self {
        Cluster { world: World::new(1, ApiFaults::none()), machinery: ServingMachinery::new(1, Odds::calm()) }
    }

    /// Somebody makes a Deployment of so many pods of an image, which mount a claim if one is named.
    fn deploy(&self, image: &str, replicas: u32, claim: Option<&str>) -> ObjectId {
        let labels = json!({ names::LABEL_DEPLOYMENT: "digits", names::LABEL_REVISION: "1" });
        let volumes: Vec<Value> =
            claim.iter().map(|claim| json!({ "persistentVolumeClaim": { "claimName": claim } })).collect();
        let spec = json!({ "containers": [{ "name": "server", "image": image }], "volumes": volumes });
        let template = json!({ "metadata": { "labels": labels }, "spec": spec });
        let metadata = json!({ "name": "d", "namespace": "team" });
        let manifest = json!({ "metadata": metadata, "spec": { "replicas": replicas, "template": template } });
        self.world.create_by_person(Resource::Deployment, manifest);
        ObjectId::new(Resource::Deployment, "team", "d")
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, seconds: i64) {
        let end = self.world.now() + SignedDuration::from_secs(seconds);
        let mut dice = dice(1, "test");
        loop {
            let dues = [self.machinery.next_due(&self.world), self.world.garbage_due()];
            let Some(due) = dues.into_iter().flatten().min().filter(|due| *due <= end) else { break };
            self.world.advance_to(due);
            if !self.machinery.step(&self.world, &mut dice) {
                self.world.collect_garbage();
            }
        }
        self.world.advance_to(end);
    }

    fn pods(&self) -> Vec<(ObjectId, std::sync::Arc<Value>)> {
        self.world.objects(Resource::Pod)
    }

    /// Pods, and those that serve, as the Deployment's status counts them.
    fn counted(&self, deployment: &ObjectId) -> (Option<u64>, Option<u64>) {
        let deployment = self.world.get(deployment).expect("it is there");
        (json::number(&deployment, "/status/replicas"), json::number(&deployment, "/status/availableReplicas"))
    }
}

#[test]
fn pods_are_made_counted_replaced_and_removed() {
    let mut cluster = Cluster::new();
    let deployment = cluster.deploy("example/good:1", 3, None);
    cluster.pass(60);
    assert_eq!(cluster.counted(&deployment), (Some(3), Some(3)));
    let (first, _) = cluster.pods().remove(0);
    cluster.world.delete_as(Actor::Person, &first);
    cluster.pass(1);
    assert!(cluster.pods().len() >= 3, "it goes on for its grace period");
    cluster.pass(60);
    assert_eq!(cluster.counted(&deployment), (Some(3), Some(3)));
    assert!(cluster.world.get(&first).is_none());
    cluster.world.update_spec(&deployment, |spec| spec["replicas"] = 1.into());
    cluster.pass(60);
    assert_eq!((cluster.pods().len(), cluster.counted(&deployment)), (1, (Some(1), Some(1))));
}

#[test]
fn pods_that_do_not_serve_go_first_and_all_go_with_their_deployment() {
    let mut cluster = Cluster::new();
    let deployment = cluster.deploy("example/good:1", 2, None);
    cluster.pass(60);
    let (unready, _) = cluster.pods().remove(0);
    cluster.world.change(Actor::Node, &unready, |pod| pod["status"]["conditions"] = json!([]));
    cluster.world.update_spec(&deployment, |spec| spec["replicas"] = 1.into());
    cluster.pass(60);
    assert!(cluster.world.get(&unready).is_none());
    cluster.world.delete_as(Actor::Person, &deployment);
    cluster.pass(120);
    assert!(cluster.pods().is_empty());
}

#[test]
fn pods_fail_to_serve_as_their_image_says() {
    let state = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    for (image, waiting) in [("example/crashes:1", "CrashLoopBackOff"), ("example/unpullable:1", "ImagePullBackOff")] {
        let mut cluster = Cluster::new();
        let deployment = cluster.deploy(image, 1, None);
        cluster.pass(1_000);
        assert_eq!(cluster.counted(&deployment), (Some(1), None));
        let (_, pod) = cluster.pods().remove(0);
        assert_eq!(state(&pod), waiting);
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"];
        assert_eq!(last.as_u64(), (image == "example/crashes:1").then_some(3));
    }
}

#[test]
fn pods_wait_for_their_claim_and_quota_is_told() {
    let mut cluster = Cluster::new();
    let deployment = cluster.deploy("example/good:1", 1, Some("models"));
    cluster.pass(100);
    assert_eq!(json::condition(&cluster.pods()[0].1, "PodScheduled"), Some("False"));
    let claim = json!({ "metadata": { "name": "models", "namespace": "team" } });
    cluster.world.create_by_person(Resource::PersistentVolumeClaim, claim);
    cluster.world.set_quota_exceeded(true);
    cluster.world.update_spec(&deployment, |spec| spec["replicas"] = 2.into());
    cluster.pass(100);
    assert_eq!(cluster.counted(&deployment), (Some(1), Some(1)));
    let told = |cluster: &Cluster| {
        let deployment = cluster.world.get(&deployment).expect("it is there");
        json::condition(&deployment, "ReplicaFailure").map(str::to_owned)
    };
    assert_eq!(told(&cluster).as_deref(), Some("True"));
    cluster.world.set_quota_exceeded(false);
    cluster.pass(100);
    assert_eq!((cluster.counted(&deployment), told(&cluster)), ((Some(2), Some(2)), None));
}
