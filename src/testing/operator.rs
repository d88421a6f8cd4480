//! What the simulation drives, and the help that it needs to feed its caches.

use std::collections::HashMap;
use std::future::Future;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::json;
use super::subject::Subject;
use super::watch::Source;
use super::world::World;
use crate::cluster::index::{Child, OwnedIndex, OwnerKey};
use crate::cluster::port::{ObjectId, Resource};

/// What the simulation drives. A controller's whole memory is in here, so that a crash is a new one by `Default`.
pub(crate) trait SimulatedOperator: Default {
    /// What it is the operator of.
    type Subject: Subject;

    /// Whether the operator's watch would tell of the object at all: its label selector.
    fn selects(_source: Source, _object: &Value) -> bool {
        true
    }

    /// Is told how many objects are active; a new operator takes it for none.
    fn set_active(&mut self, _objects: usize) {}

    /// Feeds a cache; answers the keys that must be reconciled because of it.
    fn deliver(&mut self, source: Source, delivery: Delivery<'_>) -> Vec<ObjectId>;

    /// One reconcile against the caches as they are; answers when to come again without an event.
    fn reconcile(
        &mut self,
        api: &World,
        key: &ObjectId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Timestamp>, String>>;
}

/// What a cache is told.
pub(crate) enum Delivery<'a> {
    /// A fresh list; whatever else the cache holds is no more.
    Listed(&'a [Value]),
    /// An object was made or changed.
    Applied(&'a Value),
    /// An object is gone; this is its last state.
    Deleted(&'a Value),
}

impl Delivery<'_> {
    /// Feeds the cache of the kind itself; answers the keys that are there.
    pub(crate) fn feed_owners<T: DeserializeOwned>(
        &self,
        kind: Resource,
        cache: &mut HashMap<ObjectId, T>,
    ) -> Vec<ObjectId> {
        match self {
            Delivery::Listed(objects) => {
                *cache = objects.iter().map(|object| (json::id(kind, object), parse(object))).collect();
                cache.keys().cloned().collect()
            }
            Delivery::Applied(object) => {
                cache.insert(json::id(kind, object), parse(object));
                vec![json::id(kind, object)]
            }
            Delivery::Deleted(object) => {
                cache.remove(&json::id(kind, object));
                Vec::new()
            }
        }
    }

    /// Feeds an index of children; answers the owners that are concerned.
    pub(crate) fn feed_children<W: DeserializeOwned, T: Child>(
        &self,
        index: &mut OwnedIndex<T>,
        facts: impl Fn(W) -> T,
    ) -> Vec<OwnerKey> {
        match self {
            Delivery::Listed(objects) => {
                index.begin_relist();
                let mut concerned: Vec<OwnerKey> =
                    objects.iter().flat_map(|object| index.apply(facts(parse(object)))).collect();
                concerned.extend(index.finish_relist());
                concerned
            }
            Delivery::Applied(object) => index.apply(facts(parse(object))),
            Delivery::Deleted(object) => {
                // Of which kind it is makes no difference to its index.
                let id = json::id(Resource::Pod, object);
                index.delete(&id.namespace, &id.name).into_iter().collect()
            }
        }
    }
}

fn parse<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("the simulated cluster's objects are well-formed")
}
