//! The simulated cluster's objects, and everything that ever happened to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::dice::{Dice, dice};
use super::faults::{ApiFaults, CrashPoint};
use super::json;
use super::script::Deed;
use super::story::{Actor, Change, Line, Write, summary};
use crate::cluster::port::{EventDraft, ObjectId, Resource};

/// Everything that a lock protects.
pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) step: u64,
    revision: u64,
    uids: u64,
    pub(super) objects: BTreeMap<ObjectId, Arc<Value>>,
    changes: Vec<Arc<Change>>,
    feeds: BTreeMap<Resource, Vec<Arc<Change>>>,
    pub(super) events: BTreeMap<ObjectId, Vec<EventDraft>>,
    pub(super) journal: Vec<Write>,
    pub(super) reads: Vec<(u64, ObjectId)>,
    trace: Vec<(Timestamp, Line)>,
    pub(super) dice: Dice,
    pub(super) faults: ApiFaults,
    pub(super) crash_point: Option<CrashPoint>,
    /// What happens from outside right after the operator's n-th write.
    pub(super) after_write: Option<(u64, Deed)>,
    /// Whether the operator's process is dead: nothing it sends arrives.
    pub(super) operator_dead: bool,
    pub(super) quota_exceeded: bool,
    pub(super) pods_refused: bool,
    /// How often the cluster changed its mind about what it takes.
    pub(super) moods: usize,
    /// Objects that a person put under a name of ours, and the object that they are in the way of.
    pub(super) planted: BTreeMap<ObjectId, ObjectId>,
    /// UIDs of all that exists.
    pub(super) living: BTreeSet<String>,
    /// What the garbage collector will delete, and when.
    pub(super) garbage: BTreeMap<ObjectId, (String, Timestamp)>,
}

/// The simulated cluster.
pub(crate) struct World {
    state: Mutex<State>,
}

