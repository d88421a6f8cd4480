//! A toy operator that serves models, replaces revisions and goes back; and the same with one of the classic mistakes.
//!
//! It tests the simulation: the sound one must pass, and the oracle must find out each of the others. It looks at the live
//! cluster before it does anything, so that it is right in the simplest way.

mod build;
mod tests;
mod visit;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use self::visit::Visit;
use super::Serving;
use crate::cluster::port::{ObjectId, Resource};
use crate::names;
use crate::testing::json;
use crate::testing::operator::{Delivery, SimulatedOperator};
use crate::testing::watch::Source;
use crate::testing::world::World;

/// No mistake.
const SOUND: u8 = 0;
/// Gives the new revision all pods at once, and takes them from the old one.
const ABRUPT: u8 = 1;
/// Takes pods that exist for pods that serve.
const TRUSTING: u8 = 2;
/// Makes new pods before it has taken old ones away.
const GREEDY: u8 = 3;
/// Begins a third revision while the second still has pods.
const LEAPFROGGING: u8 = 4;
/// Never gives up.
const STUBBORN: u8 = 5;
/// Gives up at once.
const HASTY: u8 = 6;
/// Gives every change a new number, also one that goes back.
const FORGETFUL: u8 = 7;
/// Counts the revisions that are kept to find the next number.
const RECYCLING: u8 = 8;
/// Never forgets a revision.
const HOARDING: u8 = 9;
/// Forgets revisions that are in use.
const WASTEFUL: u8 = 10;
/// Removes whatever is in its way.
const RUDE: u8 = 11;
/// Changes the template of a Deployment that is there.
const MUTATING: u8 = 12;
/// Writes a status that differs every time.
const RESTLESS: u8 = 13;
/// Calls a revision stable as soon as it has begun.
const OPTIMISTIC: u8 = 14;
/// Writes what it goes by into the spec.
const OVERBEARING: u8 = 15;
/// Serves the spec when undoTo makes no sense.
const OBSTINATE: u8 = 16;
/// Has its Service select the pods of all lives.
const NOSTALGIC: u8 = 17;
/// Forgets what it has just written: decides upon its cache.
const CREDULOUS: u8 = 18;
/// Deletes pods to replace them.
const VIOLENT: u8 = 19;
/// Takes one ready moment for a pod that serves.
const GULLIBLE: u8 = 21;
/// Gives back no capacity to the stable revision when it gives up.
const RESIGNED: u8 = 20;

/// The toy, with one mistake.
#[derive(Default)]
struct Toy<const MISTAKE: u8> {
    caches: BTreeMap<ObjectId, Value>,
    reconciles: u64,
}

impl<const MISTAKE: u8> SimulatedOperator for Toy<MISTAKE> {
    type Subject = Serving;

    fn selects(Source { of: resource, .. }: Source, object: &Value) -> bool {
        resource == Resource::ModelDeployment || json::label(object, names::LABEL_DEPLOYMENT).is_some()
    }

    fn deliver(&mut self, Source { of: resource, .. }: Source, delivery: Delivery<'_>) -> Vec<ObjectId> {
        let mut concerned = Vec::new();
        match delivery {
            Delivery::Listed(objects) => {
                self.caches.retain(|id, _| id.resource != resource);
                self.caches.extend(objects.iter().map(|object| (json::id(resource, object), object.clone())));
                concerned.extend(self.caches.keys().filter(|id| id.resource == Resource::ModelDeployment).cloned());
            }
            Delivery::Applied(object) => {
                self.caches.insert(json::id(resource, object), object.clone());
                concerned.push(owner_of(resource, object));
            }
            Delivery::Deleted(object) => {
                self.caches.remove(&json::id(resource, object));
                concerned.push(owner_of(resource, object));
            }
        }
        concerned
    }

    async fn reconcile(&mut self, api: &World, key: &ObjectId, now: Timestamp) -> Result<Option<Timestamp>, String> {
        self.reconciles += 1;
        let Some(owner) = self.caches.get(key) else { return Ok(None) };
        if json::is_terminating(owner) {
            return Ok(None);
        }
        let visit = Visit::<MISTAKE> { api, key, owner, caches: &self.caches, reconciles: self.reconciles, now };
        visit.run().await.map_err(|error| error.to_string())
    }
}

fn owner_of(resource: Resource, object: &Value) -> ObjectId {
    let mut key = json::id(Resource::ModelDeployment, object);
    if resource != Resource::ModelDeployment {
        key.name = json::label(object, names::LABEL_DEPLOYMENT).unwrap_or_default().to_owned();
    }
    key
}
