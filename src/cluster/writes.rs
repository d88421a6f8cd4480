//! What the process remembers of its own writes to one object and its children, until the caches show them.
//!
//! Losing it, in a crash, never breaks an invariant: it costs a few requests.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::index::ChildMeta;
use super::plan::Action;
use super::port::{ObjectId, Resource};
use super::refusal::Refusal;

/// How long a cache may take to show what we created before we doubt that it is there.
const CACHE_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Kind and name of a child.
type Name = (Resource, String);

/// Our own recent writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writes {
    /// resourceVersion of the owner that our last status patch replaced: a cache that still shows it is stale.
    pub patched_from: Option<String>,
    /// When status was last written.
    pub published_at: Option<Timestamp>,
    /// When this process first looked at the owner.
    pub noticed_at: Option<Timestamp>,
    /// What the apiserver would not create, and until when we do not ask again.
    pub refusal: Option<Refusal>,
    /// Writes that may or may not have been carried out, and the version that each change was decided upon.
    uncertain: Vec<(ObjectId, Option<String>)>,
    /// Children created and not yet seen, and when they were created.
    created: BTreeMap<Name, Timestamp>,
    /// resourceVersion of each child that our last change replaced.
    changed_from: BTreeMap<Name, String>,
}

impl Writes {
    /// Remembers what the caches will show in a moment.
    pub fn note(&mut self, actions: &[Action], now: Timestamp) {
        for action in actions {
            let id = action.id();
            match action {
                Action::Create { .. } | Action::Put { .. } => self.note_created(id.resource, &id.name, now),
                Action::Apply { object, .. } => {
                    let replaced = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                    self.changed_from.insert((id.resource, id.name.clone()), replaced.to_owned());
                }
                Action::Scale { version, .. } => {
                    self.changed_from.insert((id.resource, id.name.clone()), version.clone());
                }
                Action::Delete { .. } => {}
            }
        }
    }

    /// Remembers actions of which some may not have been carried out: no answer came, or one of them failed.
    pub fn note_uncertain(&mut self, actions: &[Action]) {
        for action in actions {
            let version = match action {
                Action::Create { .. } if action.creates_pod() => continue,
                Action::Create { .. } => None,
                Action::Apply { object, .. } => object["metadata"]["resourceVersion"].as_str().map(str::to_owned),
                Action::Scale { version, .. } => Some(version.clone()),
                // A deletion that was not carried out is decided upon again; a pod that is there already answers so.
                // What was to be put is put again: that changes nothing.
                Action::Delete { .. } | Action::Put { .. } => continue,
            };
            self.uncertain.push((action.id().clone(), version));
        }
    }

    /// The next of the writes that may or may not have been carried out.
    pub fn next_uncertain(&self) -> Option<&ObjectId> {
        self.uncertain.last().map(|(id, _)| id)
    }

    /// Takes in how the object of that write is, past any cache: its resourceVersion, or nothing if there is none.
    pub fn settle(&mut self, version: Option<&str>, now: Timestamp) {
        let Some((id, decided_upon)) = self.uncertain.pop() else { return };
        match (decided_upon, version) {
            (None, Some(_)) => self.note_created(id.resource, &id.name, now),
            (Some(replaced), Some(version)) if replaced != version => {
                self.changed_from.insert((id.resource, id.name), replaced);
            }
            _ => {}
        }
    }

    /// Remembers a child that was created.
    pub fn note_created(&mut self, resource: Resource, name: &str, now: Timestamp) {
        self.created.insert((resource, name.to_owned()), now);
    }

    /// Takes in what the caches show: creations that are seen by now, or have become doubtful, are waited for no more.
    pub fn catch_up<'a>(&mut self, seen: impl IntoIterator<Item = (Resource, &'a ChildMeta)>, now: Timestamp) {
        let mut awaited = BTreeMap::new();
        for (resource, meta) in seen {
            let name = (resource, meta.name.clone());
            self.created.remove(&name);
            if let Some(replaced) = self.changed_from.remove(&name).filter(|from| *from == meta.resource_version) {
                awaited.insert(name, replaced);
            }
        }
        self.changed_from = awaited;
        self.created.retain(|_, created| now < *created + CACHE_PATIENCE);
        self.noticed_at.get_or_insert(now);
        // A clock that was set back must not hold anything up: what lies in the future was just now.
        for moment in [&mut self.noticed_at, &mut self.published_at] {
            *moment = moment.map(|moment| moment.min(now));
        }
        if self.refusal.as_ref().is_some_and(|refusal| refusal.until <= now) {
            self.refusal = None;
        }
    }

    /// Whether a child was created that no cache shows yet.
    pub fn has_created(&self, resource: Resource, name: &str) -> bool {
        self.created.contains_key(&(resource, name.to_owned()))
    }

    /// Whether any child of a kind was created that no cache shows yet.
    pub fn has_created_any(&self, resource: Resource) -> bool {
        self.created.keys().any(|(kind, _)| *kind == resource)
    }

    /// Whether the cache still shows a child as it was before our last change of it.
    pub fn awaits(&self, resource: Resource, child: &ChildMeta) -> bool {
        self.changed_from.get(&(resource, child.name.clone())) == Some(&child.resource_version)
    }

    /// When the oldest creation that no cache shows becomes doubtful.
    pub fn doubt_at(&self) -> Option<Timestamp> {
        self.created.values().min().map(|created| *created + CACHE_PATIENCE)
    }
}
