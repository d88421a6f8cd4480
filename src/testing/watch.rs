//! How changes reach the operator's caches: in order within a watch, but each watch with a lag of its own. Controllers of one
//! process share no watch, as in the real one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use serde_json::Value;

use super::dice::Dice;
use super::story::Change;
use super::world::World;
use crate::cluster::port::{ObjectId, Resource};

/// Which watch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// The kind whose controller watches.
    pub(crate) by: Resource,
    /// What it watches.
    pub(crate) of: Resource,
}

/// The watches of one controller.
pub(crate) const fn sources<const N: usize>(by: Resource, watched: [Resource; N]) -> [Source; N] {
    let mut sources = [Source { by, of: by }; N];
    let mut index = 0;
    while index < N {
        sources[index].of = watched[index];
        index += 1;
    }
    sources
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (for {})", self.of.plural(), self.by.plural())
    }
}

/// The watch of one kind of object.
pub(crate) struct Watch {
    resource: Resource,
    /// How much of the kind's feed has been delivered.
    position: usize,
    /// A list was asked for, and answered with the state at this position of the feed; it is still under way.
    listing: Option<usize>,
    ready: bool,
    frozen_until: Option<Timestamp>,
    /// How likely it is to be chosen when several watches have something to deliver.
    pace: u32,
}

/// What a watch delivers at a time.
pub(crate) enum Batch {
    /// A fresh list: everything else that the cache holds is gone.
    List(Vec<Value>),
    /// Some changes.
    Changes(Vec<Arc<Change>>),
}

impl Watch {
    /// A watch that begins with a list of what there is now.
    pub(crate) fn new(resource: Resource, world: &World) -> Self {
        let mut watch = Watch { resource, position: 0, listing: None, ready: false, frozen_until: None, pace: 3 };
        watch.relist(world, 0);
        watch
    }

    /// Starts over with a list. It is taken now and delivered later, so that it is old by then; `rewind` makes it older
    /// by so many changes than it should be, as an apiserver that lags behind would.
    pub(crate) fn relist(&mut self, world: &World, rewind: usize) {
        self.listing = Some(world.feed_length(self.resource).saturating_sub(rewind));
        self.frozen_until = None;
    }

    /// Whether there is something that has not been delivered.
    pub(crate) fn is_behind(&self, world: &World) -> bool {
        self.listing.is_some() || self.position < world.feed_length(self.resource)
    }

    /// Until when nothing comes, if so.
    pub(crate) fn frozen_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.frozen_until.filter(|until| *until > now)
    }

    /// Delivers nothing for a while, as when a connection hangs.
    pub(crate) fn freeze(&mut self, now: Timestamp, dice: &mut Dice) {
        self.frozen_until = Some(now + SignedDuration::from_millis(dice.random_range(100..60_000)));
    }

    /// How likely this watch is to deliver next.
    pub(crate) fn pace(&self) -> u32 {
        self.pace
    }

    /// Takes the next few changes, or the list.
    pub(crate) fn next(&mut self, world: &World, dice: &mut Dice) -> Batch {
        self.pace = if dice.random_bool(0.1) { dice.random_range(1..=12) } else { self.pace };
        if let Some(position) = self.listing.take() {
            self.position = position;
            self.ready = true;
            return Batch::List(state_at(world, self.resource, position));
        }
        let at_most = if dice.random_bool(0.3) { usize::MAX } else { dice.random_range(1..=4) };
        let changes = world.feed(self.resource, self.position, at_most);
        self.position += changes.len();
        Batch::Changes(changes)
    }
}

/// The watches of the operator.
pub(crate) struct Watches(BTreeMap<Source, Watch>);

impl Watches {
    /// These watches, each beginning with a list.
    pub(crate) fn new(sources: &[Source], world: &World) -> Self {
        Watches(sources.iter().map(|source| (*source, Watch::new(source.of, world))).collect())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Source, &Watch)> {
        self.0.iter().map(|(source, watch)| (*source, watch))
    }

    /// One of them.
    pub(crate) fn of(&mut self, source: Source) -> &mut Watch {
        self.0.get_mut(&source).expect("only what is watched is asked for")
    }

    /// Whether every cache has had its first list; before that, a controller decides nothing.
    pub(crate) fn are_ready(&self) -> bool {
        self.0.values().all(|watch| watch.ready)
    }

    /// So many changes have reached the cache behind a watch; none if there is no such watch.
    pub(crate) fn delivered(&self, source: Source) -> usize {
        self.0.get(&source).map_or(0, |watch| watch.position)
    }
}

/// All objects of a kind as they were at a position of its feed.
fn state_at(world: &World, resource: Resource, position: usize) -> Vec<Value> {
    let mut objects: BTreeMap<ObjectId, Arc<Value>> = BTreeMap::new();
    for change in world.feed(resource, 0, position) {
        if change.removed {
            objects.remove(&change.id);
        } else {
            objects.insert(change.id.clone(), change.object.clone());
        }
    }
    objects.into_values().map(|object| Value::clone(&object)).collect()
}