impl World {
    /// An empty cluster.
    pub(crate) fn new(seed: u64, faults: ApiFaults) -> Self {
        let state = State {
            now: "2026-01-05T09:00:00Z".parse().expect("a valid time"),
            step: 0,
            revision: 100,
            uids: 0,
            objects: BTreeMap::new(),
            changes: Vec::new(),
            feeds: BTreeMap::new(),
            events: BTreeMap::new(),
            journal: Vec::new(),
            reads: Vec::new(),
            trace: Vec::new(),
            dice: dice(seed, "world"),
            faults,
            crash_point: None,
            after_write: None,
            operator_dead: false,
            quota_exceeded: false,
            pods_refused: false,
            moods: 0,
            planted: BTreeMap::new(),
            living: BTreeSet::new(),
            garbage: BTreeMap::new(),
        };
        World { state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code of the world panics while it holds the lock")
    }

    /// The time in the cluster.
    pub(crate) fn now(&self) -> Timestamp {
        self.state().now
    }

    /// Lets time pass, or does nothing when it is that late already.
    pub(crate) fn advance_to(&self, time: Timestamp) {
        let mut state = self.state();
        state.now = state.now.max(time);
    }

    /// Begins the simulation's next step.
    pub(crate) fn begin_step(&self) {
        self.state().step += 1;
    }

    /// The steps so far.
    pub(crate) fn step(&self) -> u64 {
        self.state().step
    }

    /// The object as it is now.
    pub(crate) fn get(&self, id: &ObjectId) -> Option<Arc<Value>> {
        self.state().objects.get(id).cloned()
    }

    /// All objects of a kind.
    pub(crate) fn objects(&self, resource: Resource) -> Vec<(ObjectId, Arc<Value>)> {
        let state = self.state();
        state
            .objects
            .iter()
            .filter(|(id, _)| id.resource == resource)
            .map(|(id, object)| (id.clone(), object.clone()))
            .collect()
    }

    /// All changes of all objects from a position on, in the order in which they happened.
    pub(crate) fn changes_since(&self, position: usize) -> Vec<Arc<Change>> {
        self.state().changes[position..].to_vec()
    }

    /// So many changes were there of all objects.
    pub(crate) fn change_count(&self) -> usize {
        self.state().changes.len()
    }

    /// So many things happened that may make a difference to the operator: changes of objects, and of what is allowed.
    pub(crate) fn happenings(&self) -> usize {
        let state = self.state();
        state.changes.len() + state.moods
    }

    /// Changes of one kind of object from a position on, `at_most` of them.
    pub(crate) fn feed(&self, resource: Resource, position: usize, at_most: usize) -> Vec<Arc<Change>> {
        let state = self.state();
        let feed = state.feeds.get(&resource).map(Vec::as_slice).unwrap_or_default();
        feed[position..].iter().take(at_most).cloned().collect()
    }

    /// So many changes were there of one kind of object.
    pub(crate) fn feed_length(&self, resource: Resource) -> usize {
        self.state().feeds.get(&resource).map_or(0, Vec::len)
    }

    /// The operator's writes from a position on.
    pub(crate) fn writes_since(&self, position: usize) -> Vec<Write> {
        self.state().journal[position..].to_vec()
    }

    /// So many writes did the operator send.
    pub(crate) fn write_count(&self) -> u64 {
        self.state().journal.len() as u64
    }

    /// The operator's live reads, each with its step.
    pub(crate) fn reads(&self) -> Vec<(u64, ObjectId)> {
        self.state().reads.clone()
    }

    /// Events about an object.
    pub(crate) fn events(&self, about: &ObjectId) -> Vec<EventDraft> {
        self.state().events.get(about).cloned().unwrap_or_default()
    }

    /// Objects that a person put under a name of ours, each with the object that it is in the way of.
    pub(crate) fn planted(&self) -> BTreeMap<ObjectId, ObjectId> {
        self.state().planted.clone()
    }

    /// Whether pods are refused for the time being, by quota or otherwise.
    pub(crate) fn refuses_pods(&self) -> bool {
        let state = self.state();
        state.quota_exceeded || state.pods_refused
    }

    /// So many more calls may go wrong.
    pub(crate) fn faults_left(&self) -> u32 {
        self.state().faults.at_most
    }

    /// Adds to the run's story.
    pub(crate) fn tell(&self, line: Line) {
        self.state().tell(line);
    }

    /// The last lines of the run's story, and the objects as they are.
    pub(crate) fn account(&self, lines: usize) -> String {
        let state = self.state();
        let from = state.trace.len().saturating_sub(lines);
        let story = state.trace[from..].iter().map(|(at, line)| format!("  {at} {line}\n"));
        let objects = state.objects.iter().map(|(id, object)| format!("  {id} {}\n", summary(object)));
        story.chain(["objects:\n".to_owned()]).chain(objects).collect()
    }

    /// Has something done right after the operator's n-th write.
    pub(crate) fn set_after_write(&self, number: u64, deed: Deed) {
        self.state().after_write = Some((number, deed));
    }

    /// Sets or removes the write at which the operator dies.
    pub(crate) fn set_crash_point(&self, point: Option<CrashPoint>) {
        self.state().crash_point = point;
    }

    /// Whether the operator's process died.
    pub(crate) fn operator_is_dead(&self) -> bool {
        self.state().operator_dead
    }

    /// A new process of the operator is up.
    pub(crate) fn operator_restarted(&self) {
        self.state().operator_dead = false;
    }

    /// Changes an object as anybody but the operator does; a change to the same thing is none.
    pub(crate) fn change(&self, by: Actor, id: &ObjectId, change: impl FnOnce(&mut Value)) {
        self.state().change(by, id, change);
    }

    /// Deletes an object as the apiserver does when somebody asks for it.
    pub(crate) fn delete_as(&self, by: Actor, id: &ObjectId) {
        self.state().delete(by, id);
    }

    /// Removes an object at once, whatever it is doing.
    pub(crate) fn remove(&self, by: Actor, id: &ObjectId) {
        self.state().remove(by, id);
    }
}

impl State {
    pub(super) fn tell(&mut self, line: Line) {
        self.trace.push((self.now, line));
    }

    fn publish(&mut self, by: Actor, id: &ObjectId, created: bool, removed: bool, object: Arc<Value>) {
        let change = Arc::new(Change { by, at: self.now, step: self.step, id: id.clone(), created, removed, object });
        self.changes.push(change.clone());
        self.feeds.entry(id.resource).or_default().push(change.clone());
        self.tell(Line::Change(change));
    }

