//! What the process remembers of its own writes to one object and its children, until the caches show them.
//!
//! Losing it, in a crash, never breaks an invariant: it costs a few requests.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::index::ChildMeta;
use super::plan::Action;
use super::port::{ObjectId, Resource};
use super::refusal::{Missing, Refusal};
use super::retry::wait_before;

/// How long a cache may take to show what we created before we doubt that it is there.
const CACHE_PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Wait after the first decision that a cache was behind for.
const FIRST_STALE_RETRY: SignedDuration = SignedDuration::from_secs(1);
/// The longest wait after one of several in a row.
const LONGEST_STALE_RETRY: SignedDuration = SignedDuration::from_secs(30);

/// Kind and name of a child.
type Name = (Resource, String);

/// A child that was created and that no cache shows yet.
#[derive(Clone, Debug, PartialEq)]
struct Unseen {
    /// When it was created, or last found by looking it up.
    since: Timestamp,
    /// UID that the apiserver answered, if it did.
    uid: Option<String>,
}

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
    /// Decisions in a row that were not carried out since a cache was behind.
    stale: i32,
    /// What the apiserver would not create, and until when we do not ask again.
    pub refusal: Option<Refusal>,
    /// Children that name something that is missing.
    missing: BTreeMap<Name, Missing>,
    /// Children of which the caches do not tell whether our write is there, and the version that each change was decided
    /// upon.
    uncertain: Vec<(Name, Option<String>)>,
    /// Children created and not yet seen.
    created: BTreeMap<Name, Unseen>,
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

    /// Takes in how the object of that write is, past any cache; nothing if there is none.
    pub fn settle(&mut self, live: Option<&ChildMeta>, now: Timestamp) {
        let Some((name, decided_upon)) = self.uncertain.pop() else { return };
        match (decided_upon, live) {
            (None, Some(live)) => {
                let known = self.created.remove(&name).and_then(|unseen| unseen.uid).filter(|uid| *uid == live.uid);
                self.remember(name, known, now);
            }
            (None, None) => {
                self.created.remove(&name);
            }
            (Some(replaced), Some(live)) if replaced != live.resource_version => {
                self.changed_from.insert(name, replaced);
            }
            (Some(_), _) => {}
        }
    }

    /// A cache was behind, so that nothing was carried out. Answers when to decide again, should no event come: a moment later at
    /// first; an object that no cache will ever show, say without its labels, must not keep the apiserver busy.
    pub fn stale_again(&mut self, now: Timestamp) -> Timestamp {
        self.stale = self.stale.saturating_add(1);
        now + wait_before(self.stale, FIRST_STALE_RETRY, LONGEST_STALE_RETRY)
    }

    /// A decision was carried out.
    pub fn not_stale(&mut self) {
        self.stale = 0;
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
        self.remember((resource, name.to_owned()), None, now);
    }

    /// Remembers a child that was created, and the UID that the apiserver gave it.
    pub fn note_made(&mut self, id: &ObjectId, uid: &str, now: Timestamp) {
        self.remember((id.resource, id.name.clone()), Some(uid.to_owned()), now);
    }

    fn remember(&mut self, name: Name, uid: Option<String>, now: Timestamp) {
        self.missing.remove(&name);
        self.created.insert(name, Unseen { since: now, uid });
    }

    /// Whether a child that a cache shows for the first time is the very object that this process has made.
    pub fn has_made(&self, resource: Resource, child: &ChildMeta) -> bool {
        let unseen = self.created.get(&(resource, child.name.clone()));
        unseen.is_some_and(|unseen| unseen.uid.as_ref() == Some(&child.uid))
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
        // A ModelDeployment is put, and belongs to nobody: what is there would not be known as a child, and to put it again
        // changes nothing.
        self.created
            .retain(|(kind, _), unseen| *kind != Resource::ModelDeployment || now < unseen.since + CACHE_PATIENCE);
        for (name, unseen) in &mut self.created {
            // A clock that was set back must not make the wait longer.
            unseen.since = unseen.since.min(now);
            let is_known = self.uncertain.iter().any(|(uncertain, _)| uncertain == name);
            if now >= unseen.since + CACHE_PATIENCE && !is_known {
                self.uncertain.push((name.clone(), None));
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
        let late = self.created.iter().filter(move |(_, unseen)| now >= unseen.since + CACHE_PATIENCE / 2);
        late.map(|((resource, name), _)| (*resource, name.as_str()))
    }

    /// When the oldest creation that no cache shows becomes doubtful.
    pub fn doubt_at(&self) -> Option<Timestamp> {
        self.created.values().map(|unseen| unseen.since + CACHE_PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    fn child(uid: &str) -> ChildMeta {
        ChildMeta { name: "j-0".to_owned(), uid: uid.to_owned(), ..ChildMeta::default() }
    }

    #[test]
    fn what_no_cache_shows_for_long_is_looked_up_and_not_made_again() {
        let mut writes = Writes::default();
        writes.note_made(&ObjectId::new(Resource::Pod, "ns", "j-0"), "u", second(0));
        writes.catch_up([], second(29));
        assert_eq!(writes.next_uncertain(), None);
        writes.catch_up([], second(30));
        writes.catch_up([], second(31));
        assert_eq!(writes.next_uncertain(), Some((Resource::Pod, "j-0")));
        writes.settle(Some(&child("u")), second(31));
        assert_eq!(writes.next_uncertain(), None, "it is looked up once");
        assert!(writes.has_created(Resource::Pod, "j-0"), "it is there, and the watch hangs");
        assert!(writes.has_made(Resource::Pod, &child("u")));
        assert_eq!(writes.doubt_at(), Some(second(61)));
        writes.catch_up([], second(61));
        writes.settle(None, second(61));
        assert!(!writes.has_created(Resource::Pod, "j-0"), "it was deleted before any cache showed it");
    }

    #[test]
    fn another_object_under_the_name_of_one_that_was_made_is_not_taken_for_it() {
        let mut writes = Writes::default();
        writes.note_made(&ObjectId::new(Resource::Pod, "ns", "j-0"), "u", second(0));
        assert!(!writes.has_made(Resource::Pod, &child("v")));
        writes.catch_up([], second(30));
        writes.settle(Some(&child("v")), second(30));
        assert!(writes.has_created(Resource::Pod, "j-0"), "the name is taken");
        assert!(!writes.has_made(Resource::Pod, &child("v")));
    }

    #[test]
    fn what_was_put_is_put_again_rather_than_looked_up() {
        let mut writes = Writes::default();
        let id = ObjectId::new(Resource::ModelDeployment, "ns", "m");
        writes.note(&[Action::Put { id, object: serde_json::Value::Null, mark: "mark", adopts: false }], second(0));
        writes.catch_up([], second(29));
        assert!(writes.has_created(Resource::ModelDeployment, "m"));
        writes.catch_up([], second(30));
        assert!(!writes.has_created(Resource::ModelDeployment, "m") && writes.next_uncertain().is_none());
    }

    #[test]
    fn what_stays_stale_is_looked_at_less_and_less_often() {
        let mut writes = Writes::default();
        let mut waits = || writes.stale_again(second(0)).as_second();
        assert_eq!([waits(), waits(), waits(), waits(), waits(), waits(), waits()], [1, 2, 4, 8, 16, 30, 30]);
        writes.not_stale();
        assert_eq!(writes.stale_again(second(0)), second(1));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_wait_longer() {
        let mut writes = Writes::default();
        writes.note_created(Resource::Service, "s", second(1_000));
        writes.catch_up([], second(100));
        assert_eq!(writes.doubt_at(), Some(second(130)));
    }
}
