//! What all nodes of the simulated cluster have in common: they notice pods that come, are to go, and went, and move one of
//! those that are due at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rand::RngExt;

use super::dice::Dice;
use super::json;
use super::story::Change;
use super::world::World;
use crate::cluster::port::Resource;

/// A pod's way through its life.
pub(crate) trait Course {
    /// When its next step is due.
    fn due(&self) -> Option<Timestamp>;

    /// Somebody asked for its end, for the first time or again.
    fn asked_to_stop(&mut self, at: Timestamp);
}

/// The pods that some nodes take care of, by UID.
pub(crate) struct Pods<C> {
    courses: BTreeMap<String, C>,
    seen: usize,
    /// How much had happened in the cluster when it was last looked at; nothing new follows from the same.
    looked_at: Option<usize>,
}

impl<C> Default for Pods<C> {
    fn default() -> Self {
        Pods { courses: BTreeMap::new(), seen: 0, looked_at: None }
    }
}

impl<C: Course> Pods<C> {
    /// Takes note of what became of pods since the last look; answers the courses of pods that are gone, or nothing if
    /// nothing at all has happened. `take_on` begins the course of a new pod, if it is one that these nodes care for.
    pub(crate) fn look(&mut self, world: &World, mut take_on: impl FnMut(&Arc<Change>) -> Option<C>) -> Option<Vec<C>> {
        let happenings = world.change_count();
        if self.looked_at.replace(happenings) == Some(happenings) {
            return None;
        }
        let mut gone = Vec::new();
        let changes = world.feed(Resource::Pod, self.seen, usize::MAX);
        self.seen += changes.len();
        for change in changes {
            let uid = json::uid(&change.object);
            if change.removed {
                gone.extend(self.courses.remove(uid));
            } else if let Some(course) = self.courses.get_mut(uid) {
                if json::is_terminating(&change.object) {
                    course.asked_to_stop(change.at);
                }
            } else if change.created
                && let Some(course) = take_on(&change)
            {
                self.courses.insert(uid.to_owned(), course);
            }
        }
        Some(gone)
    }

    /// When the next of them is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.courses.values().filter_map(Course::due).min()
    }

    /// Takes out one that is due, by chance; what is still there afterwards is to be put back.
    pub(crate) fn take_due(&mut self, now: Timestamp, dice: &mut Dice) -> Option<(String, C)> {
        let is_due = |course: &C| course.due().is_some_and(|due| due <= now);
        let due: Vec<&String> = self.courses.iter().filter(|(_, course)| is_due(course)).map(|(uid, _)| uid).collect();
        if due.is_empty() {
            return None;
        }
        let uid = due[dice.random_range(0..due.len())].clone();
        self.looked_at = None;
        self.courses.remove_entry(&uid)
    }

    /// Puts back one that was taken out.
    pub(crate) fn put_back(&mut self, uid: String, course: C) {
        self.courses.insert(uid, course);
    }

    /// All of them.
    pub(crate) fn values(&self) -> impl Iterator<Item = &C> {
        self.courses.values()
    }

    /// All of them, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut C> {
        self.courses.values_mut()
    }
}
