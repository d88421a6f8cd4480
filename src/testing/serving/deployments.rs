//! Kubernetes' own controllers of Deployments and ReplicaSets, in one: they make pods, remove pods, and count them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde_json::{Value, json};

use crate::cluster::port::{ObjectId, Resource};
use crate::testing::dice::{Dice, dice, up_to_millis};
use crate::testing::json;
use crate::testing::story::Actor;
use crate::testing::world::World;

/// What is known of one Deployment, and what is to be done about it.
struct Task {
    id: ObjectId,
    /// When its pods are looked after.
    sync_due: Option<Timestamp>,
    /// When its status is written.
    status_due: Option<Timestamp>,
    /// The generation whose pods were last looked after.
    synced: u64,
    /// The template of its pods, and how many it has had.
    template: (Value, u32),
    /// Why pods could not be made, in the apiserver's words.
    refused: Option<&'static str>,
}

/// The controller manager, as far as Deployments go.
pub(super) struct Deployments {
    dice: Dice,
    seen: (usize, usize),
    /// How much had happened in the cluster when it was last looked at.
    looked_at: Option<usize>,
    /// By the UID of the ReplicaSet.
    tasks: BTreeMap<String, Task>,
    /// Since when each pod is ready, by its UID.
    ready_since: BTreeMap<String, Timestamp>,
}

/// What pods are refused with.
const REFUSAL: &str = "pods \"p\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4";

impl Deployments {
    /// A controller with lags of its own.
    pub(super) fn new(seed: u64) -> Self {
        Deployments {
            dice: dice(seed, "deployments"),
            seen: (0, 0),
            looked_at: None,
            tasks: BTreeMap::new(),
            ready_since: BTreeMap::new(),
        }
    }

    /// When there is something to do next.
    pub(super) fn next_due(&mut self, world: &World) -> Option<Timestamp> {
        self.look(world);
        self.tasks.values().flat_map(|task| [task.sync_due, task.status_due]).flatten().min()
    }

    /// Looks after one Deployment that is due; answers whether there was one.
    pub(super) fn step(&mut self, world: &World) -> bool {
        self.look(world);
        let now = world.now();
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let Some(task) = self.tasks.values_mut().find(|task| is_due(task.sync_due) || is_due(task.status_due)) else {
            return false;
        };
        self.looked_at = None;
        if is_due(task.sync_due) {
            task.sync(world, &mut self.dice);
        } else {
            task.write_status(world, &self.ready_since);
        }
        true
    }

    /// Takes note of Deployments and pods that came, changed, or went.
    fn look(&mut self, world: &World) {
        let happenings = world.happenings();
        if self.looked_at.replace(happenings) == Some(happenings) {
            return;
        }
        let changes = world.feed(Resource::Deployment, self.seen.0, usize::MAX);
        self.seen.0 += changes.len();
        for change in changes {
            let replica_set = json::replica_set_uid(json::uid(&change.object));
            if change.removed {
                self.tasks.remove(&replica_set);
            } else if change.by != Actor::Controllers {
                let id = change.id.clone();
                let template = (change.object["spec"]["template"].clone(), 1);
                let new = Task { id, sync_due: None, status_due: None, synced: 0, template, refused: None };
                let task = self.tasks.entry(replica_set).or_insert(new);
                task.sync_due = Some(change.at + up_to_millis(&mut self.dice, 1_000));
            }
        }
        let changes = world.feed(Resource::Pod, self.seen.1, usize::MAX);
        self.seen.1 += changes.len();
        for change in changes {
            let uid = json::uid(&change.object).to_owned();
            if !change.removed && json::condition_is_true(&change.object, "Ready") {
                self.ready_since.entry(uid).or_insert(change.at);
            } else {
                self.ready_since.remove(&uid);
            }
            let replica_set = json::controller_uid(&change.object).unwrap_or_default();
            let Some(task) = self.tasks.get_mut(replica_set) else { continue };
            task.sync_due.get_or_insert(change.at + up_to_millis(&mut self.dice, 1_000));
        }
        for task in self.tasks.values_mut() {
            // It goes on trying; here, as soon as trying helps.
            if task.refused.is_some() && !world.refuses_pods() {
                task.refused = None;
                task.sync_due = Some(world.now() + up_to_millis(&mut self.dice, 10_000));
            }
        }
    }
}

