//! What users do to the simulated cluster.

use serde_json::{Value, json};

use super::json;
use super::story::{Actor, Line};
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};

impl World {
    /// A user applies a manifest for the first time; answers the object's UID.
    ///
    /// # Panics
    /// When the name is taken.
    pub(crate) fn create_by_person(&self, resource: Resource, manifest: Value) -> String {
        let id = json::id(resource, &manifest);
        let mut state = self.state();
        assert!(!state.objects.contains_key(&id), "{id} exists already");
        state.insert(Actor::Person, &id, manifest)
    }

    /// A user edits the spec; a change makes a new generation.
    pub(crate) fn update_spec(&self, id: &ObjectId, edit: impl FnOnce(&mut Value)) {
        self.change(Actor::Person, id, |object| edit(&mut object["spec"]));
    }

    /// A user deletes an object with `--cascade=foreground`: it stays, with a deletionTimestamp, while its children go.
    pub(crate) fn delete_in_foreground(&self, id: &ObjectId) {
        let mut state = self.state();
        let now = json::seconds(state.now);
        state.change(Actor::Person, id, |object| {
            object["metadata"]["deletionTimestamp"] = now.into();
            object["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        });
        state.condemn_family(id);
    }

    /// A user deletes an object and applies it again at once, while the children of its past life still stand.
    pub(crate) fn recreate(&self, id: &ObjectId) {
        let Some(old) = self.get(id) else { return };
        self.delete_as(Actor::Person, id);
        let metadata = json!({ "name": id.name, "namespace": id.namespace });
        self.create_by_person(id.resource, json!({ "metadata": metadata, "spec": old["spec"] }));
    }

    /// No more pods fit the quota, or they do again.
    pub(crate) fn set_quota_exceeded(&self, exceeded: bool) {
        let mut state = self.state();
        state.quota_exceeded = exceeded;
        state.moods += 1;
    }

    /// The apiserver refuses to create pods, or no longer does.
    pub(crate) fn set_pods_refused(&self, refused: bool) {
        let mut state = self.state();
        state.pods_refused = refused;
        state.moods += 1;
    }

    /// Somebody else's object takes a name that belongs to a child of ours, in the way of an object; it never has its
    /// ownerReference. Answers whether the name was free.
    pub(crate) fn plant(&self, id: &ObjectId, in_the_way_of: &ObjectId, object: Value) -> bool {
        let mut state = self.state();
        if state.objects.contains_key(id) {
            return false;
        }
        state.insert(Actor::Person, id, object);
        state.planted.insert(id.clone(), in_the_way_of.clone());
        true
    }

    /// Somebody else's objects are removed by those whose they are.
    pub(crate) fn remove_planted(&self) {
        for id in self.planted().keys() {
            self.remove(Actor::Person, id);
        }
    }

    /// Adds a line of explanation to the run's story.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.tell(Line::Note(text.into()));
    }
}
