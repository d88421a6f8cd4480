//! What a decision asks for: data, not deeds.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::body::Body;
use super::index::ChildMeta;
use super::port::{ObjectId, Resource};

/// The outcome of a decision: what to make sure of, what to do, what to say, and when to look again.
///
/// Checks come first, then actions in their order, then the status. A decision that must be on record before anything
/// is done about it (a new attempt, an end) is a plan with a status and no actions; the actions follow in the next
/// reconcile, which sees the record. An empty plan with a status equal to the present one means converged.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Status> {
    /// What must hold in the live cluster, past all caches, before anything below is done.
    pub checks: Vec<Check>,
    /// What to do, in order; the first failure ends the plan. What does not depend on what failed is decided upon again.
    pub actions: Vec<Action>,
    /// What status should say once the actions are done.
    pub status: Status,
    /// How soon a changed status has to be written.
    pub publish: Publish,
    /// When to decide again even if nothing happens; the only source of timed reconciles.
    pub wake_at: Option<Timestamp>,
}

impl<Status> Plan<Status> {
    /// A plan that only says something.
    pub fn status_only(status: Status, publish: Publish) -> Self {
        Plan { checks: Vec::new(), actions: Vec::new(), status, publish, wake_at: None }
    }

    /// The same plan, looked at again no later than `at`.
    pub fn waking_at(mut self, at: Option<Timestamp>) -> Self {
        self.wake_at = earliest(self.wake_at, at);
        self
    }
}

/// The earlier of two moments, of which either may be missing.
pub fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// How soon a changed status has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// In this reconcile.
    Now,
    /// At this moment or with the next status that cannot wait, so that progress is written in one piece.
    By(Timestamp),
}

/// Something that caches may be wrong about and that must be so before a plan is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The owner is, in the live cluster, the very object and version that was decided upon.
    OwnerIsCurrent {
        /// The owner.
        id: ObjectId,
        /// Its UID in the cache.
        uid: String,
        /// Its resourceVersion in the cache.
        resource_version: String,
    },
    /// No pod of an older attempt of this owner is live, nor any of an object that had its name before: of one that somebody
    /// deleted, pods go on until the garbage collector comes. And none of these names exists.
    PodsAreGone {
        /// Name of the owner, as the pods' job label has it.
        owner: ObjectId,
        /// UID of the owner, whose later attempts do not count; nothing if all attempts of whatever had the name do.
        owner_uid: Option<String>,
        /// Pods of attempts below this one must be gone; up to 1, there is none to look for.
        below_attempt: u32,
        /// Names that no pod of the owner may have.
        absent: Vec<String>,
    },
    /// There is no such object, or it is not this owner's.
    IsAbsent {
        /// The object.
        id: ObjectId,
        /// UID of the owner.
        owner_uid: String,
    },
    /// There is no such object.
    IsGone {
        /// The object.
        id: ObjectId,
    },
    /// The object is gone, or does not carry these labels and annotations any more.
    IsInOtherHands {
        /// The object.
        id: ObjectId,
        /// Labels and annotations that it had when it was last put: `{"labels": {..}, "annotations": {..}}`.
        marks: Value,
    },
    /// No process of that pod runs: it is gone, or has ended.
    PodHasEnded {
        /// The pod.
        id: ObjectId,
    },
    /// No ControllerRevision of this owner has this hash, this number, or a higher one that may have been given.
    RevisionIsNew {
        /// The owner.
        owner: ObjectId,
        /// UID of the owner.
        owner_uid: String,
        /// The number that is to be given.
        number: i64,
        /// The highest number that may have been given: what has another is nobody's.
        most: i64,
        /// Hashes that a revision may have which is made from the same.
        hashes: Vec<String>,
    },
    /// No EndpointSlice of this owner names a pod of another attempt.
    NamesAreCleared {
        /// The owner.
        owner: ObjectId,
        /// UID of the owner.
        owner_uid: String,
        /// The only attempt whose pods may be named.
        attempt: u32,
    },
}

impl Check {
    /// That an owner is, past all caches, the very object that was decided upon.
    pub fn owner_is_current(id: ObjectId, owner: &ObjectMeta) -> Check {
        Check::OwnerIsCurrent {
            id,
            uid: owner.uid.clone().unwrap_or_default(),
            resource_version: owner.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates a child.
    Create {
        /// Kind, namespace and name of the child.
        id: ObjectId,
        /// UID of the owner: a child of that name is ours only if its controller has this UID.
        owner_uid: String,
        /// The whole child.
        object: Body,
    },
    /// Changes a child that is ours.
    Apply {
        /// Kind, namespace and name of the child.
        id: ObjectId,
        /// The fields that we own, with the `uid` and `resourceVersion` decided upon.
        object: Value,
    },
    /// Changes the number of pods of a child that is ours, by its subresource `scale`: whatever a cluster has that edits
    /// pod templates on their way does not come by there.
    Scale {
        /// Kind, namespace and name of the child.
        id: ObjectId,
        /// Its UID.
        uid: String,
        /// The resourceVersion that was decided upon.
        version: String,
        /// Number of pods.
        replicas: i32,
    },
    /// Makes or changes an object that belongs to nobody, by server-side apply that gives way: fields that others manage are
    /// not taken from them. An object of that name that does not carry our mark is left alone.
    Put {
        /// Kind, namespace and name of the object.
        id: ObjectId,
        /// The fields that we want to have.
        object: Value,
        /// The annotation that marks an object as ours to change, by having the value that it has in `object`.
        mark: &'static str,
        /// Whether an object without the mark is changed too.
        adopts: bool,
    },
    /// Deletes an object.
    Delete {
        /// Which one.
        id: ObjectId,
        /// Its UID, so that another of that name is spared.
        uid: String,
        /// Its resourceVersion where the very state that was decided upon must still be there: what a user owns may be
        /// edited meanwhile, so that it should stay.
        version: Option<String>,
    },
}

impl Action {
    /// Deletes a child, whatever became of it since it was seen.
    pub fn delete(resource: Resource, child: &ChildMeta) -> Action {
        let id = ObjectId::new(resource, &child.namespace, &child.name);
        Action::Delete { id, uid: child.uid.clone(), version: None }
    }

    /// Deletes an object of a user's, unless it has changed since it was seen.
    pub fn delete_unchanged(resource: Resource, object: &ChildMeta) -> Action {
        let id = ObjectId::new(resource, &object.namespace, &object.name);
        Action::Delete { id, uid: object.uid.clone(), version: Some(object.resource_version.clone()) }
    }

    /// The object that the action is about.
    pub fn id(&self) -> &ObjectId {
        match self {
            Action::Create { id, .. }
            | Action::Apply { id, .. }
            | Action::Scale { id, .. }
            | Action::Put { id, .. }
            | Action::Delete { id, .. } => id,
        }
    }

    /// About how many bytes are sent.
    pub fn length(&self) -> usize {
        match self {
            Action::Create { object, .. } => object.length(),
            // The operator's own words, or a deployment that goes alone.
            Action::Apply { .. } | Action::Scale { .. } | Action::Put { .. } | Action::Delete { .. } => 0,
        }
    }

    /// Whether a pod is created.
    pub fn creates_pod(&self) -> bool {
        matches!(self, Action::Create { id, .. } if id.resource == Resource::Pod)
    }
}
