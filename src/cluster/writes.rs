//! What the process remembers of its own writes to one object and its children, until the caches show them.
//!
//! Losing it, in a crash, never breaks an invariant: it costs a few requests.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::index::ChildMeta;
use super::plan::Action;
use super::port::Resource;
use super::refusal::{Missing, Refusal};

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
    /// How much longer than usual a status that can wait should wait, since the controller is busy.
    pub extra_wait: SignedDuration,
    /// What the apiserver would not create, and until when we do not ask again.
    pub refusal: Option<Refusal>,
    /// Children that name something that is missing.
    missing: BTreeMap<Name, Missing>,
    /// Children of which the caches do not tell whether our write is there, and the version that each change was decided
    /// upon.
    uncertain: Vec<(Name, Option<String>)>,
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
            let id = action.id();
            self.uncertain.push(((id.resource, id.name.clone()), version));
        }
    }

    /// The next of the writes that may or may not be there: kind and name of the child.
    pub fn next_uncertain(&self) -> Option<(Resource, &str)> {
        self.uncertain.last().map(|((resource, name), _)| (*resource, name.as_str()))
    }

    /// Takes in how the object of that write is, past any cache: its resourceVersion, or nothing if there is none.
    pub fn settle(&mut self, version: Option<&str>, now: Timestamp) {
        let Some((name, decided_upon)) = self.uncertain.pop() else { return };
        match (decided_upon, version) {
            (None, Some(_)) => self.note_created(name.0, &name.1, now),
            (Some(replaced), Some(version)) if replaced != version => {
                self.changed_from.insert(name, replaced);
            }
            _ => {}
        }
    }

    /// Remembers that the apiserver would not create a child.
    pub fn note_refused(&mut self, refusal: Refusal, now: Timestamp) {
        let name = (refusal.id.resource, refusal.id.name.clone());
        let mut missing = self.missing.remove(&name);
        self.refusal = Some(refusal.again(&mut missing, now));
        self.missing.extend(missing.map(|missing| (name, missing)));
    }

    /// Remembers a child that was created.
    pub fn note_created(&mut self, resource: Resource, name: &str, now: Timestamp) {
        self.missing.remove(&(resource, name.to_owned()));
        self.created.insert((resource, name.to_owned()), now);
    }

    /// Takes in what the caches show: creations that are seen by now are waited for no more. What no cache shows for long
    /// is looked up, since a watch may hang: what is there must not be created in another form beside it.
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
        for (name, _) in self.created.extract_if(.., |_, created| now >= *created + CACHE_PATIENCE) {
            // A pod has the same name each time: creating it again finds it. A ModelDeployment is put, and belongs to nobody: what
            // is there would not be known as a child, and to put it again changes nothing.
            if !matches!(name.0, Resource::Pod | Resource::ModelDeployment) {
                self.uncertain.push((name, None));
            }
        }
        self.missing.retain(|_, missing| !missing.is_forgotten(now));
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

    /// Children created a while ago that no cache shows yet.
    pub fn overdue(&self, now: Timestamp) -> impl Iterator<Item = (Resource, &str)> {
        let late = self.created.iter().filter(move |(_, created)| now >= **created + CACHE_PATIENCE / 2);
        late.map(|((resource, name), _)| (*resource, name.as_str()))
    }

    /// When the oldest creation that no cache shows becomes doubtful.
    pub fn doubt_at(&self) -> Option<Timestamp> {
        self.created.values().min().map(|created| *created + CACHE_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::port::ObjectId;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    #[test]
    fn what_no_cache_shows_for_long_is_looked_up_and_not_made_again() {
        let mut writes = Writes::default();
        writes.note_created(Resource::Deployment, "d-1", second(0));
        writes.note_created(Resource::Pod, "j-0", second(0));
        let id = ObjectId::new(Resource::ModelDeployment, "ns", "m");
        let put = Action::Put { id, object: serde_json::Value::Null, mark: "mark", adopts: false };
        writes.note(&[put], second(0));
        writes.catch_up([], second(29));
        assert_eq!(writes.next_uncertain(), None);
        writes.catch_up([], second(30));
        assert_eq!(
            writes.next_uncertain(),
            Some((Resource::Deployment, "d-1")),
            "a pod is found when it is made again"
        );
        writes.settle(Some("7"), second(30));
        assert_eq!(writes.next_uncertain(), None, "what was put is put again");
        assert!(writes.has_created(Resource::Deployment, "d-1"), "it is there, and the watch hangs");
        assert_eq!(writes.doubt_at(), Some(second(60)));
        writes.catch_up([], second(60));
        writes.settle(None, second(60));
        assert!(!writes.has_created(Resource::Deployment, "d-1"), "it was deleted before any cache showed it");
        assert_eq!(writes.next_uncertain(), None);
    }
}