    fn next_revision(&mut self) -> Value {
        self.revision += 1;
        Value::String(self.revision.to_string())
    }

    /// Adds an object under a name that is free, and answers its UID.
    pub(super) fn insert(&mut self, by: Actor, id: &ObjectId, mut object: Value) -> String {
        self.uids += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.uids);
        object["apiVersion"] = id.resource.api_version().into();
        object["kind"] = id.resource.kind().into();
        object["metadata"]["name"] = id.name.as_str().into();
        object["metadata"]["namespace"] = id.namespace.as_str().into();
        object["metadata"]["uid"] = uid.as_str().into();
        object["metadata"]["creationTimestamp"] = json::seconds(self.now).into();
        object["metadata"]["generation"] = 1.into();
        object["metadata"]["resourceVersion"] = self.next_revision();
        if matches!(id.resource, Resource::ModelDeployment | Resource::Deployment)
            && object["spec"]["replicas"].is_null()
        {
            object["spec"]["replicas"] = 1.into();
        }
        object["status"] = match id.resource {
            // The CRDs' default.
            Resource::TrainingJob | Resource::ModelDeployment | Resource::Pipeline | Resource::PipelineRun => {
                json!({ "observedGeneration": -1 })
            }
            Resource::Pod => json!({ "phase": "Pending", "qosClass": "BestEffort" }),
            Resource::Service => json!({ "loadBalancer": {} }),
            _ => Value::Null,
        };
        if object["status"].is_null() {
            object.as_object_mut().expect("an object").remove("status");
        }
        let object = Arc::new(object);
        self.living.extend(uids_owning(id, &uid));
        self.objects.insert(id.clone(), object.clone());
        if json::controller_uid(&object).is_some_and(|owner| !self.living.contains(owner)) {
            self.condemn(id, &uid);
        }
        self.publish(by, id, true, false, object);
        uid
    }

    /// Changes an object; what changes nothing makes no new resourceVersion.
    pub(super) fn change(&mut self, by: Actor, id: &ObjectId, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.objects.get(id).cloned() else { return };
        let mut new = Value::clone(&old);
        change(&mut new);
        if new == *old {
            return;
        }
        if new.get("spec") != old.get("spec") {
            new["metadata"]["generation"] = (json::number(&old, "/metadata/generation").unwrap_or(0) + 1).into();
        }
        new["metadata"]["resourceVersion"] = self.next_revision();
        let new = Arc::new(new);
        self.objects.insert(id.clone(), new.clone());
        self.publish(by, id, false, false, new);
    }

    /// Removes an object, and leaves its children to the garbage collector.
    pub(super) fn remove(&mut self, by: Actor, id: &ObjectId) {
        let Some(mut object) = self.objects.remove(id) else { return };
        let uid = json::uid(&object).to_owned();
        let uids = uids_owning(id, &uid);
        self.living.retain(|living| !uids.contains(living));
        self.garbage.remove(id);
        self.planted.remove(id);
        self.condemn_children(&uids);
        Arc::make_mut(&mut object)["metadata"]["resourceVersion"] = self.next_revision();
        self.publish(by, id, false, true, object);
    }

    /// Deletes an object as the apiserver does: a pod that a kubelet knows of is first asked to stop.
    pub(super) fn delete(&mut self, by: Actor, id: &ObjectId) {
        let Some(object) = self.objects.get(id) else { return };
        let stops_first = id.resource == Resource::Pod
            && json::text(object, "/spec/nodeName").is_some()
            && !json::is_terminal(object);
        if !stops_first {
            self.remove(by, id);
        } else if !json::is_terminating(object) {
            let grace = json::number(object, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
            let gone_by = self.now + SignedDuration::from_secs(grace as i64);
            self.change(by, id, |pod| {
                pod["metadata"]["deletionTimestamp"] = json::seconds(gone_by).into();
                pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            });
        }
    }
}

/// The UIDs that an object's children may name as their controller's while it lives.
fn uids_owning(id: &ObjectId, uid: &str) -> Vec<String> {
    let replica_set = (id.resource == Resource::Deployment).then(|| json::replica_set_uid(uid));
    replica_set.into_iter().chain([uid.to_owned()]).collect()
}
