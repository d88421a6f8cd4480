//! What a scenario has users and the cluster do, and when.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::json;
use super::story::Actor;
use super::watch::Source;
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};

/// One thing that happens from outside.
#[derive(Clone)]
pub(crate) enum Action {
    /// Users, or the cluster, do something.
    InCluster(Deed),
    /// The operator is killed.
    Crash,
    /// A watch starts over.
    Relist(Source),
}

/// Something that is done to the cluster. What it is about may be gone by then: it is left alone, as users would.
#[derive(Clone)]
pub(crate) struct Deed {
    told: Arc<str>,
    does: Arc<dyn Fn(&World) + Send + Sync>,
}

impl Deed {
    fn new(told: impl Into<Arc<str>>, does: impl Fn(&World) + Send + Sync + 'static) -> Self {
        Deed { told: told.into(), does: Arc::new(does) }
    }

    /// A user deletes an object and applies it again at once.
    pub(crate) fn recreate(id: &ObjectId) -> Self {
        let id = id.clone();
        Deed::new(format!("make {id} again"), move |world| world.recreate(&id))
    }

    /// Does it.
    pub(crate) fn perform(&self, world: &World) {
        world.note(format!("-- {}", self.told));
        (self.does)(world);
    }
}

impl Action {
    /// Something that is done to the cluster, and how the run's story tells it.
    pub(crate) fn deed(told: impl Into<Arc<str>>, does: impl Fn(&World) + Send + Sync + 'static) -> Self {
        Action::InCluster(Deed::new(told, does))
    }

    /// A user applies a manifest.
    pub(crate) fn create(resource: Resource, manifest: Value) -> Self {
        let told = format!("create {} {}", json::id(resource, &manifest), manifest["spec"]);
        Action::deed(told, move |world| drop(world.create_by_person(resource, manifest.clone())))
    }

    /// A user edits the spec of an object.
    pub(crate) fn edit(told: &str, id: &ObjectId, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        let id = id.clone();
        Action::deed(format!("{told}: {id}"), move |world| world.update_spec(&id, &edit))
    }

    /// A user deletes an object.
    pub(crate) fn delete(id: &ObjectId) -> Self {
        let id = id.clone();
        Action::deed(format!("delete {id}"), move |world| world.delete_as(Actor::Person, &id))
    }

    /// A user deletes an object in the foreground.
    pub(crate) fn delete_in_foreground(id: &ObjectId) -> Self {
        let id = id.clone();
        Action::deed(format!("delete {id} in the foreground"), move |world| world.delete_in_foreground(&id))
    }

    /// A user deletes an object and applies it again at once.
    pub(crate) fn recreate(id: &ObjectId) -> Self {
        Action::InCluster(Deed::recreate(id))
    }

    /// The quota for pods is used up (true) or freed.
    pub(crate) fn quota(exceeded: bool) -> Self {
        Action::deed(format!("quota exceeded: {exceeded}"), move |world| world.set_quota_exceeded(exceeded))
    }

    /// The apiserver refuses pods (true) or takes them again.
    pub(crate) fn refusal(refused: bool) -> Self {
        Action::deed(format!("pods refused: {refused}"), move |world| world.set_pods_refused(refused))
    }

    /// Somebody's objects under our names go.
    pub(crate) fn remove_planted() -> Self {
        Action::deed("somebody's objects go", World::remove_planted)
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::InCluster(deed) => f.write_str(&deed.told),
            Action::Crash => f.write_str("the operator is killed"),
            Action::Relist(source) => write!(f, "the watch of {source} starts over"),
        }
    }
}