impl Task {
    /// Makes the pods that are missing, and removes those that are too many.
    fn sync(&mut self, world: &World, dice: &mut Dice) {
        self.sync_due = None;
        let Some(deployment) = world.get(&self.id).filter(|deployment| !json::is_terminating(deployment)) else {
            return;
        };
        self.synced = json::number(&deployment, "/metadata/generation").unwrap_or(0);
        self.status_due.get_or_insert(world.now() + up_to_millis(dice, 1_500));
        if self.template.0 != deployment["spec"]["template"] {
            self.template = (deployment["spec"]["template"].clone(), self.template.1 + 1);
        }
        let wanted = json::number(&deployment, "/spec/replicas").unwrap_or(1) as usize;
        let mut pods = active_pods(world, &deployment);
        if pods.len() > wanted {
            // Those that do not serve go first, then the newest.
            let rank = |pod: &Value| (json::condition_is_true(pod, "Ready"), std::cmp::Reverse(age(pod)));
            pods.sort_by_key(|(_, pod)| rank(pod));
            for (id, _) in &pods[..pods.len() - wanted] {
                world.delete_as(Actor::Controllers, id);
            }
        }
        self.refused = (pods.len() < wanted && world.refuses_pods()).then_some(REFUSAL);
        if self.refused.is_none() {
            for _ in pods.len()..wanted {
                self.make_pod(world, &deployment, dice);
            }
        }
    }

    fn make_pod(&self, world: &World, deployment: &Value, dice: &mut Dice) {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let suffix: String = (0..5).map(|_| char::from(LETTERS[dice.random_range(0..LETTERS.len())])).collect();
        let id = ObjectId::new(Resource::Pod, &self.id.namespace, &format!("{}-{suffix}", self.id.name));
        let mut pod = deployment["spec"]["template"].clone();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": &self.id.name, "controller": true,
            "uid": json::replica_set_uid(json::uid(deployment)),
        }]);
        let mut state = world.state();
        if !state.objects.contains_key(&id) {
            state.insert(Actor::Controllers, &id, pod);
        }
    }

    /// Counts the pods as they are, and says so.
    fn write_status(&mut self, world: &World, ready_since: &BTreeMap<String, Timestamp>) {
        self.status_due = None;
        let Some(deployment) = world.get(&self.id) else { return };
        let pods = active_pods(world, &deployment);
        let ready = pods.iter().filter(|(_, pod)| json::condition_is_true(pod, "Ready")).count();
        let seconds =
            json::number(&deployment, "/spec/minReadySeconds").and_then(|seconds| i64::try_from(seconds).ok());
        let patience = SignedDuration::from_secs(seconds.unwrap_or(0));
        let proven_at = |pod: &Value| ready_since.get(json::uid(pod)).map(|since| *since + patience);
        let proven: Vec<Timestamp> = pods.iter().filter_map(|(_, pod)| proven_at(pod)).collect();
        let available = proven.iter().filter(|at| **at <= world.now()).count();
        self.status_due = proven.into_iter().filter(|at| *at > world.now()).min();
        let mut status = json!({ "observedGeneration": self.synced });
        // Counts of zero are left out, as Kubernetes does.
        let counts = [("replicas", pods.len()), ("updatedReplicas", pods.len())];
        for (field, count) in counts.into_iter().chain([("readyReplicas", ready), ("availableReplicas", available)]) {
            if count > 0 {
                status[field] = count.into();
            }
        }
        if let Some(message) = self.refused {
            let condition =
                json!({ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message });
            status["conditions"] = json!([condition]);
        }
        let templates = self.template.1.to_string();
        world.change(Actor::Controllers, &self.id, |deployment| {
            deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = templates.into();
            deployment["status"] = status;
        });
    }
}

/// The pods that count: those of its ReplicaSet that have not ended and are not being deleted.
fn active_pods(world: &World, deployment: &Value) -> Vec<(ObjectId, Arc<Value>)> {
    let replica_set = json::replica_set_uid(json::uid(deployment));
    let mut pods = world.objects(Resource::Pod);
    pods.retain(|(_, pod)| {
        json::controller_uid(pod) == Some(&replica_set) && !json::is_terminating(pod) && !json::is_terminal(pod)
    });
    pods
}

fn age(pod: &Value) -> Option<Timestamp> {
    json::time(pod, "/metadata/creationTimestamp")
}
