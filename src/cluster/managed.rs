//! What every kind of ours has: what its controller and its reconcile need to know of it.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{Action, Check};
use super::port::{EventDraft, Resource};
use super::problem::Problem;
use super::refusal::Refusal;
use super::writes::Writes;
use crate::api::conditions::Seen;

/// A kind of ours.
pub trait Managed:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Which kind.
    const RESOURCE: Resource;
    /// The noun for one object of it in messages.
    const NOUN: &'static str;
    /// Its status.
    type Status: Serialize + Clone + Default + Send + Sync;
    /// What the process remembers of one object between reconciles.
    type Memory: Remembers<Self::Status> + Default + Send;

    /// The status as it was read.
    fn status(&self) -> Option<&Self::Status>;

    /// The events that a change of status tells.
    fn events(old: &Self::Status, new: &Self::Status) -> Vec<EventDraft>;

    /// What the status of an object says whose spec cannot be read.
    fn unreadable(conditions: Vec<Condition>, problem: Problem, seen: Seen) -> Said;
}

/// The part of a status that every kind has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// The generation that is spoken of.
    pub observed_generation: Option<i64>,
    /// What is happening.
    pub message: Option<String>,
    /// The conditions.
    pub conditions: Vec<Condition>,
}

/// What a process remembers of one object.
pub trait Remembers<Status> {
    /// Its writes.
    fn writes(&mut self) -> &mut Writes;

    /// Takes note of actions that were carried out.
    fn acted(&mut self, _actions: &[Action], _now: Timestamp) {}

    /// Takes note of checks that did not hold; whether a decision that knows of them may go on without what they were for.
    fn doubted(&mut self, _checks: &[Check], _now: Timestamp) -> bool {
        false
    }

    /// Takes note of what the apiserver refused; whether the rest of what is decided then does not depend on it, and is to be
    /// carried out at once.
    fn refused(&mut self, _refusal: &Refusal) -> bool {
        false
    }

    /// Takes note of what was decided to be said, written or not.
    fn decided(&mut self, _status: &Status, _now: Timestamp) {}

    /// Takes note of a status that was written.
    fn published(&mut self, _status: &Status) {}
}

/// Metadata of an object as its own type has it.
pub(super) fn meta<O: Managed>(object: &O) -> &ObjectMeta {
    object.meta()
}
