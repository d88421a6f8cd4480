//! The garbage collector: deletes, after a while, what lost its owner.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::dice::up_to_millis;
use super::json;
use super::story::Actor;
use super::world::{State, World};
use crate::cluster::port::ObjectId;

impl World {
    /// When the garbage collector has something to do.
    pub(crate) fn garbage_due(&self) -> Option<Timestamp> {
        self.state().garbage.values().map(|(_, due)| *due).min()
    }

    /// Deletes one object that is due; answers whether there was one.
    pub(crate) fn collect_garbage(&self) -> bool {
        let mut state = self.state();
        let now = state.now;
        let due = state.garbage.iter().find(|(_, (_, due))| *due <= now);
        let Some((id, uid)) = due.map(|(id, (uid, _))| (id.clone(), uid.clone())) else { return false };
        state.garbage.remove(&id);
        let Some(object) = state.objects.get(&id).filter(|object| json::uid(object) == uid) else { return true };
        if json::at(object, "/metadata/finalizers").is_some() {
            // A deletion in the foreground whose children were all told to go.
            state.remove(Actor::Garbage, &id);
        } else {
            state.delete(Actor::Garbage, &id);
        }
        true
    }
}

impl State {
    /// Has an object deleted within half a minute.
    pub(super) fn condemn(&mut self, id: &ObjectId, uid: &str) {
        let due = self.now + up_to_millis(&mut self.dice, 30_000);
        self.garbage.entry(id.clone()).or_insert((uid.to_owned(), due));
    }

    /// Has all objects deleted whose controller has one of these UIDs.
    pub(super) fn condemn_children(&mut self, uids: &[String]) {
        let is_child =
            |object: &Value| json::controller_uid(object).is_some_and(|uid| uids.iter().any(|each| each == uid));
        let children = self.objects.iter().filter(|(_, object)| is_child(object));
        let children: Vec<_> = children.map(|(id, child)| (id.clone(), json::uid(child).to_owned())).collect();
        for (child, child_uid) in children {
            self.condemn(&child, &child_uid);
        }
    }

    /// Has an object and its children deleted, the children first.
    pub(super) fn condemn_family(&mut self, id: &ObjectId) {
        let Some(uid) = self.objects.get(id).map(|object| json::uid(object).to_owned()) else { return };
        self.condemn_children(std::slice::from_ref(&uid));
        self.garbage.insert(id.clone(), (uid, self.now + Duration::from_secs(35)));
    }
}
